//! What the checks say of a packet: the one verdict on which workers act and which `explain` tells.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::dataplane::config::{CheckMode, Config};
use crate::route::{Cidr, RouteTable};

/// What a check says of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The check is off: nobody looks.
    Off,
    /// All is well.
    Passes,
    /// The source is in nobody's lease, which may be on its way: counted and carried.
    Early(Early),
    /// It is not as it should be: counted and told.
    Fails {
        /// What is wrong.
        why: Why,
        /// Whether it is dropped.
        dropped: bool,
    },
}

/// Why a source in nobody's lease is borne with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Early {
    /// The route table is not in step with the registry.
    Blind,
    /// It is the first such packet of its sender, whose grace begins with it.
    First,
    /// Its sender has grace, for so much longer.
    Grace(Duration),
}

/// What is wrong with an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It is in the lease of this host.
    Held(Ipv4Addr),
    /// It is in no lease, nor is one to be expected.
    Nobodys,
    /// It is in no lease, and the grace of its sender is over.
    Late,
    /// It is in no lease, and too many other senders have grace.
    Crowded,
}

impl Why {
    /// The host whose lease holds the address, if there is one.
    pub(super) fn holder(self) -> Option<Ipv4Addr> {
        match self {
            Self::Held(holder) => Some(holder),
            Self::Nobodys | Self::Late | Self::Crowded => None,
        }
    }
}

impl Verdict {
    /// Whether the packet is dropped.
    pub fn drops(self) -> bool {
        matches!(self, Self::Fails { dropped: true, .. })
    }
}

/// What is checked against what.
#[derive(Clone, Copy)]
pub(in crate::dataplane) struct Rules {
    pub(super) source: CheckMode,
    pub(super) destination: CheckMode,
    pub(super) network: Cidr,
    pub(super) subnet: Cidr,
    /// This host's address between hosts.
    pub(super) own: Ipv4Addr,
}

impl From<&Config> for Rules {
    fn from(config: &Config) -> Self {
        Self {
            source: config.source_check,
            destination: config.destination_check,
            network: config.network,
            subnet: config.subnet,
            own: *config.bind.ip(),
        }
    }
}

impl Rules {
    /// The verdict on an inner source, of which is known whether it is in a lease of the outer
    /// sender's. `early` says how that sender stands, if it comes to that.
    pub(in crate::dataplane) fn source(
        &self,
        source: Ipv4Addr,
        is_senders: bool,
        routes: &RouteTable,
        early: impl FnOnce() -> Result<Early, Why>,
    ) -> Verdict {
        if let Some(verdict) = self.source_at_once(is_senders) {
            return verdict;
        }
        let why = match self.holder(source, routes) {
            Some(holder) => Why::Held(holder),
            None if !self.network.contains(source) => Why::Nobodys,
            None => match early() {
                Ok(early) => return Verdict::Early(early),
                Err(why) => why,
            },
        };
        Verdict::Fails { why, dropped: self.source == CheckMode::Enforce }
    }

    /// The verdict on an inner destination.
    pub(in crate::dataplane) fn destination(
        &self,
        destination: Ipv4Addr,
        routes: &RouteTable,
    ) -> Verdict {
        if let Some(verdict) = self.destination_at_once(destination) {
            return verdict;
        }
        let why = self.holder(destination, routes).map_or(Why::Nobodys, Why::Held);
        Verdict::Fails { why, dropped: self.destination == CheckMode::Enforce }
    }

    /// The part of [`Self::source`] that a packet goes through with which all is well.
    #[inline]
    pub(super) fn source_at_once(&self, is_senders: bool) -> Option<Verdict> {
        match (is_senders, self.source) {
            (_, CheckMode::Off) => Some(Verdict::Off),
            (true, _) => Some(Verdict::Passes),
            (false, _) => None,
        }
    }

    /// The same of [`Self::destination`].
    #[inline]
    pub(super) fn destination_at_once(&self, destination: Ipv4Addr) -> Option<Verdict> {
        match self.destination {
            CheckMode::Off => Some(Verdict::Off),
            _ if self.subnet.contains(destination) => Some(Verdict::Passes),
            _ => None,
        }
    }

    fn holder(&self, address: Ipv4Addr, routes: &RouteTable) -> Option<Ipv4Addr> {
        match self.subnet.contains(address) {
            true => Some(self.own),
            false => routes.lookup(address).map(|hop| hop.ip),
        }
    }
}
