//! Stop and start: the same subnet, the same routes.

use std::time::Duration;

use flannel_udp::lab::{self, DaemonOptions, Lab};

use crate::support::world::{World, etcd, lease_key};
use crate::support::{books, gate};

#[test]
fn a_restarted_daemon_has_the_same_subnet_in_etcd() {
    let Some(_turn) = gate::turn() else { return };
    let mut world = World::two_hosts(&[]);
    let before = world.keys(&lease_key("")).expect("the keys");
    assert_eq!(before.len(), 2, "one key a daemon: {before:?}");
    for (number, (_, value)) in before.iter().enumerate() {
        let addresses = [world.host(0), world.host(1)].map(|host| host.address());
        let known = addresses.map(crate::support::world::lease_value);
        assert!(known.contains(value), "key {number} has flannel's value: {value}");
    }
    restart(&mut world, etcd(&[]));
    assert_eq!(world.keys(&lease_key("")).expect("the keys"), before, "keys and values");
}

#[test]
fn a_restarted_daemon_has_the_same_subnet_in_a_directory() {
    let Some(_turn) = gate::turn() else { return };
    let mut world = World::build(Lab::builder());
    world.create_file_registry(lab::CONFIG).expect("the directory");
    world.start_daemons(&DaemonOptions::default()).expect("the daemons");
    for host in 0..2 {
        world.add_container(host).expect("a container");
    }
    world.meet(0, 1);
    restart(&mut world, DaemonOptions::default());
}

#[test]
fn a_killed_daemon_comes_back_with_the_same_subnet() {
    let Some(_turn) = gate::turn() else { return };
    let mut world = World::two_hosts(&[]);
    let (subnet, env) = (world.subnet(0), subnet_env(&world));
    world.host_mut(0).daemon_mut().expect("a daemon").process().kill().expect("its end");
    world.start_daemon(0, etcd(&[])).expect("the daemon again");
    assert_eq!((world.subnet(0), subnet_env(&world)), (subnet, env));
    world.meet(0, 1);
    books::check(&mut world);
}

fn restart(world: &mut World, options: DaemonOptions) {
    let (subnet, env) = (world.subnet(0), subnet_env(world));
    let (address, route) = device(world);
    assert_eq!(address, format!("{}/32", subnet.network()));
    assert!(route.contains("10.0.0.0/16"), "{route}");
    for _ in 0..2 {
        let status = world.stop_daemon(0).expect("a stop");
        assert_eq!(status.code(), Some(0), "a clean end");
        let links = lab::tool::ip_in(world.host(0).netns_name(), "-o link show").expect("links");
        assert!(!links.contains("flannel0"), "flannel0 is gone: {links}");
        assert_eq!(subnet_env(world), env, "the subnet file stays");
        books::settled(world, 0);
        world.start_daemon(0, options.clone()).expect("the daemon again");
        assert_eq!((world.subnet(0), subnet_env(world)), (subnet, env.clone()));
        assert_eq!(device(world), (address.clone(), route.clone()));
        world.meet(0, 1);
    }
    books::check(world);
    std::thread::sleep(Duration::from_millis(10));
}

fn subnet_env(world: &World) -> String {
    let file = world.host(0).daemon().expect("a daemon").subnet_file().to_owned();
    std::fs::read_to_string(file).expect("the subnet file")
}

/// The address of flannel0 and its route.
fn device(world: &World) -> (String, String) {
    let netns = world.host(0).netns_name();
    let shown = lab::tool::ip_in(netns, "-4 -o addr show dev flannel0").expect("flannel0");
    let address = shown.split_whitespace().nth(3).expect("an address").to_owned();
    let route = lab::tool::ip_in(netns, "-4 route show dev flannel0").expect("routes");
    (address, route)
}
