//! Follows the interface between hosts.

use std::net::Ipv4Addr;

use crate::host::interface::{self, ExternalInterface};
use crate::host::netlink::{Link, Netlink, NetlinkError};

/// The current state of the interface between hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnderlayState {
    /// Interface index; `None` while there is no interface of that name.
    pub index: Option<u32>,
    /// MTU in bytes; while the interface is gone, its last known MTU.
    pub mtu: u32,
    /// The address to bind to: the one in use while the interface has it, else the first usable
    /// one.
    pub address: Option<Ipv4Addr>,
}

/// The interface between hosts as it was at the last check.
pub(super) struct Underlay {
    name: String,
    state: UnderlayState,
}

impl Underlay {
    pub(super) fn new(interface: ExternalInterface) -> Self {
        let state = UnderlayState {
            index: Some(interface.index),
            mtu: interface.mtu,
            address: Some(interface.address),
        };
        Self { name: interface.name, state }
    }

    /// Whether this is the interface with `index`.
    pub(super) fn has_index(&self, index: u32) -> bool {
        self.state.index == Some(index)
    }

    /// Whether `link` is this interface, or has its name.
    pub(super) fn is(&self, link: &Link) -> bool {
        self.has_index(link.index) || link.name == self.name
    }

    /// Returns the state if it has changed since the last check.
    pub(super) async fn check(
        &mut self,
        netlink: &Netlink,
    ) -> Result<Option<UnderlayState>, NetlinkError> {
        let links = netlink.links().await?;
        let by_index = links.iter().find(|link| self.has_index(link.index));
        // A renamed interface keeps its index; one that was deleted and created again has another.
        let link = by_index.or_else(|| links.iter().find(|link| link.name == self.name));
        let now = match link {
            None => UnderlayState { index: None, address: None, ..self.state },
            Some(link) => {
                let addresses = netlink.addresses().await?;
                let ranked = interface::ranked(link, &addresses);
                let kept = self.state.address.filter(|address| ranked.contains(address));
                UnderlayState {
                    index: Some(link.index),
                    mtu: link.mtu,
                    address: kept.or_else(|| ranked.first().copied()),
                }
            }
        };
        if now == self.state {
            return Ok(None);
        }
        tracing::debug!(
            interface = %self.name,
            "the interface between hosts has changed: {}",
            describe(&self.state, &now)
        );
        self.state = now;
        Ok(Some(now))
    }
}

fn describe(was: &UnderlayState, now: &UnderlayState) -> String {
    let mut words = Vec::new();
    match (was.index, now.index) {
        (Some(_), None) => words.push("deleted".to_owned()),
        (None, Some(_)) => words.push("created".to_owned()),
        (Some(a), Some(b)) if a != b => words.push("deleted and created again".to_owned()),
        _ => {}
    }
    if was.mtu != now.mtu {
        words.push(format!("MTU {} instead of {}", now.mtu, was.mtu));
    }
    if was.address != now.address {
        let text = |a: Option<Ipv4Addr>| a.map_or("no address".to_owned(), |a| a.to_string());
        words.push(format!("{} instead of {}", text(now.address), text(was.address)));
    }
    words.join(", ")
}
