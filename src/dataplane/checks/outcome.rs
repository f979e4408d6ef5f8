//! The decision of the checks about a packet, which workers apply and `explain` prints.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::dataplane::config::{CheckMode, Config};
use crate::route::{Cidr, NextHop, RouteTable};

/// The decision of a check about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckOutcome {
    /// The check is off.
    Off,
    /// The address is right.
    Passes,
    /// The source is in no lease, but its lease may be about to arrive: counted and delivered.
    Grace(GraceReason),
    /// The address is wrong: counted and reported.
    Fails {
        /// What is wrong with it.
        reason: MismatchReason,
        /// Whether the packet is dropped.
        dropped: bool,
    },
}

/// Why a packet whose source is in no lease is delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GraceReason {
    /// The route table is not in step with the lease store.
    RoutesStale,
    /// The packet is the first such packet of its sender, whose grace begins with it.
    FirstPacket,
    /// The sender has grace for the rest of this time.
    Running(Duration),
}

/// What is wrong with an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MismatchReason {
    /// The address is in the lease of this host.
    HeldBy(Ipv4Addr),
    /// The address is in no lease, and none can be about to arrive.
    Unleased,
    /// The address is in no lease, and the grace of the sender is over.
    GraceOver,
    /// The address is in no lease, and the table of senders with grace is full.
    GraceTableFull,
    /// The address is in no lease, and the check is enforced: only a host that has a lease has grace,
    /// and only while the route table is not in step with the lease store.
    NoGrace,
    /// The address is in a lease of the sending host, whose daemon sends from another port.
    OtherPort(Ipv4Addr),
}

impl MismatchReason {
    /// The host whose lease holds the address, if there is one.
    pub(super) fn holder(self) -> Option<Ipv4Addr> {
        match self {
            Self::HeldBy(holder) | Self::OtherPort(holder) => Some(holder),
            Self::Unleased | Self::GraceOver | Self::GraceTableFull | Self::NoGrace => None,
        }
    }
}

impl CheckOutcome {
    /// Whether the packet is dropped.
    pub fn drops(self) -> bool {
        matches!(self, Self::Fails { dropped: true, .. })
    }
}

/// The outcome of both checks of a received packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checked {
    /// The inner source.
    pub source: Ipv4Addr,
    /// The inner destination.
    pub destination: Ipv4Addr,
    /// The outcome of the check of the source.
    pub source_check: CheckOutcome,
    /// The outcome of the check of the destination. It has no effect where the check of the source
    /// drops the packet.
    pub destination_check: CheckOutcome,
}

impl Checked {
    /// Whether there is nothing to count or report.
    #[inline]
    pub fn passes(&self) -> bool {
        let passes = |outcome| matches!(outcome, CheckOutcome::Off | CheckOutcome::Passes);
        passes(self.source_check) && passes(self.destination_check)
    }
}

/// The modes of the checks, and the addresses that they compare with.
#[derive(Clone, Copy, Debug)]
pub struct CheckRules {
    pub(in crate::dataplane) source: CheckMode,
    pub(in crate::dataplane) destination: CheckMode,
    pub(in crate::dataplane) network: Cidr,
    pub(in crate::dataplane) subnet: Cidr,
    /// This host's underlay address, and the port of all daemons of the network.
    pub(in crate::dataplane) own: SocketAddrV4,
}

impl From<&Config> for CheckRules {
    fn from(config: &Config) -> Self {
        Self {
            source: config.source_check,
            destination: config.destination_check,
            network: config.network,
            subnet: config.subnet,
            own: config.bind,
        }
    }
}

impl CheckRules {
    /// Whether a datagram of `sender` comes from the daemon of the host `hop`: from its address and,
    /// where sources are checked, its port, which no other program of that host can use.
    #[inline]
    pub(in crate::dataplane) fn is_from(&self, hop: NextHop, sender: SocketAddrV4) -> bool {
        hop.ip == *sender.ip() && (hop.port == sender.port() || self.source == CheckMode::Off)
    }

    /// Checks an inner source. `is_senders` is true if it is in a lease of the outer sender. `grace_of`
    /// is called only if the address is in no lease, and returns whether the sender has grace.
    #[inline]
    pub(in crate::dataplane) fn source(
        &self,
        source: Ipv4Addr,
        sender: SocketAddrV4,
        is_senders: bool,
        routes: &RouteTable,
        grace_of: impl FnOnce() -> Result<GraceReason, MismatchReason>,
    ) -> CheckOutcome {
        match self.source {
            CheckMode::Off => CheckOutcome::Off,
            _ if is_senders => CheckOutcome::Passes,
            _ => self.source_mismatch(source, sender, routes, grace_of),
        }
    }

    #[cold]
    fn source_mismatch(
        &self,
        source: Ipv4Addr,
        sender: SocketAddrV4,
        routes: &RouteTable,
        grace_of: impl FnOnce() -> Result<GraceReason, MismatchReason>,
    ) -> CheckOutcome {
        let enforced = self.source == CheckMode::Enforce;
        let is_peer = || sender.port() == self.own.port() && routes.leads_to(*sender.ip());
        let reason = match self.holder(source, routes) {
            Some(holder) if holder == *sender.ip() && holder != *self.own.ip() => {
                MismatchReason::OtherPort(holder)
            }
            Some(holder) => MismatchReason::HeldBy(holder),
            None if !self.network.contains(source) => MismatchReason::Unleased,
            None => match grace_of() {
                // A stranger with grace could change its address, and have it for ever.
                Ok(reason) if enforced && !(reason == GraceReason::RoutesStale && is_peer()) => {
                    MismatchReason::NoGrace
                }
                Ok(reason) => return CheckOutcome::Grace(reason),
                Err(reason) => reason,
            },
        };
        CheckOutcome::Fails { reason, dropped: enforced }
    }

    /// Checks an inner destination.
    #[inline]
    pub(in crate::dataplane) fn destination(
        &self,
        destination: Ipv4Addr,
        routes: &RouteTable,
    ) -> CheckOutcome {
        match self.destination {
            CheckMode::Off => CheckOutcome::Off,
            _ if self.subnet.contains(destination) => CheckOutcome::Passes,
            _ => self.destination_mismatch(destination, routes),
        }
    }

    #[cold]
    fn destination_mismatch(&self, destination: Ipv4Addr, routes: &RouteTable) -> CheckOutcome {
        let holder = self.holder(destination, routes);
        let reason = holder.map_or(MismatchReason::Unleased, MismatchReason::HeldBy);
        CheckOutcome::Fails { reason, dropped: self.destination == CheckMode::Enforce }
    }

    fn holder(&self, address: Ipv4Addr, routes: &RouteTable) -> Option<Ipv4Addr> {
        if self.subnet.contains(address) {
            Some(*self.own.ip())
        } else {
            routes.lookup(address).map(|hop| hop.ip)
        }
    }
}
