//! The decision of the checks about a packet, which workers apply and `explain` prints.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use serde::{Deserialize, Serialize};

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
        /// Why the packet is dropped; `None` if it is delivered.
        dropped: Option<DroppedBy>,
    },
}

/// The rule by which a packet that fails a check is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DroppedBy {
    /// The check is enforced.
    Enforce,
    /// It was not sent by the daemon of a host that has a lease.
    Stranger,
    /// Its destination is outside of this host's subnet, and no other host's lease has its source.
    Relay,
    /// The route table is not in step with the lease store, and too many packets came from hosts that it does
    /// not know.
    Budget,
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
    /// The address is in no lease, and the packet is not for this host's subnet.
    BeyondSubnet,
    /// The address is in no lease, and the sender is one of too many that the route table, which is not in step
    /// with the lease store, does not know.
    BudgetSpent,
    /// The address is in a lease of the sending host, whose daemon sends from another port.
    OtherPort(Ipv4Addr),
}

impl MismatchReason {
    /// The host whose lease holds the address, if there is one.
    pub(super) fn holder(self) -> Option<Ipv4Addr> {
        match self {
            Self::HeldBy(holder) | Self::OtherPort(holder) => Some(holder),
            Self::Unleased
            | Self::GraceOver
            | Self::GraceTableFull
            | Self::NoGrace
            | Self::BeyondSubnet
            | Self::BudgetSpent => None,
        }
    }
}

impl CheckOutcome {
    /// Whether the packet is dropped.
    pub fn drops(self) -> bool {
        matches!(self, Self::Fails { dropped: Some(_), .. })
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

    /// Checks the inner source of a packet to `destination`. `is_senders` is true if it is in a lease of the outer
    /// sender. `grace_of` is called only if the address is in no lease; its argument says whether the sender is
    /// the daemon of a host that has a lease, and it returns whether the sender has grace.
    #[inline]
    pub(in crate::dataplane) fn source(
        &self,
        [source, destination]: [Ipv4Addr; 2],
        sender: SocketAddrV4,
        is_senders: bool,
        routes: &RouteTable,
        grace_of: impl FnOnce(bool) -> Result<GraceReason, MismatchReason>,
    ) -> CheckOutcome {
        match self.source {
            CheckMode::Off => CheckOutcome::Off,
            _ if is_senders => CheckOutcome::Passes,
            _ => self.source_mismatch([source, destination], sender, routes, grace_of),
        }
    }

    #[cold]
    fn source_mismatch(
        &self,
        [source, destination]: [Ipv4Addr; 2],
        sender: SocketAddrV4,
        routes: &RouteTable,
        grace_of: impl FnOnce(bool) -> Result<GraceReason, MismatchReason>,
    ) -> CheckOutcome {
        let is_peer = sender.port() == self.own.port() && routes.leads_to(*sender.ip());
        let is_for_here = self.subnet.contains(destination);
        let holder = self.holder(source, routes);
        let reason = match holder {
            Some(holder) if holder == *sender.ip() && holder != *self.own.ip() => {
                MismatchReason::OtherPort(holder)
            }
            Some(holder) => MismatchReason::HeldBy(holder),
            None if !self.network.contains(source) => MismatchReason::Unleased,
            None if !is_for_here => MismatchReason::BeyondSubnet,
            None => match grace_of(is_peer) {
                Ok(reason) if self.tolerates(reason, is_peer) => {
                    return CheckOutcome::Grace(reason);
                }
                Ok(_) => MismatchReason::NoGrace,
                Err(reason) => reason,
            },
        };
        let is_anothers = holder.is_some_and(|holder| holder != *self.own.ip());
        let dropped = match self.source {
            CheckMode::Enforce => Some(DroppedBy::Enforce),
            CheckMode::Peers if reason == MismatchReason::BudgetSpent => Some(DroppedBy::Budget),
            CheckMode::Peers if !is_peer => Some(DroppedBy::Stranger),
            _ if !is_for_here && !is_anothers => Some(DroppedBy::Relay),
            _ => None,
        };
        CheckOutcome::Fails { reason, dropped }
    }

    /// Whether a sender may use its grace. A stranger could change its address, and have grace for ever.
    fn tolerates(&self, grace: GraceReason, is_peer: bool) -> bool {
        let is_stale = grace == GraceReason::RoutesStale;
        match self.source {
            CheckMode::Enforce => is_stale && is_peer,
            CheckMode::Peers => is_stale || is_peer,
            CheckMode::Log | CheckMode::Off => true,
        }
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
        let dropped = (self.destination == CheckMode::Enforce).then_some(DroppedBy::Enforce);
        CheckOutcome::Fails { reason, dropped }
    }

    fn holder(&self, address: Ipv4Addr, routes: &RouteTable) -> Option<Ipv4Addr> {
        if self.subnet.contains(address) {
            Some(*self.own.ip())
        } else {
            routes.lookup(address).map(|hop| hop.ip)
        }
    }
}
