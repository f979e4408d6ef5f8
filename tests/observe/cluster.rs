//! `status --all`: a line for each host, and an exit code for all.

use std::process::{Command, Output};
use std::time::Duration;

use flannel_udp::lab::{self, Lab};
use serde_json::Value;

use crate::support::test_lab::{TestLab, etcd};
use crate::support::{exclusive, wait_for};

fn all(lab: &TestLab, targets: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flannel-udp"));
    command.args(["status", "--all"]).args(targets);
    lab.host(0).netns().enter(|| command.output()).and_then(|output| output).expect("it runs")
}

#[test]
fn hosts_by_their_metrics_and_their_sockets() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(2));
    lab.start_etcd(1, lab::CONFIG).expect("etcd");
    lab.join(0, &[]);
    let metrics = format!("{}:9285", lab.host(1).address());
    lab.join(1, &[&format!("--metrics-addr={metrics}")]);
    let socket = lab.host(0).directory().join("flannel-udp.sock").display().to_string();
    wait_for("both hosts", Duration::from_secs(10), || {
        let text = String::from_utf8_lossy(&all(&lab, &[&socket, &metrics]).stdout).into_owned();
        text.contains("2 hosts: 2 ready, 0 not ready, 0 unreachable")
            && text.matches("  1").count() == 2
    });
    assert_eq!(all(&lab, &[&socket, &metrics]).status.code(), Some(0));

    // One that is not ready, one that is no daemon of ours, and one where nobody listens.
    lab.spawn_daemon(0, etcd(&["--etcd-prefix=/wrong"])).expect("a daemon");
    wait_for("a daemon that waits", Duration::from_secs(10), || {
        String::from_utf8_lossy(&all(&lab, &[&socket]).stdout)
            .contains("waiting for the network config")
    });
    let etcd = lab.etcd().expect("etcd").endpoints()[0].replace("http://", "");
    let nobody = format!("{}:9", lab.host(1).address());
    let output = all(&lab, &[&socket, &metrics, &etcd, &nobody]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in [
        format!("{socket}  NO"),
        metrics.clone(),
        nobody.clone(),
        "4 hosts: 1 ready, 1 not ready, 2 unreachable".into(),
    ] {
        assert!(text.contains(&line), "{line}:\n{text}");
    }
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(text.contains("Connection refused"), "{text}");
    let output = all(&lab, &[&nobody, &metrics, "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["hosts"][1]["ready"], true, "{json:#}");
    assert!(
        json["hosts"][0]["error"].as_str().is_some_and(|why| why.contains("refused")),
        "{json:#}"
    );
    let output = all(&lab, &["10.0.0.2"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(64) && said.contains("such as 10.0.0.2:9285"), "{said}");
}
