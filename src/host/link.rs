//! Set-up and repair of the TUN device: MTU, link state, address, routes.

use std::fmt;
use std::net::Ipv4Addr;

use rtnetlink::packet_route::route::RouteType;

use super::netlink::{KernelRoute, Link, Netlink, NetlinkError};
use crate::route::Cidr;

/// The wanted set-up of the TUN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayDevice {
    /// Interface index of the device.
    pub index: u32,
    /// Name of the device, for messages.
    pub name: String,
    /// Address of the device: the network address of `subnet`, with prefix length 32.
    pub address: Ipv4Addr,
    /// This host's subnet.
    pub subnet: Cidr,
    /// The overlay network, which is routed into the device.
    pub network: Cidr,
    /// MTU of the overlay, in bytes.
    pub mtu: u32,
    /// Keep a blackhole route for `subnet` (`--ip-blackhole-route`).
    pub blackhole: bool,
}

/// A difference from the wanted set-up that has been repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// The device had this MTU.
    Mtu(u32),
    /// The link was down.
    Up,
    /// The address was missing.
    Address(Ipv4Addr),
    /// The route to the overlay network was missing.
    Route(Cidr),
    /// The blackhole route for the subnet was missing.
    Blackhole(Cidr),
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtu(was) => write!(f, "MTU (was {was})"),
            Self::Up => f.write_str("link up"),
            Self::Address(address) => write!(f, "address {address}/32"),
            Self::Route(network) => write!(f, "route {network}"),
            Self::Blackhole(subnet) => write!(f, "blackhole route {subnet}"),
        }
    }
}

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
            None => other,
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.route)
    }
}

/// Result of a check of the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceCheck {
    /// Differences that were repaired.
    pub repairs: Vec<Repair>,
    /// Routes of other programs that divert overlay traffic; the daemon reports them and leaves
    /// them.
    pub conflicts: Vec<Conflict>,
}

/// The device cannot be repaired.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The device has been deleted.
    #[error("interface {0} is gone")]
    Gone(String),
    /// The kernel rejected a request.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Least MTU of a link with IPv6 (RFC 8200, section 5). The kernel takes IPv6 off an interface below it,
/// and begins anew above it, with all settings at their defaults.
const IPV6_MIN_MTU: u32 = 1_280;

/// Metric of the blackhole route: larger than any that a bridge or another daemon would use, so
/// that the kernel uses the blackhole route only if there is no other route to the subnet.
pub const BLACKHOLE_METRIC: u32 = u32::MAX - 1;

