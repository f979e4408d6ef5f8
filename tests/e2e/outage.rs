//! etcd becomes unreachable during a transfer and returns; no packet is lost.

use std::thread;
use std::time::Duration;

use flannel_udp::lab;
use flannel_udp::sys::netns::Netns;

use crate::support::flow::Background;
use crate::support::peer::{self, PlainPeer};
use crate::support::test_lab::{TestLab, lease_key, lease_value};
use crate::support::{accounting, bulk, exclusive, long, net, wait_for};

#[test]
fn etcd_stopped_and_started_again_costs_no_packet() {
    let Some(_exclusive) = exclusive() else { return };
    outage(
        TestLab::with_etcd(3),
        |lab| lab.etcd().expect("etcd").stop().expect("stopping it"),
        |lab| lab.restart_etcd().expect("starting it again"),
    );
}

#[test]
fn etcd_frozen_costs_no_packet() {
    let Some(_exclusive) = exclusive() else { return };
    outage(
        TestLab::with_etcd(3),
        |lab| lab.etcd().expect("etcd").freeze().expect("freezing it"),
        |lab| lab.etcd().expect("etcd").thaw().expect("thawing it"),
    );
}

#[test]
fn a_lease_put_while_a_daemon_is_cut_off_is_seen_afterwards() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::with_etcd(3);
    // The third host has a daemon and no member of etcd: cutting it off leaves etcd whole.
    lab.join(0, &[]);
    lab.join(2, &[]);
    lab.meet(0, 2);
    let steady = Background::start(lab.endpoint(2), lab.endpoint(0));
    etcd_traffic(lab.host(2).netns(), "-A");
    thread::sleep(Duration::from_secs(2));
    let peer = PlainPeer::register(&mut lab, 1, 2, peer::SUBNET);
    thread::sleep(downtime() - Duration::from_secs(2));
    etcd_traffic(lab.host(2).netns(), "-D");
    reaches(&lab, 2, &peer);
    assert!(steady.finish() > 1000, "a flow that lasted");
    accounting::check_balance(&mut lab);
}

/// Makes etcd unreachable during a transfer and reachable again. No packet is lost, and a lease that is
/// written as soon as etcd answers becomes a route.
fn outage(mut lab: TestLab, go: impl Fn(&mut TestLab), come_back: impl Fn(&mut TestLab)) {
    lab.join(0, &[]);
    lab.join(1, &[]);
    lab.meet(0, 1);
    let steady = Background::start(lab.endpoint(0), lab.endpoint(1));
    let bulk = bulk::Endless::start(lab.endpoint(1), lab.endpoint(0), 6);
    wait_for("the transfer", bulk::STARTS_WITHIN, || bulk.received() > bulk::STARTED);

    go(&mut lab);
    thread::sleep(downtime());
    let (received, sent) = (bulk.received(), steady.sent());
    wait_for("the transfer to go on", bulk::STARTS_WITHIN, || {
        bulk.received() > received + bulk::STARTED
    });
    wait_for("the flow to go on", bulk::STARTS_WITHIN, || steady.sent() > sent + 100);
    come_back(&mut lab);

    let peer = PlainPeer::open(&lab, 2, 0);
    let address = lab.host(2).address();
    lab.put(&lease_key(peer::SUBNET), &lease_value(address)).expect("a third party's lease");
    reaches(&lab, 0, &peer);
    bulk.finish();
    assert!(steady.finish() > 1000, "a flow that lasted");
    lab.meet(0, 1);
    accounting::check_balance(&mut lab);
}

/// Waits until packets from the container of `host` reach `peer`.
fn reaches(lab: &TestLab, host: usize, peer: &PlainPeer) {
    let endpoint = lab.endpoint(host);
    let probe = net::udp(endpoint.netns, endpoint.address);
    peer.set_timeout(Duration::from_millis(50));
    wait_for("the new lease to be seen", SEEN_WITHIN, || {
        let _ = probe.send_to(b"probe", (peer::INSIDE, 9));
        peer.try_receive().is_some()
    });
}

/// Adds or deletes the rules that drop all packets between this host and etcd.
fn etcd_traffic(netns: &Netns, verb: &str) {
    for (chain, side) in [("OUTPUT", "--dport"), ("INPUT", "--sport")] {
        let rule = [verb, chain, "-p", "tcp", side, "2379", "-j", "DROP"];
        netns
            .enter(|| lab::tool::run("iptables", &rule))
            .expect("the namespace")
            .expect("the rule");
    }
}

fn downtime() -> Duration {
    Duration::from_secs(if long() { 30 } else { 8 })
}

/// Time in which a member restarts, a leader is elected and the daemon tries again.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
