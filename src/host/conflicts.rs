//! Routes of other programs that lead packets of the overlay elsewhere than into its device.

use std::fmt;
use std::net::Ipv4Addr;

use rtnetlink::packet_route::route::RouteType;

use super::link::OverlayDevice;
use super::netlink::{KernelRoute, Link};
use crate::route::Cidr;

/// A route that another program added and that diverts overlay traffic from the device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conflict {
    /// Destination of the route.
    pub destination: Cidr,
    /// The route as `ip route` prints it and takes it.
    pub route: String,
    /// Index of its interface.
    pub interface: Option<u32>,
    /// Whether it is the route of a network that this host has an address in.
    pub connected: bool,
}

impl Conflict {
    /// Whether the route is that of the network which `address` of this host belongs to.
    pub fn is_network_of(&self, address: Ipv4Addr) -> bool {
        self.connected && self.destination.contains(address)
    }

    /// The command that removes the route; `None` for one without which this host could be cut off:
    /// a route of the interface between hosts, `underlay`, or of a network of the host's own.
    pub fn removal(&self, underlay: u32) -> Option<String> {
        let keep = self.connected || self.interface == Some(underlay);
        (!keep).then(|| format!("ip route del {self}"))
    }

    /// What to do about it.
    pub fn advice(&self, underlay: u32) -> String {
        let other =
            format!("choose a Network, or SubnetMin and SubnetMax, without {}", self.destination);
        match self.removal(underlay) {
            Some(command) => format!("remove it (`{command}`), or {other}"),
            None if self.connected => other,
            None => format!(
                "if this host reaches no other host through it, remove it (`ip route del {self}`); otherwise \
                 {other}"
            ),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.route)
    }
}

/// Returns those of `routes` that divert overlay traffic from the device.
pub fn conflicts(routes: &[KernelRoute], links: &[Link], overlay: &OverlayDevice) -> Vec<Conflict> {
    let diverting = routes.iter().filter(|route| diverts_overlay_traffic(route, overlay));
    diverting.map(|route| describe(route, links)).collect()
}

/// Returns whether a route leads packets for other hosts' subnets elsewhere than into the device.
///
/// A route to this host's own subnet or a part of it is that of the container bridge. Any other
/// route within the overlay network is preferred to the overlay's own, because its prefix is longer
/// or it was added first with the same prefix and metric.
fn diverts_overlay_traffic(route: &KernelRoute, overlay: &OverlayDevice) -> bool {
    let local = matches!(route.kind, RouteType::Local | RouteType::Broadcast);
    overlay.network.covers(route.destination)
        && !overlay.subnet.covers(route.destination)
        && route.oif != Some(overlay.index)
        && !local
        && (route.destination != overlay.network || route.priority == 0)
}

fn describe(route: &KernelRoute, links: &[Link]) -> Conflict {
    let mut text = Vec::new();
    if route.kind != RouteType::Unicast {
        text.push(format!("{:?}", route.kind).to_lowercase());
    }
    text.push(route.destination.to_string());
    if let Some(gateway) = route.gateway {
        text.push(format!("via {gateway}"));
    }
    if let Some(index) = route.oif {
        let name = links.iter().find(|l| l.index == index).map_or("?", |l| l.name.as_str());
        text.push(format!("dev {name}"));
    }
    if route.priority != 0 {
        text.push(format!("metric {}", route.priority));
    }
    Conflict {
        destination: route.destination,
        route: text.join(" "),
        interface: route.oif,
        // The kernel gives the routes that it adds for an address that address as their source.
        connected: route.gateway.is_none() && route.source.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay() -> OverlayDevice {
        OverlayDevice {
            index: 7,
            name: "flannel0".into(),
            address: Ipv4Addr::new(10, 0, 20, 0),
            subnet: "10.0.20.0/24".parse().unwrap(),
            network: "10.0.0.0/16".parse().unwrap(),
            mtu: 1472,
            blackhole: false,
        }
    }

    #[test]
    fn routes_that_divert_overlay_traffic() {
        for (destination, oif, priority, expected) in [
            ("10.0.0.0/16", 7, 0, false),
            ("10.0.0.0/16", 2, 0, true),
            ("10.0.0.0/16", 2, 100, false),
            ("10.0.0.0/17", 2, 100, true),
            ("10.0.9.0/24", 2, 0, true),
            ("10.0.20.0/24", 3, 0, false),
            ("10.0.20.128/25", 3, 0, false),
            ("10.0.0.0/8", 2, 0, false),
            ("0.0.0.0/0", 2, 0, false),
            ("192.168.0.0/16", 2, 0, false),
        ] {
            let route = KernelRoute {
                destination: destination.parse().unwrap(),
                oif: Some(oif),
                gateway: None,
                priority,
                mtu: None,
                source: None,
                kind: RouteType::Unicast,
            };
            assert_eq!(
                diverts_overlay_traffic(&route, &overlay()),
                expected,
                "{destination} {oif}"
            );
        }
    }

    #[test]
    fn a_conflict_reads_like_ip_route() {
        let links =
            [Link { index: 2, name: "eth1".into(), mtu: 1500, up: true, ..Link::default() }];
        let route = KernelRoute {
            destination: "10.0.0.0/16".parse().unwrap(),
            oif: Some(2),
            gateway: Some(Ipv4Addr::new(192, 168, 1, 1)),
            priority: 5,
            mtu: None,
            source: None,
            kind: RouteType::Unicast,
        };
        // `ip route` wants the type first.
        let blackhole =
            KernelRoute { oif: None, gateway: None, kind: RouteType::BlackHole, ..route };
        assert_eq!(describe(&blackhole, &links).to_string(), "blackhole 10.0.0.0/16 metric 5");
        let conflict = describe(&route, &links);
        let command = "ip route del 10.0.0.0/16 via 192.168.1.1 dev eth1 metric 5";
        assert_eq!(conflict.removal(3).as_deref(), Some(command));
        // A route of the interface between hosts and the route of a host's own network stay.
        assert_eq!(conflict.removal(2), None);
        let own = Ipv4Addr::new(10, 0, 3, 4);
        let connected =
            describe(&KernelRoute { gateway: None, source: Some(own), ..route }, &links);
        assert_eq!(connected.removal(3), None);
        assert!(connected.is_network_of(own) && !connected.advice(3).contains("ip route del"));
    }
}
