//! The interfaces of a host, and how a flag finds one among them.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use regex::Regex;
use rtnetlink::packet_route::route::RouteType;

use super::{MIN_OVERLAY_MTU, OVERHEAD};
use crate::host::netlink::{Address, KernelRoute, Link};
use crate::route::Cidr;

/// The links, addresses and routes of the host.
pub(super) struct HostInterfaces {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
    pub(super) routes: Vec<KernelRoute>,
}

/// An interface, and which of its addresses to use.
#[derive(Clone, Copy)]
pub(super) struct ChosenAddress<'a> {
    pub(super) link: &'a Link,
    pub(super) address: Ipv4Addr,
}

impl HostInterfaces {
    /// Finds an interface by address if `value` is one, else by name.
    pub(super) fn named(&self, value: &str) -> Result<ChosenAddress<'_>, String> {
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
    pub(super) fn matching(&self, regex: &Regex) -> Result<(ChosenAddress<'_>, String), String> {
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
    pub(super) fn of_route(&self, route: &KernelRoute) -> Result<ChosenAddress<'_>, String> {
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
    pub(super) fn of_default_route(&self) -> Result<ChosenAddress<'_>, String> {
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
    pub(super) fn explain(&self, refused: &[(String, String)]) -> String {
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
pub(in crate::host) fn ranked(link: &Link, addresses: &[Address]) -> Vec<Ipv4Addr> {
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
