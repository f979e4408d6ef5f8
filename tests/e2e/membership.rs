//! A third host joins and leaves; the first two do not notice.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::Duration;

use flannel_udp::lab;

use crate::support::flow::Background;
use crate::support::world::{World, etcd, lease_key};
use crate::support::{books, bulk, gate, net, wait_for};

#[test]
fn a_third_host_comes_and_goes_beside_a_transfer() {
    let Some(_turn) = gate::turn() else { return };
    let mut world = World::with_etcd(3);
    world.join(0, &[]);
    world.join(1, &[]);
    world.meet(0, 1);
    let steady = Background::start(world.place(0), world.place(1));
    let bulk = bulk::Endless::start(world.place(1), world.place(0), 5);
    wait_for("the transfer", bulk::SOON, || bulk.received() > bulk::SOME);

    let before = keys(&mut world);
    world.spawn_daemon(2, etcd(&[])).expect("the third daemon");
    let mut new = None;
    wait_for("the key of the third host", Duration::from_secs(15), || {
        new = keys(&mut world).into_iter().find(|key| !before.contains(key));
        new.is_some()
    });
    let key = new.expect("a key");
    let third = key.trim_start_matches(&lease_key("")).split('-').next().expect("an address");
    let third: Ipv4Addr = third.parse().expect("the third host's subnet");
    let host = world.host(0);
    lab::ping::ping(host.netns(), third, Duration::from_secs(1)).expect("a ping within a second");
    world.wait_for_daemon(2).expect("readiness");
    world.add_container(2).expect("a container");
    world.meet(0, 2);
    world.meet(1, 2);
    books::check(&mut world);

    assert!(world.stop_daemon(2).expect("a stop").success());
    world.delete(&key).expect("deleting the key");
    wait_for("the end of the route", Duration::from_secs(2), || {
        let tried = net::connect(world.host(0).netns(), (third, 9).into(), SHORT);
        tried.is_err_and(|e| e.kind() == ErrorKind::NetworkUnreachable)
    });

    let received = bulk.received();
    wait_for("the transfer to go on", bulk::SOON, || bulk.received() > received + bulk::SOME);
    assert!(bulk.finish() > bulk::SOME);
    wait_for("a flow that lasted", bulk::SOON, || steady.sent() > 500);
    steady.finish();
    books::check(&mut world);
}

fn keys(world: &mut World) -> Vec<String> {
    let keys = world.keys(&lease_key("")).expect("the keys");
    keys.into_iter().map(|(key, _)| key).collect()
}

const SHORT: Duration = Duration::from_millis(100);
