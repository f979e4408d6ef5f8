//! The network between hosts stays outside of the overlay: what the daemon sends never comes back to
//! it, and the overlay's route hides nothing that the host depends on.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use flannel_udp::lab::{self, Lab};

use crate::doctor_lab::{ALONE, HERE, PEER, examine, ip};
use crate::operations::{ask, row, status, status_row};
use crate::support::test_lab::{TestLab, etcd, lease_key, lease_value};
use crate::support::{exclusive, wait_for};

/// Packets that the kernel has sent into flannel0 of the host.
fn sent_into_overlay(lab: &TestLab) -> u64 {
    let path = "/sys/class/net/flannel0/statistics/tx_packets";
    let shown =
        TestLab::run(lab.host(HERE).netns(), "ip", &["-s", "-j", "link", "show", "flannel0"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect(path);
    shown[0]["stats64"]["tx"]["packets"].as_u64().expect(path)
}

fn lease(lab: &mut TestLab, subnet: &str, next_hop: &str) {
    let address: Ipv4Addr = next_hop.parse().expect("an address");
    lab.put(&lease_key(subnet), &lease_value(address)).expect("a lease");
}

#[test]
fn what_the_daemon_sends_never_comes_back_to_it() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(3));
    lab.start_etcd(1, lab::CONFIG).expect("etcd");
    lab.join(PEER, &[]);
    lab.join(HERE, &[]);
    lab.meet(HERE, PEER);
    assert!(status(&lab, HERE).contains("ready, nothing wrong"), "{}", status(&lab, HERE));

    // A next hop in its own subnet, and two that lead into each other's.
    lease(&mut lab, "10.0.60.0-24", "10.0.60.5");
    lease(&mut lab, "10.0.61.0-24", "10.0.62.5");
    lease(&mut lab, "10.0.62.0-24", "10.0.61.5");
    let own = lab.host(HERE).address().to_string();
    let before = sent_into_overlay(&lab);
    for container in ["10.0.60.1", "10.0.61.1", "10.0.62.1"] {
        TestLab::run(lab.host(HERE).netns(), "ping", &["-c1", "-W1", container]);
    }
    let packets = sent_into_overlay(&lab) - before;
    assert!(packets <= 12, "{packets} packets after three pings");

    for subnet in ["10.0.60.0/24", "10.0.61.0/24", "10.0.62.0/24"] {
        status_row(&lab, HERE, "where they would loop forever");
        let named = format!("the lease of {subnet} is withheld");
        assert!(status(&lab, HERE).contains(&named), "{}", status(&lab, HERE));
        assert!(lab.log(HERE).contains(&named), "{}", lab.log(HERE));
    }
    let explained = ask(&lab, HERE, &["explain", &own, "10.0.60.1"]);
    row("flannel-udp explain SRC DST", "where they would loop forever", &explained);
    assert!(explained.contains("dropped: the lease of 10.0.60.0/24 is withheld"), "{explained}");
    assert!(ask(&lab, HERE, &["peers"]).contains("the lease of 10.0.60.0/24 is withheld"));
    let found = examine(&mut lab, ALONE);
    row("flannel-udp doctor", "where they would loop forever", &found.text);
    assert!(found.has("warning", "withheld-lease", "10.0.60.0/24"), "{}", found.text);
    // The others work.
    lab.meet(HERE, PEER);

    // With a way of its own to the next hop the lease comes back, and goes again with it.
    let added = |lab: &TestLab, subnet: &str| {
        lab.log(HERE).matches(&format!("Subnet added: {subnet}")).count()
    };
    ip(&lab, HERE, "route add 10.0.60.5 dev eth0");
    wait_for("a route of its own", Duration::from_secs(5), || added(&lab, "10.0.60.0/24") == 1);
    ip(&lab, HERE, "route del 10.0.60.5 dev eth0");
    let withheld = "Subnet withheld: 10.0.60.0/24 via 10.0.60.5";
    wait_for(withheld, Duration::from_secs(5), || lab.log(HERE).contains(withheld));
    ip(&lab, HERE, "route add default dev eth0 table 7");
    ip(&lab, HERE, "rule add to 10.0.61.5 lookup 7");
    wait_for("a rule of its own", Duration::from_secs(5), || added(&lab, "10.0.62.0/24") == 1);
    ip(&lab, HERE, "rule del to 10.0.61.5 lookup 7");

    for subnet in ["10.0.60.0-24", "10.0.61.0-24", "10.0.62.0-24"] {
        lab.delete(&lease_key(subnet)).expect("a deletion");
    }
    wait_for("the end of the warnings", Duration::from_secs(5), || {
        status(&lab, HERE).contains("ready, nothing wrong")
    });
    assert!(lab.log(HERE).contains("no longer: the lease of 10.0.60.0/24 is withheld"));
    own_address(&mut lab);
}

