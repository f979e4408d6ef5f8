//! The analysis, compared with a model of the kernel's own choice.

use proptest::prelude::*;

use super::*;

const DEVICE: u32 = 7;
const LOCAL_TABLE: u32 = 255;

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn route(to: &str, oif: u32, priority: u32) -> KernelRoute {
    KernelRoute {
        destination: cidr(to),
        oif: Some(oif),
        gateway: None,
        priority,
        source: None,
        mtu: None,
        kind: RouteType::Unicast,
    }
}

fn via(to: &str, gateway: &str, oif: u32) -> KernelRoute {
    KernelRoute { gateway: Some(ip(gateway)), ..route(to, oif, 0) }
}

fn local(address: &str) -> (u32, KernelRoute) {
    let host = format!("{address}/32");
    (LOCAL_TABLE, KernelRoute { kind: RouteType::Local, ..route(&host, 2, 0) })
}

fn rule(priority: u32, table: u32) -> RoutingRule {
    RoutingRule { priority, table, to: cidr("0.0.0.0/0") }
}

fn default_rules() -> Vec<RoutingRule> {
    vec![rule(0, LOCAL_TABLE), rule(32_766, MAIN_TABLE), rule(32_767, DEFAULT_TABLE)]
}

fn overlay(network: &str) -> Overlay {
    Overlay { network: cidr(network), subnet: None, device: Some(DEVICE) }
}

/// The kernel's choice: rule by rule, the longest prefix, then the lowest metric, then the first
/// route (`fib_rules_lookup`, `fib_table_lookup`).
fn choose(routing: &Routing, destination: Ipv4Addr) -> Option<ChosenRoute> {
    let mut rules = routing.rules.clone();
    rules.sort_by_key(|rule| rule.priority);
    rules.iter().filter(|rule| rule.to.contains(destination)).find_map(|rule| {
        let mut best: Option<&KernelRoute> = None;
        for (table, route) in &routing.routes {
            let rank = |r: &KernelRoute| (r.destination.len(), Reverse(r.priority));
            if *table == rule.table
                && route.destination.contains(destination)
                && best.is_none_or(|best| rank(route) > rank(best))
            {
                best = Some(route);
            }
        }
        best.map(|route| ChosenRoute { table: rule.table, route: route.clone() })
    })
}

/// Whether the analysis is the same before the overlay's route is added as the kernel's choice is
/// afterwards.
fn analysed(overlay: &Overlay, routing: &Routing, destination: Ipv4Addr) -> (bool, bool, bool) {
    let before = choose(routing, destination);
    let foreseen = enters_overlay(overlay, routing, destination, before.as_ref());
    let mut after = routing.clone();
    let stays = |(table, r): &(u32, KernelRoute)| {
        *table == MAIN_TABLE && r.destination == overlay.network && r.priority == 0
    };
    if !after.routes.iter().any(stays) {
        after.routes.push((MAIN_TABLE, route(&overlay.network.to_string(), DEVICE, 0)));
    }
    let chosen = choose(&after, destination);
    let found = enters_overlay(overlay, &after, destination, chosen.as_ref());
    (foreseen, found, chosen.is_some_and(|chosen| chosen.route.oif == Some(DEVICE)))
}

