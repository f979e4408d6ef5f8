//! Where the kernel sends a packet, as far as the overlay is concerned: decided from facts alone.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::net::Ipv4Addr;

use rtnetlink::packet_route::route::RouteType;

use crate::host::netlink::{
    Address, ChosenRoute, DEFAULT_TABLE, KernelRoute, Link, MAIN_TABLE, RoutingRule,
};
use crate::route::Cidr;

/// The overlay's route, whether or not it is in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// The destination: the overlay network.
    pub network: Cidr,
    /// This host's subnet, once it has one.
    pub subnet: Option<Cidr>,
    /// Interface index of the TUN device, once there is one.
    pub device: Option<u32>,
}

/// The facts that decide where the kernel sends a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// The routes of all tables, each with its table.
    pub routes: Vec<(u32, KernelRoute)>,
    /// The policy routing rules.
    pub rules: Vec<RoutingRule>,
    /// The addresses of this host.
    pub addresses: Vec<Address>,
    /// Its interfaces.
    pub links: Vec<Link>,
}

/// Something that this host depends on and reaches outside of the overlay.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dependency {
    /// A network that this host has an address in.
    Network(Cidr, String),
    /// The gateway of a route.
    Gateway(Ipv4Addr),
    /// A server of the lease store.
    Store(Ipv4Addr),
    /// A name server.
    NameServer(Ipv4Addr),
}

impl Dependency {
    /// The address, unless it is a whole network.
    pub fn address(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Network(..) => None,
            Self::Gateway(address) | Self::Store(address) | Self::NameServer(address) => {
                Some(*address)
            }
        }
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network, interface) => write!(f, "the network {network} of {interface}"),
            Self::Gateway(address) => write!(f, "the gateway {address}"),
            Self::Store(address) => write!(f, "the lease store at {address}"),
            Self::NameServer(address) => write!(f, "the name server {address}"),
        }
    }
}

/// What the overlay's route would hide, in one sentence.
pub fn sentence(network: Cidr, hidden: &[Dependency]) -> String {
    let names: Vec<_> = hidden.iter().take(MAX_NAMED).map(Dependency::to_string).collect();
    let more = match hidden.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "the overlay's route to its Network {network} would hide {}{more} from this host, so it is \
         left out",
        names.join(", ")
    )
}

/// Whether a packet of this host for `destination` ends in the overlay's device: with the routes as
/// they are, or once the overlay's route is added. `chosen` is the route that the kernel chooses
/// now, `None` if it has none.
pub fn enters_overlay(
    overlay: &Overlay,
    routing: &Routing,
    destination: Ipv4Addr,
    chosen: Option<&ChosenRoute>,
) -> bool {
    if chosen.is_some_and(|chosen| is_through(overlay, &chosen.route)) {
        return true;
    }
    let is_local = chosen.is_some_and(|chosen| chosen.route.kind == RouteType::Local);
    if is_local || !overlay.network.contains(destination) || is_in_place(overlay, routing) {
        return false;
    }
    // The overlay's route has metric 0. Of two equal routes with one metric the first one stays.
    let best = best_beside(overlay, routing, destination);
    let yields = best.is_none_or(|best| {
        let len = best.destination.len();
        len < overlay.network.len() || (len == overlay.network.len() && best.priority > 0)
    });
    yields && chosen.is_none_or(|chosen| main_comes_first(routing, chosen.table))
}

/// The best route of the main table for `destination` that does not lead into the overlay's device.
fn best_beside<'r>(
    overlay: &Overlay,
    routing: &'r Routing,
    destination: Ipv4Addr,
) -> Option<&'r KernelRoute> {
    let main = routing.routes.iter().filter(|(table, route)| {
        *table == MAIN_TABLE
            && !is_through(overlay, route)
            && route.destination.contains(destination)
    });
    main.map(|(_, route)| route).max_by_key(|r| (r.destination.len(), Reverse(r.priority)))
}

/// Index of the interface by which `destination` would be reached without the overlay's route.
/// `chosen` is the route that the kernel chooses now.
pub fn way_beside(
    overlay: &Overlay,
    routing: &Routing,
    destination: Ipv4Addr,
    chosen: &ChosenRoute,
) -> Option<u32> {
    if is_through(overlay, &chosen.route) {
        best_beside(overlay, routing, destination)?.oif
    } else {
        chosen.route.oif
    }
}

fn is_through(overlay: &Overlay, route: &KernelRoute) -> bool {
    route.oif.is_some() && route.oif == overlay.device
}

