//! Changes to flannel0 and to the interface between hosts while containers communicate.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use flannel_udp::lab::{self, DaemonOptions, Lab, ping};

use crate::support::test_lab::TestLab;
use crate::support::{exclusive, net, program, wait_for};

/// Time limit from a change to the next reply between containers.
const RECOVERY_LIMIT: Duration = Duration::from_secs(1);

/// Time limit for a reply where no outage is measured.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

#[test]
fn flannel0_comes_back_whatever_is_done_to_it() {
    let Some(_exclusive) = exclusive() else { return };
    let lab = TestLab::two_hosts(&[]);
    let host = lab.host(0).netns_name().to_owned();
    for damage in [
        "link del flannel0",
        "link set flannel0 down",
        "route del 10.0.0.0/16",
        "addr flush dev flannel0",
        "link set flannel0 mtu 600",
        "link del flannel0",
    ] {
        lab::tool::ip_in(&host, damage).expect(damage);
        let before = Instant::now();
        answers(&lab, damage, RECOVERY_LIMIT);
        assert!(before.elapsed() < RECOVERY_LIMIT, "{damage}: {:?}", before.elapsed());
        wait_for(damage, RECOVERY_LIMIT, || {
            let shown = |line| lab::tool::ip_in(&host, line).unwrap_or_default();
            shown("-o link show flannel0").contains("mtu 1472")
                && shown("-4 -o addr show flannel0").contains(&lab.subnet(0).network().to_string())
                && shown("route show 10.0.0.0/16").contains("dev flannel0")
        });
    }
    // The daemon on the other host logs no error.
    assert!(!lab.log(1).contains("ERROR"), "{}", lab.log(1));
}

#[test]
fn a_route_in_the_way_is_named() {
    let Some(_exclusive) = exclusive() else { return };
    let lab = TestLab::two_hosts(&[]);
    let host = lab.host(0).netns_name();
    let thief = format!("{} dev eth0", lab.subnet(1));
    lab::tool::ip_in(host, &format!("route add {thief}")).expect("a route");
    wait_for("a log line about it", Duration::from_secs(2), || lab.log(0).contains(&thief));
    let lines = lab.log(0).lines().filter(|line| line.contains("diverts traffic")).count();
    assert_eq!(lines, 1, "once: {}", lab.log(0));
    lab::tool::ip_in(host, &format!("route del {thief}")).expect("no route");
    wait_for("its end", Duration::from_secs(2), || lab.log(0).contains("no longer: route"));
    answers(&lab, "afterwards", REPLY_TIMEOUT);
}

#[test]
fn the_underlays_mtu_and_address_are_followed() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&["--iface=eth0"]);
    let before = lab.subnet(0);
    let hosts = [0, 1].map(|host| lab.host(host).netns_name().to_owned());
    for host in &hosts {
        lab::tool::ip_in(host, "link set eth0 mtu 1400").expect("another MTU");
    }
    for (number, host) in hosts.iter().enumerate() {
        wait_for("MTU 1372", Duration::from_secs(3), || {
            lab::tool::ip_in(host, "-o link show flannel0")
                .is_ok_and(|shown| shown.contains("mtu 1372"))
                && lab.host(number).daemon().unwrap().subnet().is_ok_and(|env| env.mtu == 1372)
        });
    }
    answers(&lab, "with the smaller MTU", REPLY_TIMEOUT);

    // etcd keeps its address, now on the loopback interface, to which a daemon does not bind.
    lab::tool::ip_in(&hosts[1], "addr add 10.211.55.11/32 dev lo").expect("etcd's address");
    lab::tool::ip_in(&hosts[1], "addr del 10.211.55.11/24 dev eth0").expect("no old address");
    lab::tool::ip_in(&hosts[1], "addr add 10.211.55.77/24 dev eth0").expect("another address");
    wait_for("the new address at the peer", Duration::from_secs(10), || {
        lab.log(0).contains("via 10.211.55.77")
    });
    answers(&lab, "from the new address", REPLY_TIMEOUT);
    assert_eq!(lab.subnet(0), before);
    let status = lab.stop_daemon(1).expect("a stop");
    assert!(status.success(), "{status}");
}

#[test]
fn an_address_that_cannot_be_followed_at_once_is_followed_later() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder());
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    for host in 0..2 {
        let options = DaemonOptions::with_flags(["--iface=eth0"]);
        lab.start_daemon(host, options).expect("a daemon");
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    let host = lab.host(1).netns_name().to_owned();
    let new = Ipv4Addr::new(10, 211, 55, 77);
    // The second address of a network stays when the first one goes.
    lab.host(1).sysctl("net/ipv4/conf/all/promote_secondaries", "1").expect("a setting");
    lab::tool::ip_in(&host, &format!("addr add {new}/24 dev eth0")).expect("another address");
    // Another process uses the port at that address.
    let rival = net::udp_at(lab.host(1).netns(), SocketAddrV4::new(new, 8285));
    lab::tool::ip_in(&host, "link set eth0 mtu 1400").expect("another MTU");
    lab::tool::ip_in(&host, "addr del 10.211.55.11/24 dev eth0").expect("no old address");
    wait_for("the failure", Duration::from_secs(10), || lab.log(1).contains("retrying"));
    let env = |lab: &TestLab| lab.host(1).daemon().unwrap().subnet().expect("its subnet file");
    assert!(!lab.log(0).contains(&new.to_string()), "not published before it is in use");
    drop(rival);
    wait_for("the new address at the peer", Duration::from_secs(5), || {
        lab.log(0).contains(&format!("via {new}"))
    });
    wait_for("MTU 1372", Duration::from_secs(2), || env(&lab).mtu == 1372);
    answers(&lab, "from the new address", REPLY_TIMEOUT);
    lab.stop_daemon(1).expect("a stop");
}

