//! Keeps the outer network out of the inner one: what the daemon sends must never come back to it
//! through its own device, and the overlay's route must not hide what this host itself depends on.
//!
//! [`analysis`] decides, from facts and without side effects. [`OuterNetwork`] gathers the facts: it
//! is the only place that asks the kernel.

pub mod analysis;
mod name_servers;
mod next_hops;
mod stores;

use std::net::Ipv4Addr;

use tokio::sync::watch;

pub use analysis::{Dependency, Overlay, Routing};
pub use name_servers::RESOLV_CONF;
pub use next_hops::{Hops, NextHopCheck};

use super::netlink::{Netlink, NetlinkError, RouteQuestion};
use crate::route::Cidr;
use name_servers::NameServers;

/// The networks and servers outside of the overlay.
#[derive(Clone, Debug)]
pub struct OuterNetwork {
    netlink: Netlink,
    /// The addresses of the lease store's servers.
    stores: watch::Receiver<Vec<Ipv4Addr>>,
    name_servers: NameServers,
}

impl OuterNetwork {
    /// Connects to the kernel, and finds the addresses of `servers`, the servers of the lease store
    /// in use. Names are resolved again from time to time.
    ///
    /// # Errors
    /// The kernel refuses a routing socket.
    pub async fn connect(servers: Vec<(String, u16)>) -> Result<Self, NetlinkError> {
        let name_servers = NameServers::default();
        Ok(Self {
            netlink: Netlink::connect()?,
            stores: stores::follow(servers).await,
            name_servers,
        })
    }

    /// Reads everything that decides where the kernel sends packets.
    ///
    /// # Errors
    /// The kernel refuses a request.
    pub async fn routing(&self) -> Result<Routing, NetlinkError> {
        Ok(Routing {
            routes: self.netlink.routes_of_all_tables().await?,
            rules: self.netlink.rules().await?,
            addresses: self.netlink.addresses().await?,
            links: self.netlink.links().await?,
        })
    }

    /// What this host depends on and could not reach any more, or only in part, through the
    /// overlay's route.
    pub async fn collisions(&self, overlay: &Overlay, routing: &Routing) -> Vec<Dependency> {
        let mut hidden = analysis::hidden_networks(overlay, routing);
        let stores = self.stores.borrow().clone();
        for dependency in
            analysis::dependencies(overlay, routing, &stores, &name_servers::configured())
        {
            let Some(address) = dependency.address() else { continue };
            // Without a way to it there is nothing that the overlay's route could take away.
            let Ok(chosen) = self.netlink.chosen_route(&RouteQuestion::to(address)).await else {
                continue;
            };
            if !analysis::enters_overlay(overlay, routing, address, Some(&chosen)) {
                continue;
            }
            if matches!(dependency, Dependency::NameServer(_)) {
                let beside = analysis::way_beside(overlay, routing, address, &chosen);
                let interface = routing.links.iter().find(|link| Some(link.index) == beside);
                let Some(interface) = interface else { continue };
                if !self.name_servers.answers(address, &interface.name).await {
                    continue;
                }
            }
            hidden.push(dependency);
        }
        hidden
    }
}

/// Why a host may not be announced under `address`: it lies in a subnet of the overlay itself.
/// `leased` are the subnets that are leased to others, `own` the one that is or would be this
/// host's.
pub fn refusal(address: Ipv4Addr, own: Option<Cidr>, leased: &[Cidr]) -> Option<String> {
    let of = |subnet: Cidr, whose: &str| {
        format!(
            "the address {address} of this host lies in the subnet {subnet}, {whose}: other hosts cannot \
             reach it outside the overlay"
        )
    };
    if let Some(own) = own.filter(|own| own.contains(address)) {
        return Some(of(own, "which is leased to this host's own containers"));
    }
    let other = leased.iter().find(|subnet| subnet.contains(address))?;
    Some(of(*other, "which is leased to another host"))
}
