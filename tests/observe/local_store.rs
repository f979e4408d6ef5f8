//! `doctor` and `leases` without flags for the lease store: they read the store of the daemon on this host.

use std::process::{Command, Output, Stdio};

use flannel_udp::lab::{self, Lab};

use crate::doctor_lab::HERE;
use crate::operations::row;
use crate::support::exclusive;
use crate::support::test_lab::TestLab;

/// Runs a command on the host with nothing but the daemon's socket and files given.
fn run(lab: &TestLab, words: &[&str]) -> (Output, String) {
    let host = lab.host(HERE);
    let directory = host.directory().display();
    let mut command = Command::new(env!("CARGO_BIN_EXE_flannel-udp"));
    command.args(words).arg(format!("--socket={directory}/flannel-udp.sock")).stdin(Stdio::null());
    let output =
        host.netns().enter(|| command.output()).and_then(|output| output).expect("it runs");
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output, said)
}

#[test]
fn the_store_of_the_running_daemon() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(2));
    lab.start_etcd(1, lab::CONFIG).expect("etcd");
    lab.join(HERE, &[]);
    let subnet = lab.subnet(HERE).to_string();
    let endpoints = lab.etcd().expect("etcd").endpoints().join(", ");
    let own =
        format!("etcd at {endpoints}, /coreos.com/network, as the daemon on this host uses it");
    let doctor = ["doctor", "--peers=no", "--verbose"];
    let (_, said) = run(&lab, &doctor);
    let settings = format!("  ok       settings: {own}");
    assert!(said.contains(&settings) && said.contains("answers in"), "{said}");
    for list in [&["leases", "list"][..], &["leases", "list", "--json"]] {
        let (output, said) = run(&lab, list);
        assert!(output.status.success() && said.contains(&subnet), "{said}");
        assert!(said.contains(&own), "{said}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains(&own), "{said}");
    }
    // What is given counts more, and without the daemon the defaults do.
    let (output, said) = run(&lab, &["leases", "list", "--etcd-prefix=/other"]);
    assert!(output.status.success() && !said.contains(&subnet), "{said}");
    assert!(said.contains("except for --etcd-prefix"), "{said}");
    lab.stop_daemon(HERE).expect("a stop");
    let (_, said) = run(&lab, &doctor);
    row(
        "flannel-udp doctor",
        "the default: neither --etcd-endpoints nor --registry is given",
        &said,
    );
    let (output, said) = run(&lab, &["leases", "list"]);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("the default: neither --etcd-endpoints nor"), "{said}");
}