#[test]
fn the_underlay_address_that_a_flag_names_is_waited_for() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder());
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    for (host, flag) in [(0, "--iface=eth0"), (1, "--iface=10.211.55.11")] {
        lab.start_daemon(host, DaemonOptions::with_flags([flag])).expect("a daemon");
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    let hosts = [0, 1].map(|host| lab.host(host).netns_name().to_owned());
    let change = |host: usize, line: &str| {
        lab::tool::ip_in(&hosts[host], line).unwrap_or_else(|error| panic!("{line}: {error}"));
    };
    let status = |host: usize| {
        let socket = lab.host(host).daemon().expect("a daemon").socket().display().to_string();
        let words = ["status", "--interval=0", "--socket", &socket];
        TestLab::run(lab.host(host).netns(), &program().display().to_string(), &words)
    };
    // Another network, and the address of a host without DHCP: neither takes the place of the one asked for.
    change(1, "addr add 10.77.0.11/24 dev eth0");
    change(1, "addr add 169.254.9.9/16 dev eth0");
    change(1, "addr del 10.211.55.11/24 dev eth0");
    wait_for("a warning", Duration::from_secs(3), || {
        let said = status(1);
        said.contains("eth0 has lost the underlay address 10.211.55.11")
            && said.contains("not ready")
    });
    // Longer than any other address takes to become the underlay address.
    std::thread::sleep(Duration::from_millis(6500));
    assert!(!lab.log(0).contains("via 10.77") && !lab.log(0).contains("via 169"), "{}", lab.log(0));
    change(1, "addr add 10.211.55.11/24 dev eth0");
    answers(&lab, "with the address back", REPLY_TIMEOUT);
    wait_for("no warning", Duration::from_secs(3), || status(1).contains("ready, nothing wrong"));
    let started = lab.log(1).matches("forwarding packets on").count();
    assert_eq!(started, 1, "the data plane goes on: {}", lab.log(1));

    // The card becomes a port of a bridge, which gets the address.
    for line in [
        "link add br0 type bridge",
        "link set br0 up",
        "link set eth0 master br0",
        "addr flush dev eth0",
        "addr add 10.211.55.10/24 dev br0",
    ] {
        change(0, line);
    }
    wait_for("the bridge", Duration::from_secs(3), || {
        let said = status(0);
        said.contains("br0") && said.contains("ready, nothing wrong")
    });
    answers(&lab, "over the bridge", REPLY_TIMEOUT);
}

#[test]
fn an_address_that_changes_before_there_is_a_config_is_not_leased() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder());
    std::fs::create_dir_all(lab.store_directory()).expect("a directory without a config");
    lab.spawn_daemon(0, DaemonOptions::with_flags(["--iface=eth0"])).expect("a daemon");
    wait_for("a first attempt", Duration::from_secs(5), || {
        lab.log(0).contains("Couldn't fetch network config")
    });
    let host = lab.host(0).netns_name().to_owned();
    lab::tool::ip_in(&host, "addr add 10.211.55.77/24 dev eth0").expect("another address");
    lab::tool::ip_in(&host, "addr flush to 10.211.55.10 dev eth0").expect("no old address");
    lab::tool::ip_in(&host, "addr replace 10.211.55.77/24 dev eth0").expect("only that");
    lab.create_store_directory(lab::CONFIG).expect("a config");
    lab.wait_for_daemon(0).expect("a daemon that forwards");
    let log = lab.log(0);
    assert!(log.contains("to current node (10.211.55.77)"), "{log}");
    assert!(log.contains("forwarding packets on UDP 10.211.55.77:8285"), "{log}");
}

#[test]
fn masquerade_in_nftables_reaches_the_outside() {
    let Some(_exclusive) = exclusive() else { return };
    let config = lab::CONFIG.replace("{\"Network\"", "{\"EnableNFTables\": true, \"Network\"");
    let mut lab = TestLab::build(Lab::builder().hosts(3));
    lab.start_etcd(2, &config).expect("etcd");
    for host in 0..2 {
        lab.join(host, &["--ip-masq=true"]);
    }
    lab.meet(0, 1);
    // The outside has no route to containers, so only a masqueraded packet is answered.
    let (container, outside) = (lab.host(0).container(), lab.host(2).address());
    ping::ping(container.netns(), outside, Duration::from_secs(3)).expect("an answer from outside");
    // From a host into the overlay, with the address of its flannel0.
    let there = lab.host(1).container().address();
    ping::ping(lab.host(0).netns(), there, Duration::from_secs(3)).expect("a container's answer");
    let rules = TestLab::run(lab.host(0).netns(), "nft", &["list", "table", "ip", "flannel-ipv4"]);
    assert!(rules.contains("masquerade"), "{rules}");
}

#[track_caller]
fn answers(lab: &TestLab, when: &str, limit: Duration) {
    let (here, there) = (lab.host(0).container(), lab.host(1).container());
    if let Err(error) = ping::between(here, there, limit) {
        panic!("{when}: {error}\n{}", lab.log(0));
    }
}
