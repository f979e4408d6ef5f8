//! Reading and changing the IPv4 routes of the main table.

use std::net::Ipv4Addr;

use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteType,
};

use super::{KernelRoute, Netlink, NetlinkError, to};
use crate::packet::protocol;
use crate::route::Cidr;

/// A packet whose route is asked for. What is not given is not matched by any policy routing rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteQuestion {
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Source address. Without an input interface it must be one of this host's.
    pub source: Option<Ipv4Addr>,
    /// Index of the interface that it arrives through; `None` for a packet of this host itself.
    pub input: Option<u32>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Source and destination port.
    pub ports: Option<[u16; 2]>,
}

impl RouteQuestion {
    /// A packet of this host itself to `destination`.
    pub fn to(destination: Ipv4Addr) -> Self {
        Self { destination, source: None, input: None, protocol: None, ports: None }
    }

    pub(super) fn message(&self) -> RouteMessage {
        let mut message =
            RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(self.destination, 32);
        if let Some(source) = self.source {
            message = message.source_prefix(source, 32);
        }
        if let Some(input) = self.input {
            message = message.input_interface(input);
        }
        // The kernel rejects any other (`rtm_getroute_parse_ip_proto` in `net/ipv4/netlink.c`).
        if let Some(known) = self.protocol.filter(|protocol| KNOWN_PROTOCOLS.contains(protocol)) {
            message = message.ip_protocol(known);
            if let Some([from, to]) = self.ports {
                message = message.sport(from).dport(to);
            }
        }
        message.build()
    }
}

const KNOWN_PROTOCOLS: [u8; 3] = [protocol::ICMP, protocol::TCP, protocol::UDP];

impl Netlink {
    /// Lists every IPv4 route of the main table.
    pub async fn routes(&self) -> Result<Vec<KernelRoute>, NetlinkError> {
        let all = self.routes_of_all_tables().await?.into_iter();
        Ok(all.filter(|(table, _)| *table == MAIN_TABLE).map(|(_, route)| route).collect())
    }

    /// Returns the route that the kernel uses to `destination` now for a packet of this host itself, policy
    /// routing included.
    pub async fn route_to(&self, destination: Ipv4Addr) -> Result<KernelRoute, NetlinkError> {
        self.route_for(&RouteQuestion::to(destination)).await
    }

    /// Returns the route that the kernel uses for a packet. For a packet with an input interface the answer
    /// includes forwarding and the reverse path filter.
    ///
    /// # Errors
    /// The kernel drops the packet, with the error number that it gives.
    pub async fn route_for(&self, question: &RouteQuestion) -> Result<KernelRoute, NetlinkError> {
        self.ask(question.message(), question.destination).await.map(|answer| route_of(&answer))
    }

    /// Adds a route to `destination` through an interface, with metric 0; fails with `EEXIST` if
    /// there is one already, whatever its interface.
    pub async fn add_device_route(
        &self,
        destination: Cidr,
        index: u32,
    ) -> Result<(), NetlinkError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(destination.network(), destination.len())
            .protocol(RouteProtocol::Boot)
            .output_interface(index)
            .build();
        self.add(route, format!("add route {destination}")).await
    }

    /// Removes the route to `destination` through an interface.
    pub async fn remove_device_route(
        &self,
        destination: Cidr,
        index: u32,
    ) -> Result<(), NetlinkError> {
        let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(destination.network(), destination.len())
            .output_interface(index)
            .build();
        route.header.protocol = RouteProtocol::Unspec;
        self.remove(route, format!("remove route {destination}")).await
    }

    /// Adds a blackhole route, which drops packets to `destination`.
    pub async fn add_blackhole(
        &self,
        destination: Cidr,
        priority: u32,
    ) -> Result<(), NetlinkError> {
        let route = blackhole(destination, priority, RouteProtocol::Boot);
        self.add(route, format!("add blackhole route {destination}")).await
    }

    /// Removes a route that [`Self::add_blackhole`] added.
    pub async fn remove_blackhole(
        &self,
        destination: Cidr,
        priority: u32,
    ) -> Result<(), NetlinkError> {
        let route = blackhole(destination, priority, RouteProtocol::Unspec);
        self.remove(route, format!("remove blackhole route {destination}")).await
    }

    async fn add(&self, route: RouteMessage, what: String) -> Result<(), NetlinkError> {
        let _turn = self.turn().await;
        self.handle.route().add(route).execute().await.map_err(to(what))
    }

    async fn remove(&self, route: RouteMessage, what: String) -> Result<(), NetlinkError> {
        let _turn = self.turn().await;
        self.handle.route().del(route).execute().await.map_err(to(what))
    }
}

fn blackhole(destination: Cidr, priority: u32, protocol: RouteProtocol) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(destination.network(), destination.len())
        .protocol(protocol)
        .kind(RouteType::BlackHole)
        .priority(priority)
        .build()
}

/// The table that holds the routes of the host, unless rules lead elsewhere.
pub const MAIN_TABLE: u32 = RouteHeader::RT_TABLE_MAIN as u32;
/// The table that the kernel consults after the main one.
pub const DEFAULT_TABLE: u32 = libc::RT_TABLE_DEFAULT as u32;

pub(super) fn table_of(message: &RouteMessage) -> u32 {
    let attribute = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    attribute.unwrap_or_else(|| message.header.table.into())
}

pub(super) fn route_of(message: &RouteMessage) -> KernelRoute {
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let mut route = KernelRoute {
        destination: Cidr::new(destination, 0),
        oif: None,
        gateway: None,
        priority: 0,
        source: None,
        mtu: None,
        kind: message.header.kind,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(addr)) => destination = *addr,
            RouteAttribute::Gateway(RouteAddress::Inet(addr)) => route.gateway = Some(*addr),
            RouteAttribute::PrefSource(RouteAddress::Inet(addr)) => route.source = Some(*addr),
            RouteAttribute::Oif(index) => route.oif = Some(*index),
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::Priority(priority) => route.priority = *priority,
            RouteAttribute::MultiPath(hops) => {
                route.oif = route.oif.or(hops.first().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    route.destination = Cidr::new(destination, message.header.destination_prefix_length.min(32));
    route
}
