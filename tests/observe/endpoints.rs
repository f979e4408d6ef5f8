//! Several endpoints of etcd that cannot be used: each has its line and its reason, in the log and in `status`.

use std::time::Duration;

use flannel_udp::lab::{self, Lab};

use crate::operations::{row, start, status};
use crate::support::test_lab::{TestLab, etcd};
use crate::support::{exclusive, wait_for};

#[test]
fn each_endpoint_has_its_reason() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(2));
    lab.start_etcd(1, lab::CONFIG).expect("etcd");
    let good = lab.etcd().expect("etcd").endpoints()[0].clone();
    let [dead, other] = [9, 10].map(|port| format!("http://{}:{port}", lab.host(1).address()));
    let (code, said) = start(&mut lab, 0, &[], &["--etcd-endpoints=etcd.example"]);
    row("journalctl -u flannel-udp", "is not of the form http://host:port", &said);
    assert_eq!(code, Some(64), "{said}");
    // While it starts, and has nothing else to tell.
    let flag = format!("--etcd-endpoints={dead},{other}");
    lab.spawn_daemon(0, etcd(&[&flag])).expect("a daemon");
    each_line(&lab, &[&dead, &other]);
    let early = status(&lab, 0);
    assert!(early.contains("! the lease store cannot be read:\n"), "{early}");
    // Once it runs, and has lost both.
    let flag = format!("--etcd-endpoints={good},{dead}");
    lab.start_daemon(0, etcd(&[&flag])).expect("a daemon");
    wait_for("it is ready", Duration::from_secs(10), || status(&lab, 0).contains("nothing wrong"));
    lab.etcd().expect("etcd").stop().expect("no etcd");
    each_line(&lab, &[&good, &dead]);
    assert!(status(&lab, 0).contains("routes stay unchanged:\n"), "{}", status(&lab, 0));
}

/// Each endpoint has a line of the log, and the same line in `status`.
#[track_caller]
fn each_line(lab: &TestLab, endpoints: &[&str]) {
    for endpoint in endpoints {
        let start = format!("connection refused: {endpoint}: ");
        wait_for(&start, Duration::from_secs(20), || {
            status(lab, 0).lines().any(|line| line.trim_start().starts_with(&start))
        });
        let log = lab.log(0);
        let line = log.lines().find_map(|line| line.split_once(&start)).map(|(_, reason)| reason);
        let reason = line.unwrap_or_else(|| panic!("no {start} in\n{log}"));
        let told = status(lab, 0);
        assert!(told.contains(&format!("{start}{reason}\n")), "{start}{reason}:\n{told}");
    }
}
