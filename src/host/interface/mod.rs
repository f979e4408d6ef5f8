//! The choice of the interface that carries the traffic between hosts.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use regex::Regex;
use rtnetlink::packet_route::route::RouteType;

use super::netlink::{Address, KernelRoute, Link, Netlink, NetlinkError};
use crate::packet::wire::OVERHEAD;
use crate::route::Cidr;

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

/// The links, addresses and routes of the host.
struct HostInterfaces {
    links: Vec<Link>,
    addresses: Vec<Address>,
    routes: Vec<KernelRoute>,
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

/// An interface, and which of its addresses to use.
#[derive(Clone, Copy)]
struct ChosenAddress<'a> {
    link: &'a Link,
    address: Ipv4Addr,
}

impl HostInterfaces {
    /// Finds an interface by address if `value` is one, else by name.
    fn named(&self, value: &str) -> Result<ChosenAddress<'_>, String> {
        if let Ok(address) = value.parse::<Ipv4Addr>() {
            let owner = self.addresses.iter().find(|a| a.local == address);
            let link = owner.and_then(|a| self.links.iter().find(|l| l.index == a.index));
            let link = link.ok_or("no interface of this host has this address")?;
            check_mtu(link)?;
            return Ok(ChosenAddress { link, address });
        }
        if value.parse::<std::net::Ipv6Addr>().is_ok() {
            return Err("hosts are reached over IPv4, and this is an IPv6 address".into());
        }
        let link = self.links.iter().find(|l| l.name == value);
        self.usable(link.ok_or("no interface of this host has this name")?)
    }

    /// Matches the addresses of all interfaces first, then their names.
    fn matching(&self, regex: &Regex) -> Result<(ChosenAddress<'_>, String), String> {
        let mut last = "it matches no address and no name".to_owned();
        for link in &self.links {
            let matching =
                ranked(link, &self.addresses).into_iter().find(|a| regex.is_match(&a.to_string()));
            if let Some(address) = matching {
                match check_mtu(link) {
                    Ok(()) => {
                        return Ok((ChosenAddress { link, address }, format!("address {address}")));
                    }
                    Err(why) => last = format!("it matches {address} of {}, but {why}", link.name),
                }
            }
        }
        for link in self.links.iter().filter(|l| regex.is_match(&l.name)) {
            match self.usable(link) {
                Ok(found) => return Ok((found, format!("name {}", link.name))),
                Err(why) => last = format!("it matches {}, but {why}", link.name),
            }
        }
        Err(last)
    }

    /// Returns the output interface of a route, with the route's preferred source address.
    fn of_route(&self, route: &KernelRoute) -> Result<ChosenAddress<'_>, String> {
        let link = route.oif.and_then(|index| self.links.iter().find(|l| l.index == index));
        let link = link.ok_or("its route has no interface")?;
        match route.source {
            Some(address) if !address.is_loopback() => {
                check_mtu(link)?;
                Ok(ChosenAddress { link, address })
            }
            _ => self.usable(link),
        }
    }

    /// Returns the interface of the default route with the lowest metric.
    fn of_default_route(&self) -> Result<ChosenAddress<'_>, String> {
        let everywhere = Cidr::new(Ipv4Addr::UNSPECIFIED, 0);
        let mut defaults: Vec<_> = self
            .routes
            .iter()
            .filter(|r| {
                r.destination == everywhere && r.kind == RouteType::Unicast && r.oif.is_some()
            })
            .collect();
        defaults.sort_by_key(|route| route.priority);
        let Some(best) = defaults.first() else {
            return Err(
                "this host has no IPv4 default route; name an interface with --iface".into()
            );
        };
        self.of_route(best)
    }

    fn usable(&self, link: &Link) -> Result<ChosenAddress<'_>, String> {
        let link =
            self.links.iter().find(|l| l.index == link.index).ok_or("it no longer exists")?;
        check_mtu(link)?;
        let address = ranked(link, &self.addresses).first().copied().ok_or_else(|| {
            let any = self.addresses.iter().any(|a| a.index == link.index);
            if any { "it has only loopback addresses" } else { "it has no IPv4 address" }.to_owned()
        })?;
        Ok(ChosenAddress { link, address })
    }

    /// Returns the error message: every flag and every interface with the reason.
    fn explain(&self, refused: &[(String, String)]) -> String {
        let mut text = String::from("no usable network interface");
        for (flag, why) in refused {
            let _ = write!(text, "\n  {flag}: {why}");
        }
        text.push_str("\ninterfaces of this host:");
        for link in &self.links {
            let own = self.addresses.iter().filter(|a| a.index == link.index);
            let addresses: Vec<_> = own.map(|a| format!("{}/{}", a.local, a.prefix_len)).collect();
            let state = if link.up { "" } else { ", down" };
            let outcome = match self.usable(link) {
                Ok(_) => "usable, but not selected by any of the above".to_owned(),
                Err(why) => why,
            };
            let _ = write!(
                text,
                "\n  {} [{}] mtu {}{state}: {outcome}",
                link.name,
                addresses.join(" "),
                link.mtu
            );
        }
        text
    }
}

/// Returns the addresses of an interface that a socket can be bound to: global ones first, then
/// link-local ones, each in the kernel's order.
pub(super) fn ranked(link: &Link, addresses: &[Address]) -> Vec<Ipv4Addr> {
    let own = addresses.iter().filter(|a| a.index == link.index).map(|a| a.local);
    let mut usable: Vec<_> = own
        .filter(|a| {
            !(a.is_loopback() || a.is_multicast() || a.is_unspecified() || a.is_broadcast())
        })
        .collect();
    usable.sort_by_key(Ipv4Addr::is_link_local);
    usable
}

fn check_mtu(link: &Link) -> Result<(), String> {
    if link.mtu < MIN_OVERLAY_MTU + OVERHEAD as u32 {
        return Err(format!(
            "its MTU of {} leaves no room for encapsulation (at least {} is needed)",
            link.mtu,
            MIN_OVERLAY_MTU + OVERHEAD as u32
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
