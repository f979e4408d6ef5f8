//! Fifty daemons start at the same time on a network with exactly fifty subnets.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use flannel_udp::cli::Code;
use flannel_udp::lab::{DaemonOptions, Lab, StoreKind};

use crate::support::test_lab::TestLab;
use crate::support::{exclusive, wait_for};

#[test]
fn fifty_at_once_share_fifty_subnets_in_etcd() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(HOSTS + 1));
    lab.start_etcd(2, CONFIG).expect("etcd");
    fifty_and_one_more(lab, StoreKind::Etcd);
}

#[test]
fn fifty_at_once_share_fifty_subnets_in_a_directory() {
    let Some(_exclusive) = exclusive() else { return };
    let lab = TestLab::build(Lab::builder().hosts(HOSTS + 1));
    lab.create_store_directory(CONFIG).expect("the directory");
    fifty_and_one_more(lab, StoreKind::Directory);
}

fn fifty_and_one_more(mut lab: TestLab, store: StoreKind) {
    let options = || DaemonOptions::with_flags(["--workers=1"]).lease_store(store);
    for host in 0..HOSTS {
        lab.spawn_daemon(host, options()).expect("a daemon");
    }
    let mut subnets = BTreeSet::new();
    for host in 0..HOSTS {
        wait_for("a lease", Duration::from_secs(60), || {
            let daemon = lab.host_mut(host).daemon_mut().expect("a daemon");
            let ended = daemon.process().ended();
            assert_eq!(ended, None, "{host} gave up:\n{}", daemon.process().last_lines());
            daemon.subnet().is_ok()
        });
        subnets.insert(lab.subnet(host));
    }
    assert_eq!(subnets.len(), HOSTS, "as many subnets as daemons: {subnets:?}");
    let all: BTreeSet<_> =
        (1..=HOSTS as u8).map(|third| format!("10.0.{third}.0/24").parse().expect("it")).collect();
    assert_eq!(subnets, all);

    lab.spawn_daemon(HOSTS, options()).expect("one more daemon");
    let daemon = lab.host_mut(HOSTS).daemon_mut().expect("a daemon");
    let mut status = None;
    wait_for("the daemon without a subnet to exit", Duration::from_secs(30), || {
        status = daemon.process().ended();
        status.is_some()
    });
    let code = i32::from(Code::NoLease as u8);
    assert_eq!(status.and_then(|status| status.code()), Some(code), "its exit code");
    let log = fs::read_to_string(daemon.log_file()).expect("its log");
    assert!(log.contains("out of subnets"), "{log}");
}

const HOSTS: usize = 50;

const CONFIG: &str = r#"{"Network": "10.0.0.0/16", "SubnetLen": 24, "SubnetMin": "10.0.1.0", "SubnetMax": "10.0.50.0", "Backend": {"Type": "udp"}}"#;