/// Whether the overlay's route is in the main table.
fn is_in_place(overlay: &Overlay, routing: &Routing) -> bool {
    overlay.device.is_some()
        && routing.routes.iter().any(|(table, route)| {
            *table == MAIN_TABLE
                && route.destination == overlay.network
                && route.oif == overlay.device
        })
}

/// Whether the kernel consults the main table before `table`, under any rule.
fn main_comes_first(routing: &Routing, table: u32) -> bool {
    let first =
        |wanted| routing.rules.iter().filter(|r| r.table == wanted).map(|r| r.priority).min();
    match (first(MAIN_TABLE), first(table)) {
        _ if [0, MAIN_TABLE, DEFAULT_TABLE].contains(&table) => true,
        (Some(main), Some(other)) => main < other,
        // A VRF's table has no rule of its own.
        _ => false,
    }
}

/// The networks of this host that the overlay's route would take this host's own address out of: they
/// hold the whole overlay network, and it holds the address. A network inside of the overlay's has the
/// more specific route and wins. One like 10.0.0.0/8, of which the overlay takes a part without this host,
/// goes on working, as with flannel; a peer, a gateway or a server in that part is found by its address.
pub fn hidden_networks(overlay: &Overlay, routing: &Routing) -> Vec<Dependency> {
    let mut hidden = Vec::new();
    for address in &routing.addresses {
        let network = Cidr::new(address.local, address.prefix_len.min(32));
        if Some(address.index) != overlay.device
            && network.covers(overlay.network)
            && overlay.network.contains(address.local)
        {
            let link = routing.links.iter().find(|link| link.index == address.index);
            let name = link.map_or("an interface", |link| &link.name);
            let dependency = Dependency::Network(network, name.to_owned());
            if !hidden.contains(&dependency) {
                hidden.push(dependency);
            }
        }
    }
    hidden
}

/// The gateways and servers inside of the overlay network. A server in this host's own subnet is a
/// container of this host, and reached through its bridge.
pub fn dependencies(
    overlay: &Overlay,
    routing: &Routing,
    stores: &[Ipv4Addr],
    name_servers: &[Ipv4Addr],
) -> Vec<Dependency> {
    let routes = routing.routes.iter().map(|(_, route)| route);
    let outside = routes.filter(|route| !is_through(overlay, route));
    let gateways = outside.filter_map(|route| route.gateway).map(Dependency::Gateway);
    let here = |address: &Ipv4Addr| overlay.subnet.is_some_and(|own| own.contains(*address));
    let stores = stores.iter().filter(|a| !here(a)).copied().map(Dependency::Store);
    let name_servers =
        name_servers.iter().filter(|a| !here(a)).copied().map(Dependency::NameServer);
    let mut seen = HashSet::new();
    gateways
        .chain(stores)
        .chain(name_servers)
        .filter(|dependency| {
            dependency.address().is_some_and(|address| overlay.network.contains(address))
        })
        .filter(|dependency| seen.insert(dependency.clone()))
        .collect()
}

/// The prefixes whose addresses the kernel might route into the overlay's device: the overlay
/// network, and whatever else an operator has routed there.
pub fn suspect(overlay: &Overlay, routing: &Routing) -> Vec<Cidr> {
    let routed = routing
        .routes
        .iter()
        .filter(|(_, route)| is_through(overlay, route) && route.kind == RouteType::Unicast);
    let mut suspect = vec![overlay.network];
    for (_, route) in routed {
        if !suspect.iter().any(|known| known.covers(route.destination)) {
            suspect.push(route.destination);
        }
    }
    suspect
}

/// The prefixes by which routes and rules tell destinations apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distinctions {
    prefixes: HashSet<Cidr>,
    /// Their lengths, the longest first.
    lengths: Vec<u8>,
}

impl Distinctions {
    /// Those of all routes and rules.
    pub fn new(routing: &Routing) -> Self {
        let routes = routing.routes.iter().map(|(_, route)| route.destination);
        let prefixes: HashSet<_> = routes.chain(routing.rules.iter().map(|rule| rule.to)).collect();
        let lengths: BTreeSet<_> = prefixes.iter().map(|prefix| prefix.len()).collect();
        Self { prefixes, lengths: lengths.into_iter().rev().collect() }
    }

    /// The longest that contains `address`: two addresses that share it are routed alike.
    pub fn longest(&self, address: Ipv4Addr) -> Option<Cidr> {
        let candidates = self.lengths.iter().map(|len| Cidr::new(address, *len));
        candidates.into_iter().find(|prefix| self.prefixes.contains(prefix))
    }
}

/// Most names in one sentence.
const MAX_NAMED: usize = 6;

#[cfg(test)]
mod tests;
