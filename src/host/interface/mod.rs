//! The choice of the interface that carries the traffic between hosts.

use std::fmt;
use std::net::Ipv4Addr;

use regex::Regex;

use super::netlink::{KernelRoute, Netlink, NetlinkError};
use crate::packet::wire::OVERHEAD;
use crate::route::Cidr;
use host::{ChosenAddress, HostInterfaces};

mod host;

/// The flags that determine the choice.
#[derive(Clone, Debug, Default)]
pub struct InterfaceOptions {
    /// `--iface`: names or addresses; the first usable one is chosen.
    pub iface: Vec<String>,
    /// `--iface-regex`: matched against addresses, then against names; after `iface`.
    pub iface_regex: Vec<String>,
    /// `--iface-can-reach`: the interface of the route to this address; after `iface_regex`.
    pub can_reach: Option<Ipv4Addr>,
    /// `--public-ip`: the address that other hosts send to.
    pub public_ip: Option<Ipv4Addr>,
}

/// The interface that carries the traffic between hosts; the name is that of flannel's source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalInterface {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// The address to bind to.
    pub address: Ipv4Addr,
    /// MTU of the interface that packets from `address` leave through, in bytes.
    pub mtu: u32,
    /// Index of that interface: another one if the address is on the loopback interface, because it
    /// is routed to this host. `None` if no route says which.
    pub way_out: Option<u32>,
    /// The address that other hosts send to: `--public-ip`, else `address`.
    pub public_ip: Ipv4Addr,
    /// Why this interface was chosen, for the user.
    pub reason: String,
    /// The flag that named the interface or its address; `None` if the host's addresses or routes
    /// decided.
    pub named_by: Option<NamedBy>,
}

/// A flag that names an interface or an address, with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedBy {
    flag: &'static str,
    value: String,
}

impl fmt::Display for NamedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{}={}", self.flag, self.value)
    }
}

/// No interface can be used.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// A value of `--iface-regex` is not a valid regular expression.
    #[error("--iface-regex={regex} is not a valid regular expression: {why}")]
    Regex {
        /// The value.
        regex: String,
        /// What is wrong with it.
        why: String,
    },
    /// No interface matches.
    #[error("no usable network interface\n  {}\ninterfaces of this host:{interfaces}", refused.join("\n  "))]
    NoneFits {
        /// Each flag, and why it did not yield an interface.
        refused: Vec<String>,
        /// Every interface of the host, with the reason.
        interfaces: String,
    },
    /// The kernel rejected a netlink request.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Smallest MTU of an IPv4 link, in bytes (RFC 791 §3.2).
const MIN_OVERLAY_MTU: u32 = 68;

/// Chooses the interface as flannel does: all of `iface` in order, then all of `iface_regex`, then
/// `can_reach`; without any of these flags, the interface that has `public_ip`, else the interface
/// of the default route.
///
/// # Errors
/// No interface is usable, a regular expression is invalid, or the kernel rejects a request.
pub async fn choose(options: &InterfaceOptions) -> Result<ExternalInterface, InterfaceError> {
    let netlink = Netlink::connect()?;
    let reach = reach(&netlink, options).await;
    let host = HostInterfaces {
        links: netlink.links().await?,
        addresses: netlink.addresses().await?,
        routes: netlink.routes().await?,
    };
    choose_among(&host, options, reach)
}

type Reach = Option<(Ipv4Addr, Result<KernelRoute, NetlinkError>)>;

async fn reach(netlink: &Netlink, options: &InterfaceOptions) -> Reach {
    match options.can_reach {
        Some(target) => Some((target, netlink.route_to(target).await)),
        None => None,
    }
}

/// Where the underlay address is after a change of the host's interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The address in use is there, on this interface.
    There(ExternalInterface),
    /// It is gone, and the flags lead to this other address.
    Elsewhere(ExternalInterface),
    /// It is gone, and there is no other for this reason.
    Nowhere(String),
}

