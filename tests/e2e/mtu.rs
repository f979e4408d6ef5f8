//! Path MTU discovery through the tunnel: links that change their MTU under traffic, and peers of
//! different MTU.

use std::time::Duration;

use flannel_udp::lab::{self, Lab};

use crate::support::bulk::{self, Endless, STARTED, STARTS_WITHIN};
use crate::support::test_lab::{TestLab, etcd};
use crate::support::{accounting, exclusive, wait_for};

#[test]
fn a_transfer_outlives_every_change_of_mtu_at_either_end() {
    let Some(_exclusive) = exclusive() else { return };
    // From the MTU at which the containers were made to smaller ones and back.
    for (greater, smaller) in [(1_500, 1_400), (9_000, 1_500)] {
        let mut lab = TestLab::build(Lab::builder().mtu(greater));
        lab.start_etcd(2, lab::CONFIG).expect("etcd");
        for host in 0..2 {
            lab.join(host, &[]);
        }
        lab.meet(0, 1);
        let index = |lab: &TestLab, host| shown(lab, host).split(':').next().map(str::to_owned);
        let before = [0, 1].map(|host| index(&lab, host));
        let flows = [(0, 1), (1, 0)]
            .map(|(from, to)| Endless::start(lab.endpoint(from), lab.endpoint(to), from as u64));
        for (host, mtu) in [(1, smaller), (1, greater), (0, smaller), (1, smaller), (0, greater)] {
            set_mtu(&lab, host, mtu);
            let overlay = format!("mtu {}", mtu - 28);
            wait_for(&overlay, Duration::from_secs(3), || shown(&lab, host).contains(&overlay));
            for (direction, flow) in flows.iter().enumerate() {
                let moved = flow.received() + STARTED;
                let what = format!("flow {direction}, eth0 of host {host} at {mtu}");
                wait_for(&what, STARTS_WITHIN, || flow.received() > moved);
            }
        }
        for flow in flows {
            flow.finish();
        }
        assert_eq!([0, 1].map(|host| index(&lab, host)), before, "the same device");
        accounting::check_balance(&mut lab);
    }
}

/// A path whose MTU the sending host knows: the datagrams come in fragments, so the packets come whole.
#[test]
fn a_peer_of_greater_mtu_learns_the_smaller_one() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().mtu(9_000));
    lab.start_etcd(1, lab::CONFIG).expect("etcd");
    set_mtu(&lab, 1, 1_500);
    for host in 0..2 {
        lab.start_daemon(host, etcd(&[])).expect("a daemon");
    }
    // The container takes what its host does not.
    lab.add_container(0).expect("a container");
    lab.add_container(1).expect("a container");
    let way = format!("route add {} dev eth0 mtu 1500", lab.host(1).address());
    lab::tool::ip_in(lab.host(0).netns_name(), &way).expect("a path MTU");
    wait_for("the daemon to go by it", Duration::from_secs(5), || {
        lab.log(0).contains("path MTU discovery between hosts is on")
    });
    lab.meet(0, 1);
    let (here, there) = (lab.endpoint(0), lab.endpoint(1));
    let ping = |flags: &[&str]| {
        let to = there.address.to_string();
        TestLab::run(here.netns, "ping", &[flags, &["-c3", "-i0.2", "-W2", &to]].concat())
    };
    let flannel0 = lab.subnet(1).network();
    let said = ping(&["-Mdo", "-s4000"]);
    assert!(said.contains("mtu = 1472") || said.contains("mtu=1472"), "{said}");
    // To an address of the host itself a whole packet of any length is delivered.
    let said = TestLab::run(
        here.netns,
        "ping",
        &["-Mdont", "-s4000", "-c1", "-W2", &flannel0.to_string()],
    );
    assert!(said.contains(" 1 received"), "{said}");
    let said = ping(&["-Mdont", "-s4000"]);
    assert!(said.contains(" 3 received"), "{said}");
    for (from, to) in [(here, there), (there, here)] {
        bulk::transfer(from, to, 4 * STARTED, 1);
    }
    accounting::check_balance(&mut lab);
}

fn set_mtu(lab: &TestLab, host: usize, mtu: u32) {
    let command = format!("link set eth0 mtu {mtu}");
    lab::tool::ip_in(lab.host(host).netns_name(), &command).expect("an MTU");
}

/// The device as `ip link` shows it.
fn shown(lab: &TestLab, host: usize) -> String {
    lab::tool::ip_in(lab.host(host).netns_name(), "-o link show flannel0").expect("flannel0")
}
