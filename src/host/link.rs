//! Set-up and repair of the TUN device: MTU, link state, address, routes.

use std::fmt;
use std::net::Ipv4Addr;

use super::conflicts::{Conflict, conflicts};
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
    for repair in &checked.repairs {
        tracing::debug!(kind = "route", "set {repair} on {}", overlay.name);
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
        tracing::debug!(%error, "cannot keep the kernel from giving the TUN device an IPv6 address");
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
            tracing::debug!(
                kind = "route",
                "removing the route {} dev {}",
                overlay.network,
                overlay.name
            );
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