/// Compares the device with `overlay` and repairs the differences. The first call sets the device
/// up. Without `routed` the device has no route to the overlay network, because it would hide what
/// the host depends on.
///
/// # Errors
/// The device is gone, or the kernel rejects a request.
pub async fn ensure(
    netlink: &Netlink,
    overlay: &OverlayDevice,
    routed: bool,
) -> Result<DeviceCheck, LinkError> {
    let mut checked = DeviceCheck::default();
    let gone = || LinkError::Gone(overlay.name.clone());
    let link = netlink.link(overlay.index).await?.ok_or_else(gone)?;
    ensure_mtu_and_up(netlink, overlay, &link, &mut checked).await?;
    // A TUN device drops packets when its queue is full and never stops the queue above it, so a
    // queueing discipline never queues anything; the disciplines of 256 possible queues cost 6 MB.
    if let Err(error) = netlink.drop_default_queueing(overlay.index).await {
        tracing::debug!(%error, "cannot remove the queueing disciplines of the TUN device");
    }
    ensure_address(netlink, overlay, &mut checked).await?;
    ensure_route(netlink, overlay, routed, &mut checked).await?;
    if overlay.blackhole {
        match netlink.add_blackhole(overlay.subnet, BLACKHOLE_METRIC).await {
            Ok(()) => checked.repairs.push(Repair::Blackhole(overlay.subnet)),
            Err(error) if error.errno() == Some(libc::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(checked)
}

/// Removes the address, route and blackhole route of `old` that `new` does not have, after the
/// lease of another subnet on the same device.
///
/// # Errors
/// The kernel rejects a request.
pub async fn retire(
    netlink: &Netlink,
    old: &OverlayDevice,
    new: &OverlayDevice,
) -> Result<(), LinkError> {
    if (old.index, old.network) != (new.index, new.network) {
        ignore_missing(netlink.remove_device_route(old.network, old.index).await)?;
    }
    if (old.index, old.address) != (new.index, new.address) {
        let mine = netlink.addresses().await?;
        for address in mine.into_iter().filter(|a| a.index == old.index && a.local == old.address) {
            ignore_missing(netlink.remove_address(address).await)?;
        }
    }
    if old.blackhole && old.subnet != new.subnet {
        ignore_missing(netlink.remove_blackhole(old.subnet, BLACKHOLE_METRIC).await)?;
    }
    Ok(())
}

async fn ensure_mtu_and_up(
    netlink: &Netlink,
    overlay: &OverlayDevice,
    link: &Link,
    checked: &mut DeviceCheck,
) -> Result<(), LinkError> {
    if link.mtu != overlay.mtu {
        checked.repairs.push(Repair::Mtu(link.mtu));
    }
    if !link.up {
        checked.repairs.push(Repair::Up);
    }
    let begins_ipv6 = link.mtu < IPV6_MIN_MTU && overlay.mtu >= IPV6_MIN_MTU;
    if begins_ipv6 {
        netlink.set_mtu_and_state(overlay.index, overlay.mtu, false).await?;
    }
    // With a link-local address the kernel would send router solicitations and multicast reports into
    // the overlay, which carries IPv4 alone. Without IPv6 there is nothing to set.
    if (begins_ipv6 || !link.up)
        && let Err(error) = netlink.set_no_link_local(overlay.index).await
    {
        tracing::debug!(%error, "cannot keep an IPv6 address from the TUN device");
    }
    if !checked.repairs.is_empty() {
        netlink.set_mtu_and_state(overlay.index, overlay.mtu, true).await?;
    }
    Ok(())
}

async fn ensure_address(
    netlink: &Netlink,
    overlay: &OverlayDevice,
    checked: &mut DeviceCheck,
) -> Result<(), LinkError> {
    let addresses = netlink.addresses().await?;
    if addresses.iter().any(|a| a.index == overlay.index && a.local == overlay.address) {
        return Ok(());
    }
    match netlink.add_host_address(overlay.index, overlay.address).await {
        Err(error) if error.errno() == Some(libc::EEXIST) => {}
        outcome => {
            outcome?;
            checked.repairs.push(Repair::Address(overlay.address));
        }
    }
    Ok(())
}

/// Adds the network route unless it exists, and reports every route that the kernel prefers to it;
/// removes it if there shall be none.
async fn ensure_route(
    netlink: &Netlink,
    overlay: &OverlayDevice,
    routed: bool,
    checked: &mut DeviceCheck,
) -> Result<(), LinkError> {
    let routes = netlink.routes().await?;
    let ours = |r: &&KernelRoute| r.destination == overlay.network && r.oif == Some(overlay.index);
    let is_routed = routes.iter().any(|r| ours(&r));
    if !routed {
        if is_routed {
            let removed = netlink.remove_device_route(overlay.network, overlay.index).await;
            ignore_missing(removed)?;
        }
        return Ok(());
    }
    if !is_routed {
        match netlink.add_device_route(overlay.network, overlay.index).await {
            Ok(()) => checked.repairs.push(Repair::Route(overlay.network)),
            // Another program's route with the same destination, which `conflicts` reports.
            Err(error) if error.errno() == Some(libc::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    checked.conflicts = conflicts(&routes, &netlink.links().await?, overlay);
    Ok(())
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

fn ignore_missing(outcome: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match outcome {
        Err(error)
            if matches!(
                error.errno(),
                Some(libc::ESRCH | libc::ENOENT | libc::ENODEV | libc::EADDRNOTAVAIL)
            ) =>
        {
            Ok(())
        }
        other => other,
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
