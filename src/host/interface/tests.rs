//! Tests of every rule of the choice, on made-up hosts.

use rtnetlink::packet_route::route::RouteType;

use super::*;
use crate::host::netlink::{Address, Link};

/// lo, eth0 with two addresses and the default route, eth1 with a link-local one first, tiny, bare.
fn host() -> HostInterfaces {
    let link =
        |index, name: &str, mtu, up| Link { index, name: name.into(), mtu, up, ..Link::default() };
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
        mtu: None,
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

/// What [`follow_among`] finds after a change of the host that `current` was chosen on, as text.
fn followed(options: &InterfaceOptions, change: impl FnOnce(&mut HostInterfaces)) -> String {
    let current = choose_among(&host(), options, None).unwrap();
    let mut host = host();
    change(&mut host);
    match follow_among(&host, options, &current, None) {
        Followed::There(now) => format!("there: {} {} mtu {}", now.name, now.address, now.mtu),
        Followed::Elsewhere(other) => format!("elsewhere: {} {}", other.name, other.address),
        Followed::Nowhere(why) => format!("nowhere: {why}"),
    }
}

fn remove(host: &mut HostInterfaces, address: &str) {
    host.addresses.retain(|a| a.local != address.parse::<Ipv4Addr>().unwrap());
}

/// eth0 becomes a port of br0, which gets the addresses.
fn bridge(host: &mut HostInterfaces) {
    host.links[1].controller = Some(9);
    let br0 = Link { index: 9, name: "br0".into(), mtu: 1450, ..Link::default() };
    host.links.push(br0);
    for address in host.addresses.iter_mut().filter(|a| a.index == 2) {
        address.index = 9;
    }
    host.routes[1].oif = Some(9);
}

#[test]
fn a_lost_address_is_looked_for_with_the_same_flags() {
    let by_address = options(&["192.168.77.11"], &[]);
    let by_name = options(&["eth0", "eth1"], &[]);
    let by_regex = options(&[], &["^192\\.168\\.77\\.", "eth1"]);
    let by_public_ip = InterfaceOptions {
        public_ip: Some(Ipv4Addr::new(192, 168, 77, 11)),
        ..InterfaceOptions::default()
    };
    let by_default = InterfaceOptions::default();
    let all = [&by_address, &by_name, &by_regex, &by_public_ip, &by_default];
    type Change = fn(&mut HostInterfaces);
    let table: &[(&str, Change, [&str; 5])] = &[
        ("nothing", |_| {}, ["there: eth0 192.168.77.11 mtu 1500"; 5]),
        (
            "another default route and another MTU",
            |host| {
                host.routes[1].priority = 1000;
                host.links[1].mtu = 1400;
            },
            ["there: eth0 192.168.77.11 mtu 1400"; 5],
        ),
        (
            "another name",
            |host| host.links[1].name = "lan0".into(),
            ["there: lan0 192.168.77.11 mtu 1500"; 5],
        ),
        (
            "the address is gone",
            |host| remove(host, "192.168.77.11"),
            [
                "nowhere: --iface=192.168.77.11: no interface of this host has this address",
                "elsewhere: eth0 192.168.77.99",
                "elsewhere: eth0 192.168.77.99",
                "nowhere: --public-ip=192.168.77.11: no interface of this host has this address",
                "elsewhere: eth0 192.168.77.99",
            ],
        ),
        (
            "a link-local address is left",
            |host| {
                remove(host, "192.168.77.11");
                remove(host, "192.168.77.99");
                remove(host, "10.1.2.3");
                host.addresses.push(Address { index: 2, ..host.addresses[1] });
            },
            [
                "nowhere: --iface=192.168.77.11: no interface of this host has this address",
                "nowhere: eth0 has only the link-local address 169.254.3.3",
                "nowhere: eth1 has only the link-local address 169.254.3.3",
                "nowhere: --public-ip=192.168.77.11: no interface of this host has this address",
                "nowhere: eth0 has only the link-local address 169.254.3.3",
            ],
        ),
        (
            "the interface is gone",
            |host| {
                host.links.retain(|link| link.name != "eth0");
                host.addresses.retain(|address| address.index != 2);
                host.routes.retain(|route| route.oif != Some(2));
            },
            [
                "nowhere: --iface=192.168.77.11: no interface of this host has this address",
                "nowhere: --iface=eth0: no interface of this host has this name",
                "elsewhere: eth1 10.1.2.3",
                "nowhere: --public-ip=192.168.77.11: no interface of this host has this address",
                "elsewhere: eth1 10.1.2.3",
            ],
        ),
        (
            "the interface was created again",
            |host| {
                host.links[1].index = 22;
                host.addresses.iter_mut().filter(|a| a.index == 2).for_each(|a| a.index = 22);
                host.routes[1].oif = Some(22);
            },
            ["there: eth0 192.168.77.11 mtu 1500"; 5],
        ),
        (
            "the addresses moved to a bridge over the card",
            bridge,
            ["there: br0 192.168.77.11 mtu 1450"; 5],
        ),
        (
            "and the card has a link-local one",
            |host| {
                bridge(host);
                host.addresses.push(Address { index: 2, ..host.addresses[3] });
            },
            ["there: br0 192.168.77.11 mtu 1450"; 5],
        ),
        (
            "the addresses moved to another interface",
            |host| {
                host.addresses.iter_mut().filter(|a| a.index == 2).for_each(|a| a.index = 5);
                host.routes[1].oif = Some(5);
            },
            [
                "there: bare 192.168.77.11 mtu 1500",
                "nowhere: --iface=eth0: it has no IPv4 address",
                "there: bare 192.168.77.11 mtu 1500",
                "there: bare 192.168.77.11 mtu 1500",
                "there: bare 192.168.77.11 mtu 1500",
            ],
        ),
    ];
    for (what, change, expected) in table {
        for (options, expected) in all.iter().zip(expected) {
            assert_eq!(followed(options, change), *expected, "{what}: {options:?}");
        }
    }
}

#[test]
fn an_advertised_address_stays_while_the_one_behind_it_changes() {
    let public_ip = Some(Ipv4Addr::new(203, 0, 113, 9));
    let options = InterfaceOptions { public_ip, ..options(&["eth0"], &[]) };
    let current = choose_among(&host(), &options, None).unwrap();
    let mut host = host();
    remove(&mut host, "192.168.77.11");
    let Followed::Elsewhere(now) = follow_among(&host, &options, &current, None) else { panic!() };
    assert_eq!((now.address, Some(now.public_ip)), (Ipv4Addr::new(192, 168, 77, 99), public_ip));
}

#[test]
fn an_interface_has_more_than_one_name() {
    let mut host = host();
    host.links[1].alt_names = vec!["enp1s0".into(), "eth1".into()];
    let pick = |options: &InterfaceOptions| choose_among(&host, options, None).unwrap().name;
    assert_eq!(pick(&options(&["enp1s0"], &[])), "eth0");
    assert_eq!(pick(&options(&[], &["^enp"])), "eth0");
    // A name goes before an alternative name.
    assert_eq!(pick(&options(&["eth1"], &[])), "eth1");
    assert_eq!(pick(&options(&[], &["eth1"])), "eth1");
}

/// A VRF leaves its ports their addresses, and its own is no address of theirs.
#[test]
fn an_interface_in_a_vrf_does_not_use_the_vrfs_address() {
    let mut host = host();
    bridge(&mut host);
    host.links.last_mut().unwrap().internal = true;
    let text = choose_among(&host, &options(&["eth0"], &[]), None).unwrap_err().to_string();
    assert!(text.contains("--iface=eth0: it has no IPv4 address"), "{text}");
}

/// An address on lo is routed to the host: packets from it leave through another interface.
#[test]
fn the_mtu_of_an_address_on_lo_is_that_of_the_way_out() {
    let mtu = |change: fn(&mut HostInterfaces)| {
        let mut host = host();
        host.links[0].internal = true;
        host.addresses.push(Address { index: 1, local: [10, 8, 8, 8].into(), prefix_len: 32 });
        change(&mut host);
        let chosen = choose_among(&host, &options(&["10.8.8.8"], &[]), None).unwrap();
        assert_eq!(chosen.name, "lo");
        (chosen.way_out, chosen.mtu)
    };
    assert_eq!(mtu(|_| {}), (Some(2), 1500), "the best default route");
    assert_eq!(mtu(|host| host.routes[1].priority = 200), (Some(3), 9000), "another one");
    // Without a default route, the narrowest way to a gateway: here a route over eth1.
    let no_default: fn(&mut HostInterfaces) = |host| {
        host.routes.drain(..2);
        host.routes[0].gateway = Some([10, 1, 2, 1].into());
    };
    assert_eq!(mtu(no_default), (Some(3), 9000));
    assert_eq!(mtu(|host| host.routes.clear()), (None, 1500), "nothing says which way");
}

/// Without the way that it was chosen by, the route to a host that the Network covers leads into the overlay.
#[test]
fn the_way_into_the_overlay_is_no_way_between_hosts() {
    let target = Ipv4Addr::new(10, 1, 0, 5);
    let options = InterfaceOptions { can_reach: Some(target), ..InterfaceOptions::default() };
    let reach = |oif, source| Some((target, Ok(default_route(oif, 0, Some(source)))));
    let address = Ipv4Addr::new(10, 1, 2, 3);
    let current = choose_among(&host(), &options, reach(3, address)).unwrap();
    let mut host = host();
    remove(&mut host, "10.1.2.3");
    let tun = Link { index: 9, name: "flannel0".into(), mtu: 1472, ..Link::default() };
    host.links.push(tun);
    let followed = follow_among(&host, &options, &current, reach(9, Ipv4Addr::new(10, 0, 20, 0)));
    let Followed::Nowhere(why) = followed else { panic!("{followed:?}") };
    assert_eq!(why, "--iface-can-reach=10.1.0.5: it has no IPv4 address");
}
