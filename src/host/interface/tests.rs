//! Tests of every rule of the choice, on made-up hosts.

use rtnetlink::packet_route::route::RouteType;

use super::*;
use crate::host::netlink::{Address, Link};

/// lo, eth0 with two addresses and the default route, eth1 with a link-local one first, tiny, bare.
fn host() -> HostInterfaces {
    let link = |index, name: &str, mtu, up| Link { index, name: name.into(), mtu, up };
    let address = |index, local: &str, prefix_len| Address {
        index,
        local: local.parse().unwrap(),
        prefix_len,
    };
    HostInterfaces {
        links: vec![
            link(1, "lo", 65536, true),
            link(2, "eth0", 1500, true),
            link(3, "eth1", 9000, true),
            link(4, "tiny", 90, true),
            link(5, "bare", 1500, false),
        ],
        addresses: vec![
            address(1, "127.0.0.1", 8),
            address(2, "192.168.77.11", 24),
            address(2, "192.168.77.99", 24),
            address(3, "169.254.3.3", 16),
            address(3, "10.1.2.3", 8),
            address(4, "172.16.0.1", 24),
        ],
        routes: vec![
            default_route(3, 100, None),
            default_route(2, 10, None),
            KernelRoute { destination: "10.0.0.0/8".parse().unwrap(), ..default_route(3, 0, None) },
            KernelRoute { kind: RouteType::BlackHole, ..default_route(4, 0, None) },
        ],
    }
}

fn default_route(oif: u32, priority: u32, source: Option<Ipv4Addr>) -> KernelRoute {
    KernelRoute {
        destination: crate::route::Cidr::new(Ipv4Addr::UNSPECIFIED, 0),
        oif: Some(oif),
        gateway: None,
        priority,
        source,
        kind: RouteType::Unicast,
    }
}

fn options(iface: &[&str], regex: &[&str]) -> InterfaceOptions {
    InterfaceOptions {
        iface: iface.iter().map(|s| (*s).to_owned()).collect(),
        iface_regex: regex.iter().map(|s| (*s).to_owned()).collect(),
        ..InterfaceOptions::default()
    }
}

fn pick(options: &InterfaceOptions) -> (String, String) {
    let chosen = choose_among(&host(), options, None).unwrap();
    (chosen.name, chosen.address.to_string())
}

fn refusal(options: &InterfaceOptions) -> String {
    choose_among(&host(), options, None).unwrap_err().to_string()
}

#[test]
fn names_addresses_and_patterns() {
    for (iface, regex, name, address) in [
        (&["eth0"][..], &[][..], "eth0", "192.168.77.11"),
        // Global addresses before link-local ones.
        (&["eth1"], &[], "eth1", "10.1.2.3"),
        (&["169.254.3.3"], &[], "eth1", "169.254.3.3"),
        // A secondary address is used if the flag names it.
        (&["192.168.77.99"], &[], "eth0", "192.168.77.99"),
        // In order, the first usable one; after a failure the next is tried.
        (&["nosuch", "lo", "eth1", "eth0"], &[], "eth1", "10.1.2.3"),
        (&["nosuch"], &["^eth0$"], "eth0", "192.168.77.11"),
        (&["eth1"], &["^eth0$"], "eth1", "10.1.2.3"),
        // Addresses first, then names; the pattern is not anchored.
        (&[], &["77\\.99"], "eth0", "192.168.77.99"),
        (&[], &["^10\\."], "eth1", "10.1.2.3"),
        (&[], &["eth"], "eth0", "192.168.77.11"),
        (&[], &["^nosuch", "th1"], "eth1", "10.1.2.3"),
        // No option: the default route with the lowest metric.
        (&[], &[], "eth0", "192.168.77.11"),
    ] {
        let options = options(iface, regex);
        assert_eq!(pick(&options), (name.into(), address.into()), "{options:?}");
    }
}

#[test]
fn public_ip_is_advertised_and_the_bind_address_stays() {
    let advertised = Ipv4Addr::new(203, 0, 113, 9);
    let public_ip = Some(advertised);
    let given = InterfaceOptions { public_ip, ..options(&["eth1"], &[]) };
    let chosen = choose_among(&host(), &given, None).unwrap();
    assert_eq!((chosen.address, chosen.public_ip), (Ipv4Addr::new(10, 1, 2, 3), advertised));
    // --public-ip alone: the interface that has it, or without one (NAT) that of the default route.
    let alone = InterfaceOptions { public_ip, ..InterfaceOptions::default() };
    assert_eq!(pick(&alone).0, "eth0");
    let own = Some(Ipv4Addr::new(10, 1, 2, 3));
    assert_eq!(pick(&InterfaceOptions { public_ip: own, ..alone }).0, "eth1");
}

#[test]
fn can_reach_follows_the_route() {
    let target = Ipv4Addr::new(8, 8, 8, 8);
    let options = InterfaceOptions { can_reach: Some(target), ..InterfaceOptions::default() };
    let source = Some(Ipv4Addr::new(192, 168, 77, 99));
    let route = default_route(2, 0, source);
    let chosen = choose_among(&host(), &options, Some((target, Ok(route)))).unwrap();
    assert_eq!((chosen.name.as_str(), Some(chosen.address)), ("eth0", source));
    assert!(chosen.reason.contains("8.8.8.8"));
}

#[test]
fn an_error_lists_every_flag_and_every_interface() {
    let text = refusal(&options(&["bogus", "lo", "tiny", "1.2.3.4", "fd00::1", "bare"], &["^zz"]));
    for part in [
        "--iface=bogus: no interface of this host has this name",
        "--iface=lo: it has only loopback addresses",
        "--iface=tiny: its MTU of 90 leaves no room",
        "--iface=1.2.3.4: no interface of this host has this address",
        "--iface=fd00::1: hosts are reached over IPv4",
        "--iface=bare: it has no IPv4 address",
        "--iface-regex=^zz: it matches no address and no name",
        "eth0 [192.168.77.11/24 192.168.77.99/24] mtu 1500: usable, but not selected by any of the above",
        "bare [] mtu 1500, down: it has no IPv4 address",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let no_default = HostInterfaces { routes: vec![], ..host() };
    let text =
        choose_among(&no_default, &InterfaceOptions::default(), None).unwrap_err().to_string();
    assert!(text.contains("no IPv4 default route"), "{text}");
    assert!(refusal(&options(&[], &["("])).contains("--iface-regex=("));
}
