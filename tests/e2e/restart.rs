//! Stop and start: the same subnet, the same routes.

use std::time::Duration;

use flannel_udp::lab::{self, DaemonOptions, Lab};

use crate::support::test_lab::{TestLab, etcd, lease_key};
use crate::support::{accounting, exclusive};

#[test]
fn a_restarted_daemon_has_the_same_subnet_in_etcd() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&[]);
    let before = lab.keys(&lease_key("")).expect("the keys");
    assert_eq!(before.len(), 2, "one key a daemon: {before:?}");
    for (number, (_, value)) in before.iter().enumerate() {
        let addresses = [lab.host(0), lab.host(1)].map(|host| host.address());
        let known = addresses.map(crate::support::test_lab::lease_value);
        assert!(known.contains(value), "key {number} has flannel's value: {value}");
    }
    restart(&mut lab, etcd(&[]));
    assert_eq!(lab.keys(&lease_key("")).expect("the keys"), before, "keys and values");
}

#[test]
fn a_restarted_daemon_has_the_same_subnet_in_a_directory() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder());
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    lab.start_daemons(&DaemonOptions::default()).expect("the daemons");
    for host in 0..2 {
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    restart(&mut lab, DaemonOptions::default());
}

#[test]
fn a_killed_daemon_comes_back_with_the_same_subnet() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&[]);
    let (subnet, env) = (lab.subnet(0), subnet_env(&lab));
    lab.host_mut(0).daemon_mut().expect("a daemon").process().kill().expect("its end");
    lab.start_daemon(0, etcd(&[])).expect("the daemon again");
    assert_eq!((lab.subnet(0), subnet_env(&lab)), (subnet, env));
    lab.meet(0, 1);
    accounting::check_balance(&mut lab);
}

fn restart(lab: &mut TestLab, options: DaemonOptions) {
    let (subnet, env) = (lab.subnet(0), subnet_env(lab));
    let (address, route) = device(lab);
    assert_eq!(address, format!("{}/32", subnet.network()));
    assert!(route.contains("10.0.0.0/16"), "{route}");
    for _ in 0..2 {
        let status = lab.stop_daemon(0).expect("a stop");
        assert_eq!(status.code(), Some(0), "a clean end");
        let links = lab::tool::ip_in(lab.host(0).netns_name(), "-o link show").expect("links");
        assert!(!links.contains("flannel0"), "flannel0 is gone: {links}");
        assert_eq!(subnet_env(lab), env, "the subnet file stays");
        accounting::balanced(lab, 0);
        lab.start_daemon(0, options.clone()).expect("the daemon again");
        assert_eq!((lab.subnet(0), subnet_env(lab)), (subnet, env.clone()));
        assert_eq!(device(lab), (address.clone(), route.clone()));
        lab.meet(0, 1);
    }
    accounting::check_balance(lab);
    std::thread::sleep(Duration::from_millis(10));
}

fn subnet_env(lab: &TestLab) -> String {
    let file = lab.host(0).daemon().expect("a daemon").subnet_file().to_owned();
    std::fs::read_to_string(file).expect("the subnet file")
}

/// The address of flannel0 and its route.
fn device(lab: &TestLab) -> (String, String) {
    let netns = lab.host(0).netns_name();
    let shown = lab::tool::ip_in(netns, "-4 -o addr show dev flannel0").expect("flannel0");
    let address = shown.split_whitespace().nth(3).expect("an address").to_owned();
    let route = lab::tool::ip_in(netns, "-4 route show dev flannel0").expect("routes");
    (address, route)
}
