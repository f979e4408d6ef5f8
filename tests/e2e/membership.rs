//! A third host joins and leaves without effect on the first two.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::Duration;

use flannel_udp::lab;

use crate::support::flow::Background;
use crate::support::test_lab::{TestLab, etcd, lease_key};
use crate::support::{accounting, bulk, exclusive, net, wait_for};

#[test]
fn a_third_host_comes_and_goes_beside_a_transfer() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::with_etcd(3);
    lab.join(0, &[]);
    lab.join(1, &[]);
    lab.meet(0, 1);
    let steady = Background::start(lab.endpoint(0), lab.endpoint(1));
    let bulk = bulk::Endless::start(lab.endpoint(1), lab.endpoint(0), 5);
    wait_for("the transfer", bulk::STARTS_WITHIN, || bulk.received() > bulk::STARTED);

    let before = keys(&mut lab);
    lab.spawn_daemon(2, etcd(&[])).expect("the third daemon");
    let mut new = None;
    wait_for("the key of the third host", Duration::from_secs(15), || {
        new = keys(&mut lab).into_iter().find(|key| !before.contains(key));
        new.is_some()
    });
    let key = new.expect("a key");
    let third = key.trim_start_matches(&lease_key("")).split('-').next().expect("an address");
    let third: Ipv4Addr = third.parse().expect("the third host's subnet");
    let host = lab.host(0);
    lab::ping::ping(host.netns(), third, Duration::from_secs(1)).expect("a ping within a second");
    lab.wait_for_daemon(2).expect("readiness");
    lab.add_container(2).expect("a container");
    lab.meet(0, 2);
    lab.meet(1, 2);
    accounting::check_balance(&mut lab);

    assert!(lab.stop_daemon(2).expect("a stop").success());
    lab.delete(&key).expect("deleting the key");
    wait_for("the end of the route", Duration::from_secs(2), || {
        let tried = net::connect(lab.host(0).netns(), (third, 9).into(), SHORT);
        tried.is_err_and(|e| e.kind() == ErrorKind::NetworkUnreachable)
    });

    let received = bulk.received();
    wait_for("the transfer to go on", bulk::STARTS_WITHIN, || {
        bulk.received() > received + bulk::STARTED
    });
    assert!(bulk.finish() > bulk::STARTED);
    wait_for("a flow that lasted", bulk::STARTS_WITHIN, || steady.sent() > 500);
    steady.finish();
    accounting::check_balance(&mut lab);
}

fn keys(lab: &mut TestLab) -> Vec<String> {
    let keys = lab.keys(&lease_key("")).expect("the keys");
    keys.into_iter().map(|(key, _)| key).collect()
}

const SHORT: Duration = Duration::from_millis(100);
