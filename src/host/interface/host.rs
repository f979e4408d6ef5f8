//! The interfaces of a host, and how a flag finds one among them.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use regex::Regex;
use rtnetlink::packet_route::route::RouteType;

use super::{ExternalInterface, InterfaceOptions, MIN_OVERLAY_MTU, NamedBy, OVERHEAD};
use crate::host::netlink::{Address, KernelRoute, Link};
use crate::route::{Cidr, ipv4};

/// The links, addresses and routes of the host.
pub(super) struct HostInterfaces {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
    pub(super) routes: Vec<KernelRoute>,
}

/// An interface, and which of its addresses to use.
#[derive(Clone, Copy)]
pub(super) struct ChosenAddress<'a> {
    link: &'a Link,
    address: Ipv4Addr,
}

impl ChosenAddress<'_> {
    pub(super) fn chosen(
        self,
        host: &HostInterfaces,
        options: &InterfaceOptions,
        reason: String,
        named_by: Option<NamedBy>,
    ) -> ExternalInterface {
        let (way_out, mtu) = host.way_out(self.link);
        ExternalInterface {
            index: self.link.index,
            name: self.link.name.clone(),
            address: self.address,
            mtu,
            way_out,
            public_ip: options.public_ip.unwrap_or(self.address),
            reason,
            named_by,
        }
    }
}

/// MTU of Ethernet, in bytes (RFC 894): assumed where no route says which way packets leave.
const ETHERNET_MTU: u32 = 1500;

/// Interfaces that are stacked on each other, such as a card, its bond and the bridge over it; a
/// limit, because the list that the kernel gives may change while it is read.
const MAX_STACKED: usize = 8;

impl HostInterfaces {
    /// Returns the interface that was chosen, if it still has the chosen address.
    pub(super) fn kept(&self, chosen: &ExternalInterface) -> Option<&Link> {
        let has = |a: &Address| a.index == chosen.index && a.local == chosen.address;
        self.links.iter().find(|l| l.index == chosen.index && self.addresses.iter().any(has))
    }

    /// Index and MTU of the interface that packets from an address of `link` leave through. An
    /// address may be on the loopback interface because it is routed to the host: the interface of
    /// the default route counts then, else that of the smallest MTU on the way to any gateway.
    pub(super) fn way_out(&self, link: &Link) -> (Option<u32>, u32) {
        let leads_out = |route: &KernelRoute| {
            self.links.iter().find(|l| Some(l.index) == route.oif && !l.internal)
        };
        let by_default = || self.default_route().and_then(leads_out);
        let gateways = || self.routes.iter().filter(|route| route.gateway.is_some());
        let by_gateway = || gateways().filter_map(leads_out).min_by_key(|link| link.mtu);
        let out = (!link.internal).then_some(link).or_else(by_default).or_else(by_gateway);
        (out.map(|link| link.index), out.map_or(ETHERNET_MTU, |link| link.mtu))
    }

    /// Finds an interface by address if `value` is one, else by name.
    pub(super) fn named(&self, value: &str) -> Result<ChosenAddress<'_>, String> {
        if let Some(address) = ipv4(value) {
            let owner = self.addresses.iter().find(|a| a.local == address);
            let link = owner.and_then(|a| self.links.iter().find(|l| l.index == a.index));
            let link = link.ok_or("no interface of this host has this address")?;
            check_mtu(link)?;
            return Ok(ChosenAddress { link, address });
        }
        if value.parse::<std::net::Ipv6Addr>().is_ok() {
            return Err("hosts are reached over IPv4, and this is an IPv6 address".into());
        }
        let link = self.by_name(|name| name == value).next();
        self.usable(link.ok_or("no interface of this host has this name")?)
    }

    /// The interfaces whose name `fits`, then those of which only an alternative name does.
    fn by_name(&self, fits: impl Fn(&str) -> bool + Copy) -> impl Iterator<Item = &Link> {
        let first = self.links.iter().filter(move |link| fits(&link.name));
        let other =
            move |link: &&Link| !fits(&link.name) && link.alt_names.iter().any(|name| fits(name));
        first.chain(self.links.iter().filter(other))
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
        for link in self.by_name(|name| regex.is_match(name)) {
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
        // The kernel's answer may name an address that is left out here, that of the TUN device.
        let known = |source: &Ipv4Addr| self.addresses.iter().any(|a| a.local == *source);
        match route.source.filter(known) {
            Some(address) if !address.is_loopback() => {
                check_mtu(link)?;
                Ok(ChosenAddress { link, address })
            }
            _ => self.usable(link),
        }
    }

    /// Returns the interface of the default route.
    pub(super) fn of_default_route(&self) -> Result<ChosenAddress<'_>, String> {
        match self.default_route() {
            Some(route) => self.of_route(route),
            None => {
                Err("this host has no IPv4 default route; name an interface with --iface".into())
            }
        }
    }

    /// The default route with the lowest metric.
    fn default_route(&self) -> Option<&KernelRoute> {
        let everywhere = Cidr::new(Ipv4Addr::UNSPECIFIED, 0);
        let defaults = self.routes.iter().filter(|r| {
            r.destination == everywhere && r.kind == RouteType::Unicast && r.oif.is_some()
        });
        defaults.min_by_key(|route| route.priority)
    }

    /// The best address of an interface. The address of a card that is a port of a bridge or a bond is
    /// on that.
    fn usable<'a>(&'a self, link: &'a Link) -> Result<ChosenAddress<'a>, String> {
        check_mtu(link)?;
        let over = |link: &&'a Link| {
            let over = self.links.iter().find(|over| Some(over.index) == link.controller)?;
            // A VRF leaves its ports their addresses, and its own are those of a loopback interface.
            (!over.internal).then_some(over)
        };
        let stack = std::iter::successors(Some(link), over).take(MAX_STACKED);
        let addresses = stack.flat_map(|link| {
            let ranked = ranked(link, &self.addresses).into_iter();
            ranked.map(move |address| ChosenAddress { link, address })
        });
        let Some(found) = addresses.min_by_key(|found| found.address.is_link_local()) else {
            let any = self.addresses.iter().any(|a| a.index == link.index);
            let why = if any { "it has only loopback addresses" } else { "it has no IPv4 address" };
            return Err(why.to_owned());
        };
        check_mtu(found.link)?;
        Ok(found)
    }

    /// Describes every interface and why it is not used, a line each.
    pub(super) fn describe(&self) -> String {
        let mut text = String::new();
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
fn ranked(link: &Link, addresses: &[Address]) -> Vec<Ipv4Addr> {
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
            "its MTU of {} leaves no room for encapsulation (the minimum is {})",
            link.mtu,
            MIN_OVERLAY_MTU + OVERHEAD as u32
        ));
    }
    Ok(())
}