#[test]
fn where_a_next_hop_leads() {
    let default = || (MAIN_TABLE, via("0.0.0.0/0", "192.168.78.1", 2));
    let underlay = || (MAIN_TABLE, route("192.168.78.0/24", 2, 0));
    let wide = || (MAIN_TABLE, route("10.1.0.0/16", 2, 0));
    for (what, network, routes, hop, expected) in [
        ("inside of the overlay", "10.0.0.0/16", vec![default()], "10.0.60.5", true),
        ("inside, without any route", "10.0.0.0/16", vec![], "10.0.60.5", true),
        ("outside", "10.0.0.0/16", vec![default(), underlay()], "192.168.78.12", false),
        ("outside, unreachable", "10.0.0.0/16", vec![], "192.168.78.12", false),
        ("a network of its own wins", "10.0.0.0/8", vec![default(), wide()], "10.1.0.6", false),
        ("beside that network", "10.0.0.0/8", vec![default(), wide()], "10.2.0.6", true),
        ("the underlay is covered", "192.168.78.0/25", vec![underlay()], "192.168.78.12", true),
        ("the other half", "192.168.78.0/25", vec![underlay()], "192.168.78.200", false),
        ("an equal route was first", "192.168.78.0/24", vec![underlay()], "192.168.78.12", false),
        (
            "an equal route with a metric",
            "192.168.78.0/24",
            vec![(MAIN_TABLE, route("192.168.78.0/24", 2, 100))],
            "192.168.78.12",
            true,
        ),
        ("our own address", "10.0.0.0/16", vec![local("10.0.60.5")], "10.0.60.5", false),
        (
            "a blackhole is more specific",
            "10.0.0.0/16",
            vec![(
                MAIN_TABLE,
                KernelRoute {
                    kind: RouteType::BlackHole,
                    oif: None,
                    ..route("10.0.60.0/24", 2, 0)
                },
            )],
            "10.0.60.5",
            false,
        ),
        (
            "an operator routes more behind the overlay",
            "10.0.0.0/16",
            vec![default(), (MAIN_TABLE, route("172.20.0.0/16", DEVICE, 0))],
            "172.20.0.9",
            true,
        ),
    ] {
        let routing = Routing { routes, rules: default_rules(), ..Routing::default() };
        let (foreseen, found, _) = analysed(&overlay(network), &routing, ip(hop));
        assert_eq!((foreseen, found), (expected, expected), "{what}: {hop} under {network}");
    }
}

#[test]
fn policy_routing_counts() {
    let hop = ip("10.0.60.5");
    let other = (100, route("0.0.0.0/0", 2, 0));
    for (what, priority, expected) in [("before main", 100, false), ("after main", 40_000, true)] {
        let rules = [default_rules(), vec![rule(priority, 100)]].concat();
        let routing = Routing { routes: vec![other.clone()], rules, ..Routing::default() };
        let (foreseen, found, _) = analysed(&overlay("10.0.0.0/16"), &routing, hop);
        assert_eq!((foreseen, found), (expected, expected), "{what}");
    }
    // As wg-quick does: the main table without its default route, then another one.
    let rules = [default_rules(), vec![rule(100, MAIN_TABLE), rule(200, 51_820)]].concat();
    let routing = Routing { rules, ..Routing::default() };
    let chosen = ChosenRoute { table: 51_820, route: route("0.0.0.0/0", 9, 0) };
    assert!(enters_overlay(&overlay("10.0.0.0/16"), &routing, hop, Some(&chosen)));
}

/// An address of few prefixes, so that routes, rules and destinations meet.
fn any_address() -> impl Strategy<Value = Ipv4Addr> {
    (0u8..4, 0u8..4).prop_map(|(b, d)| Ipv4Addr::new(10, b, 0, d))
}

fn any_cidr() -> impl Strategy<Value = Cidr> {
    let len = prop::sample::select(vec![0, 8, 14, 15, 16, 24, 31, 32]);
    (any_address(), len).prop_map(|(address, len)| Cidr::new(address, len))
}

fn any_route() -> impl Strategy<Value = (u32, KernelRoute)> {
    let table = prop::sample::select(vec![MAIN_TABLE, MAIN_TABLE, 100]);
    let oif = prop::sample::select(vec![2, 2, 3, DEVICE]);
    (table, any_cidr(), oif, prop::sample::select(vec![0, 100]))
        .prop_map(|(table, to, oif, priority)| (table, route(&to.to_string(), oif, priority)))
}

