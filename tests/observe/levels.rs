//! What the level `debug` shows: each decision of control, and nothing of the libraries.

use std::time::Duration;

use crate::support::test_lab::TestLab;
use crate::support::{exclusive, wait_for};

#[test]
fn decisions_leave_their_debug_line() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::with_etcd(2);
    lab.join(0, &["--log-level=debug", "--iptables-resync=1"]);
    let said = |lab: &TestLab, parts: &[&str]| {
        let log = lab.log(0);
        let is_debug = |line: &&str| line.contains(" DEBUG ");
        let has = |part: &&str| log.lines().filter(is_debug).any(|line| line.contains(part));
        parts.iter().all(has)
    };
    let waits = |lab: &TestLab, parts: &[&str]| {
        wait_for(&format!("{parts:?}"), Duration::from_secs(10), || said(lab, parts));
    };
    waits(
        &lab,
        &[
            "will send requests to this endpoint",
            "looking for a subnet for ",
            "listed the leases; watching for changes",
            "kernel feature in use feature=\"gro\"",
            "packets are steered",
            "updating the firewall rules",
            "set route 10.0.0.0/16 on flannel0",
        ],
    );
    // The lease of another host.
    lab.join(1, &[]);
    wait_for("a route", Duration::from_secs(10), || lab.log(0).contains("Subnet added: "));
    // Repairs.
    let count = |lab: &TestLab| lab.log(0).matches("set route 10.0.0.0/16 on flannel0").count();
    let before = count(&lab);
    let netns = lab.host(0).netns();
    TestLab::run(netns, "ip", &["route", "del", "10.0.0.0/16"]);
    wait_for("the route", Duration::from_secs(10), || count(&lab) > before);
    let rules = |lab: &TestLab| lab.log(0).matches("updating the firewall rules").count();
    let before = rules(&lab);
    TestLab::run(netns, "iptables", &["-F", "FLANNEL-FWD"]);
    wait_for("the rules", Duration::from_secs(10), || rules(&lab) > before);
    // Retries, with the wait before the next one and the reason.
    lab.etcd().expect("etcd").stop().expect("no etcd");
    waits(&lab, &["cannot start the watch; trying again"]);
    let log = lab.log(0);
    let retry = log.lines().find(|line| line.contains("the watch ended")).expect("a line");
    assert!(retry.contains("delay=") && retry.contains("error="), "{retry}");
    // What finds nothing wrong is for `trace`, what libraries say for a filter that names them.
    for other in ["checking links", "checking the entry", "running iptables", "frame="] {
        assert!(!log.contains(other), "{other}");
    }
    lab.stop_daemon(0).expect("a stop");
}
