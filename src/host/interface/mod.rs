//! The choice of the interface that carries the traffic between hosts.

use std::net::Ipv4Addr;

use regex::Regex;

use super::netlink::{KernelRoute, Netlink, NetlinkError};
use crate::packet::wire::OVERHEAD;
pub(super) use host::ranked;
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
    /// MTU of the interface, in bytes.
    pub mtu: u32,
    /// The address that other hosts send to: `--public-ip`, else `address`.
    pub public_ip: Ipv4Addr,
    /// Why this interface was chosen, for the user.
    pub reason: String,
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
    /// No interface matches; the text lists every flag and every interface with the reason.
    #[error("{0}")]
    NoneFits(String),
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
    let reach = match options.can_reach {
        Some(target) => Some((target, netlink.route_to(target).await)),
        None => None,
    };
    let host = HostInterfaces {
        links: netlink.links().await?,
        addresses: netlink.addresses().await?,
        routes: netlink.routes().await?,
    };
    choose_among(&host, options, reach)
}

/// Tries every flag in order and collects why each did not yield an interface.
fn choose_among(
    host: &HostInterfaces,
    options: &InterfaceOptions,
    reach: Option<(Ipv4Addr, Result<KernelRoute, NetlinkError>)>,
) -> Result<ExternalInterface, InterfaceError> {
    let mut refused: Vec<(String, String)> = Vec::new();
    let done = |found: ChosenAddress, reason: String| ExternalInterface {
        index: found.link.index,
        name: found.link.name.clone(),
        address: found.address,
        mtu: found.link.mtu,
        public_ip: options.public_ip.unwrap_or(found.address),
        reason,
    };
    for value in &options.iface {
        match host.named(value) {
            Ok(found) => return Ok(done(found, format!("selected by --iface={value}"))),
            Err(why) => refused.push((format!("--iface={value}"), why)),
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
            Err(why) => refused.push((format!("--iface-regex={pattern}"), why)),
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
            Err(why) => refused.push((format!("--iface-can-reach={target}"), why)),
        }
    }
    if refused.is_empty() {
        if let Some(public_ip) = options.public_ip {
            match host.named(&public_ip.to_string()) {
                Ok(found) => return Ok(done(found, format!("it has --public-ip={public_ip}"))),
                Err(why) => refused.push((format!("--public-ip={public_ip}"), why)),
            }
        }
        match host.of_default_route() {
            Ok(found) => return Ok(done(found, "the default route uses it".into())),
            Err(why) => refused.push(("default route".into(), why)),
        }
    }
    Err(InterfaceError::NoneFits(host.explain(&refused)))
}

#[cfg(test)]
mod tests;