/// A host that would be announced with the address of its container bridge waits, and says why.
fn own_address(lab: &mut TestLab) {
    let bridge = Ipv4Addr::from_bits(lab.subnet(HERE).network().to_bits() + 1);
    lab.stop_daemon(HERE).expect("a stop");
    let flag = format!("--public-ip={bridge}");
    lab.spawn_daemon(HERE, etcd(&[&flag])).expect("a daemon");
    status_row(lab, HERE, "lies in the subnet");
    let said = status(lab, HERE);
    assert!(said.contains(&format!("! not ready: the address {bridge} of this host")), "{said}");
}

#[test]
fn a_host_inside_of_the_overlay_network_works_with_a_route_of_its_own() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(3));
    // The lab's hosts are in 10.211.55.0/24.
    let config = r#"{"Network":"10.0.0.0/8","SubnetMin":"10.0.1.0","SubnetMax":"10.0.20.0"}"#;
    lab.start_etcd(1, config).expect("etcd");
    lab.join(PEER, &[]);
    lab.join(HERE, &[]);
    lab.meet(HERE, PEER);
    assert!(status(&lab, HERE).contains("ready, nothing wrong"), "{}", status(&lab, HERE));
    let found = examine(&mut lab, ALONE);
    assert!(!found.has("fault", "route", ""), "{}", found.text);

    // Without that route the overlay's would hide the peer and the lease store.
    ip(&lab, HERE, "route del 10.211.55.0/24 dev eth0");
    wait_for("the route's end", Duration::from_secs(5), || overlay_route(&lab).is_empty());
    ip(&lab, HERE, "route add 10.211.55.0/24 dev eth0");
    wait_for("the route", Duration::from_secs(10), || !overlay_route(&lab).is_empty());
    lab.meet(HERE, PEER);
}

/// The routes through flannel0.
fn overlay_route(lab: &TestLab) -> String {
    TestLab::run(lab.host(HERE).netns(), "ip", &["route", "show", "dev", "flannel0"])
}

#[test]
fn the_overlays_route_hides_nothing_that_the_host_depends_on() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(3));
    let key = format!("{}/config", lab::ETCD_PREFIX);
    lab.start_etcd(1, r#"{"Network":"10.211.55.0/25","SubnetLen":27}"#).expect("etcd");
    lab.spawn_daemon(HERE, etcd(&[])).expect("a daemon");
    for (config, network) in [
        (r#"{"Network":"10.211.55.0/25","SubnetLen":27}"#, "10.211.55.0/25"),
        (r#"{"Network":"10.211.55.0/24","SubnetLen":27}"#, "10.211.55.0/24"),
    ] {
        lab.put(&key, config).expect("a config");
        let meaning = "would hide the network 10.211.55.0/24 of eth0";
        status_row(&lab, HERE, meaning);
        let named = format!("{network} {meaning}");
        wait_for(&named, Duration::from_secs(5), || status(&lab, HERE).contains(&named));
        assert!(status(&lab, HERE).contains("! not ready: the overlay's route"));
        let found = examine(&mut lab, ALONE);
        row("flannel-udp doctor", meaning, &found.text);
        assert!(!found.text.contains("ip route del"), "{}", found.text);
        assert!(!lab.log(HERE).contains("ip route del"), "{}", lab.log(HERE));
    }
    let store: SocketAddr = (lab.host(0).address(), 2379).into();
    let reachable = || {
        let connected = || TcpStream::connect_timeout(&store, Duration::from_secs(2));
        lab.host(HERE).netns().enter(connected).is_ok_and(|stream| stream.is_ok())
    };
    assert!(reachable(), "etcd");
    assert!(!overlay_route(&lab).contains("10.211"), "{}", overlay_route(&lab));

    // Another Network is all that it takes.
    lab.put(&key, lab::CONFIG).expect("a config");
    lab.wait_for_daemon(HERE).expect("a daemon");
    lab.add_container(HERE).expect("a container");
    lab.join(PEER, &[]);
    lab.meet(HERE, PEER);

    // The same while it runs.
    ip(&lab, HERE, "addr add 10.0.255.9/8 dev eth0");
    wait_for("the collision", Duration::from_secs(5), || {
        status(&lab, HERE).contains("would hide the network 10.0.0.0/8 of eth0")
    });
    assert_eq!(overlay_route(&lab), "");
    ip(&lab, HERE, "addr del 10.0.255.9/8 dev eth0");
    wait_for("the route", Duration::from_secs(10), || !overlay_route(&lab).is_empty());
    lab.meet(HERE, PEER);
    assert!(status(&lab, HERE).contains("ready, nothing wrong"), "{}", status(&lab, HERE));
}