proptest! {
    #[test]
    fn the_analysis_foresees_the_kernels_choice(
        network in any_cidr().prop_filter("a network", |network| (8..=24).contains(&network.len())),
        routes in prop::collection::vec(any_route(), 0..8),
        own in prop::collection::vec(any_address(), 0..2),
        first in prop::option::of(prop::sample::select(vec![100, 40_000])),
        destination in any_address(),
    ) {
        let overlay = Overlay { network, subnet: None, device: Some(DEVICE) };
        let mut routes = routes;
        // The overlay's own route comes later.
        routes.retain(|(table, r)| {
            !(*table == MAIN_TABLE && r.destination == network && r.oif == Some(DEVICE))
        });
        routes.extend(own.iter().map(|address| local(&address.to_string())));
        let mut rules = default_rules();
        rules.extend(first.map(|priority| rule(priority, 100)));
        let routing = Routing { routes, rules, ..Routing::default() };
        let (foreseen, found, truth) = analysed(&overlay, &routing, destination);
        prop_assert_eq!(found, truth);
        prop_assert_eq!(foreseen, truth);
        // One answer serves all addresses with the same longest distinction.
        let groups = Distinctions::new(&routing);
        for other in (0..4).flat_map(|b| (0..4).map(move |d| Ipv4Addr::new(10, b, 0, d))) {
            if groups.longest(other) == groups.longest(destination)
                && network.contains(other) == network.contains(destination)
            {
                prop_assert_eq!(analysed(&overlay, &routing, other).0, foreseen);
            }
        }
        // What is in no suspect prefix need not be asked about.
        if !suspect(&overlay, &routing).iter().any(|prefix| prefix.contains(destination)) {
            prop_assert!(!foreseen);
        }
    }
}

#[test]
fn what_the_overlays_route_would_hide() {
    let address = |index, local: &str, prefix_len| Address { index, local: ip(local), prefix_len };
    let link = |index, name: &str| Link {
        index,
        name: name.into(),
        mtu: 1500,
        up: true,
        ..Link::default()
    };
    let routing = Routing {
        routes: vec![
            (MAIN_TABLE, via("0.0.0.0/0", "192.168.78.1", 2)),
            (MAIN_TABLE, route("192.168.78.0/24", 2, 0)),
            (MAIN_TABLE, via("172.31.0.0/16", "10.0.9.1", DEVICE)),
        ],
        rules: default_rules(),
        addresses: vec![
            address(1, "127.0.0.1", 8),
            address(2, "192.168.78.11", 24),
            address(3, "10.0.20.1", 24),
            address(DEVICE, "10.0.20.0", 32),
        ],
        links: vec![link(1, "lo"), link(2, "eth0"), link(3, "docker0"), link(DEVICE, "flannel0")],
    };
    for (network, expected) in [
        // The bridge of this host's own containers and flannel0's own address are as they should be.
        ("10.0.0.0/16", vec![]),
        ("192.168.78.0/25", vec!["the network 192.168.78.0/24 of eth0"]),
        ("192.168.78.0/24", vec!["the network 192.168.78.0/24 of eth0"]),
        // A part of the network of eth0, without this host.
        ("192.168.78.128/25", vec![]),
        // The more specific route of eth0 wins.
        ("192.168.0.0/16", vec![]),
    ] {
        let overlay = Overlay { subnet: Some(cidr("10.0.20.0/24")), ..overlay(network) };
        let hidden = hidden_networks(&overlay, &routing);
        let names: Vec<_> = hidden.iter().map(Dependency::to_string).collect();
        assert_eq!(names, expected, "{network}");
    }
    let overlay = Overlay { subnet: Some(cidr("10.0.20.0/24")), ..overlay("10.0.0.0/16") };
    // A server in a container of this host, one elsewhere, and the gateway of a route through
    // flannel0, which is meant to lead there.
    let hosts =
        dependencies(&overlay, &routing, &[ip("10.0.20.9")], &[ip("10.0.0.2"), ip("9.9.9.9")]);
    assert_eq!(hosts, [Dependency::NameServer(ip("10.0.0.2"))]);
    let text = sentence(cidr("192.168.78.0/25"), &[Dependency::Gateway(ip("192.168.78.1"))]);
    assert!(text.contains("192.168.78.0/25 would hide the gateway 192.168.78.1 from"), "{text}");
}