/// Finds the interface again that `current` was at the last look.
///
/// Nothing changes while the interface has the address in use, whatever else would be chosen now.
/// Otherwise a flag that named `current` is tried alone, since what it names is waited for; if none
/// did, the choice is made again with all flags. Addresses in `own_subnet` are not for traffic
/// between hosts: the TUN device and the bridge of the containers have them.
///
/// # Errors
/// The kernel rejects a request.
pub async fn follow(
    netlink: &Netlink,
    options: &InterfaceOptions,
    current: &ExternalInterface,
    own_subnet: Cidr,
) -> Result<Followed, NetlinkError> {
    let mut host = HostInterfaces {
        links: netlink.links().await?,
        addresses: netlink.addresses().await?,
        routes: Vec::new(),
    };
    if host.kept(current).is_some_and(|link| !link.internal) {
        return Ok(follow_among(&host, options, current, None));
    }
    host.routes = netlink.routes().await?;
    host.addresses.retain(|address| !own_subnet.contains(address.local));
    Ok(follow_among(&host, options, current, reach(netlink, options).await))
}

fn follow_among(
    host: &HostInterfaces,
    options: &InterfaceOptions,
    current: &ExternalInterface,
    reach: Reach,
) -> Followed {
    if let Some(link) = host.kept(current) {
        let (name, (way_out, mtu)) = (link.name.clone(), host.way_out(link));
        return Followed::There(ExternalInterface { name, mtu, way_out, ..current.clone() });
    }
    let found = match &current.named_by {
        Some(named) => host
            .named(&named.value)
            .map(|found| found.chosen(host, options, current.reason.clone(), Some(named.clone())))
            .map_err(|why| format!("{named}: {why}")),
        None => choose_among(host, options, reach).map_err(|error| match error {
            InterfaceError::NoneFits { refused, .. } => refused.join("; "),
            error => error.to_string(),
        }),
    };
    match found {
        Ok(found) if found.address == current.address => Followed::There(found),
        Ok(found) if found.address.is_link_local() && !current.address.is_link_local() => {
            Followed::Nowhere(format!(
                "{} has only the link-local address {}",
                found.name, found.address
            ))
        }
        Ok(found) => Followed::Elsewhere(found),
        Err(why) => Followed::Nowhere(why),
    }
}

/// Tries every flag in order and collects why each did not yield an interface.
fn choose_among(
    host: &HostInterfaces,
    options: &InterfaceOptions,
    reach: Reach,
) -> Result<ExternalInterface, InterfaceError> {
    let mut refused: Vec<String> = Vec::new();
    let done = |found: ChosenAddress, reason: String| found.chosen(host, options, reason, None);
    for value in &options.iface {
        let named = NamedBy { flag: "iface", value: value.clone() };
        match host.named(value) {
            Ok(found) => {
                let reason = format!("selected by {named}");
                return Ok(found.chosen(host, options, reason, Some(named)));
            }
            Err(why) => refused.push(format!("{named}: {why}")),
        }
    }
    for pattern in &options.iface_regex {
        let regex = Regex::new(pattern).map_err(|error| InterfaceError::Regex {
            regex: pattern.clone(),
            why: error.to_string(),
        })?;
        match host.matching(&regex) {
            Ok((found, what)) => {
                return Ok(done(found, format!("--iface-regex={pattern} matches its {what}")));
            }
            Err(why) => refused.push(format!("--iface-regex={pattern}: {why}")),
        }
    }
    if let Some((target, route)) = reach {
        let found = match route {
            Ok(route) => host.of_route(&route),
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(found) => {
                return Ok(done(found, format!("the route to --iface-can-reach={target} uses it")));
            }
            Err(why) => refused.push(format!("--iface-can-reach={target}: {why}")),
        }
    }
    if refused.is_empty() {
        if let Some(public_ip) = options.public_ip {
            let named = NamedBy { flag: "public-ip", value: public_ip.to_string() };
            match host.named(&named.value) {
                Ok(found) => {
                    let reason = format!("it has {named}");
                    return Ok(found.chosen(host, options, reason, Some(named)));
                }
                Err(why) => refused.push(format!("{named}: {why}")),
            }
        }
        match host.of_default_route() {
            Ok(found) => return Ok(done(found, "the default route uses it".into())),
            Err(why) => refused.push(format!("default route: {why}")),
        }
    }
    Err(InterfaceError::NoneFits { refused, interfaces: host.describe() })
}

#[cfg(test)]
mod tests;
