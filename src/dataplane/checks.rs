//! The checks of what comes in: whether the inner source belongs to the outer sender's lease, and
//! whether the inner destination is ours. What fails is told to control, which names it.
//!
//! Only packets that fail come here. A worker tells control through a bounded channel that nobody
//! waits on: no lock, no system call. Each sender and inner address is told once between two looks
//! of control's, so that a flood of one does not hide another.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

use super::config::{CheckMode, Config};
use super::counters::{DirectionCounters, DropReason};
use crate::packet::ipv4::Ipv4;
use crate::route::{Cidr, RouteTable};

mod grace;
mod recent;

use grace::Grace;
pub use recent::{Mismatches, RecentMismatch};

/// A check of packets that come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// The inner source belongs to the lease of the outer sender.
    Source,
    /// The inner destination is in the own subnet.
    Destination,
}

/// A packet that failed a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// The check.
    pub check: Check,
    /// Inner source.
    pub source: Ipv4Addr,
    /// Inner destination.
    pub destination: Ipv4Addr,
    /// Outer sender.
    pub sender: SocketAddrV4,
    /// The host whose lease holds the address that failed; `None` if no lease does.
    pub holder: Option<Ipv4Addr>,
    /// Whether it was dropped.
    pub dropped: bool,
}

/// What control and the workers of a data plane share about the checks.
pub(super) struct Desk {
    reports: Receiver<Mismatch>,
    sender: Sender<Mismatch>,
    notes: Arc<Notes>,
}

/// Control's notes to the workers.
struct Notes {
    /// The route table may lack leases: it is not in step with the registry.
    blind: AtomicBool,
    /// Moves whenever control has read its mail.
    issue: AtomicU32,
}

impl Desk {
    pub(super) fn new() -> Self {
        let (sender, reports) = bounded(REPORTS);
        let notes = Notes { blind: AtomicBool::new(true), issue: AtomicU32::new(1) };
        Self { reports, sender, notes: Arc::new(notes) }
    }

    /// Whether the route table may lack leases.
    pub(super) fn set_blind(&self, blind: bool) {
        self.notes.blind.store(blind, Ordering::Relaxed);
    }

    /// What has been told since the last time.
    pub(super) fn read(&self) -> Vec<Mismatch> {
        let reports = self.reports.try_iter().take(REPORTS).collect();
        self.notes.issue.fetch_add(1, Ordering::Relaxed);
        reports
    }
}

/// What is checked against what.
#[derive(Clone, Copy)]
pub(super) struct Rules {
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

/// The checks in one thread.
pub(super) struct Checks {
    rules: Rules,
    routes: Arc<RouteTable>,
    reports: Sender<Mismatch>,
    notes: Arc<Notes>,
    grace: Grace,
    told: [Told; TOLD],
}

/// Who has been told in which issue.
#[derive(Clone, Copy)]
struct Told {
    issue: u32,
    check: Check,
    sender: Ipv4Addr,
    subject: Ipv4Addr,
}

impl Checks {
    pub(super) fn new(rules: Rules, routes: &Arc<RouteTable>, desk: &Desk) -> Self {
        let nobody = Told {
            issue: 0,
            check: Check::Source,
            sender: Ipv4Addr::UNSPECIFIED,
            subject: Ipv4Addr::UNSPECIFIED,
        };
        Self {
            rules,
            routes: Arc::clone(routes),
            reports: desk.sender.clone(),
            notes: Arc::clone(&desk.notes),
            grace: Grace::default(),
            told: [nobody; TOLD],
        }
    }

    /// Whether `ip`, which came from `sender`, is refused. `is_senders` says that the inner source is
    /// in a lease of the sender's.
    #[inline]
    pub(super) fn refuse(
        &mut self,
        counters: &DirectionCounters,
        sender: SocketAddrV4,
        ip: &Ipv4<&[u8]>,
        is_senders: bool,
    ) -> Option<DropReason> {
        let Rules { source, destination, subnet, .. } = self.rules;
        if !is_senders && source != CheckMode::Off && self.refuse_source(counters, sender, ip) {
            return Some(DropReason::SourceMismatch);
        }
        if destination != CheckMode::Off
            && !subnet.contains(ip.destination())
            && self.refuse_destination(counters, sender, ip)
        {
            return Some(DropReason::DestinationMismatch);
        }
        None
    }

    /// A packet whose inner source is in no lease of its outer sender: whether to drop it.
    #[cold]
    fn refuse_source(
        &mut self,
        counters: &DirectionCounters,
        sender: SocketAddrV4,
        ip: &Ipv4<&[u8]>,
    ) -> bool {
        let source = ip.source();
        let holder = self.holder(source);
        if holder.is_none() && self.rules.network.contains(source) && self.is_early(*sender.ip()) {
            counters.source_grace.add(1);
            return false;
        }
        counters.source_mismatches.add(1);
        let dropped = self.rules.source == CheckMode::Enforce;
        self.tell(counters, Check::Source, sender, ip, holder, dropped);
        dropped
    }

    /// A packet whose inner destination is not in the own subnet: whether to drop it.
    #[cold]
    fn refuse_destination(
        &mut self,
        counters: &DirectionCounters,
        sender: SocketAddrV4,
        ip: &Ipv4<&[u8]>,
    ) -> bool {
        counters.destination_mismatches.add(1);
        let dropped = self.rules.destination == CheckMode::Enforce;
        let holder = self.holder(ip.destination());
        self.tell(counters, Check::Destination, sender, ip, holder, dropped);
        dropped
    }

    fn holder(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        match self.rules.subnet.contains(address) {
            true => Some(self.rules.own),
            false => self.routes.lookup(address).map(|hop| hop.ip),
        }
    }

    /// Whether the lease behind a packet of `sender`'s may just not be known yet.
    fn is_early(&mut self, sender: Ipv4Addr) -> bool {
        self.notes.blind.load(Ordering::Relaxed) || self.grace.tolerates(sender, Instant::now())
    }

    fn tell(
        &mut self,
        counters: &DirectionCounters,
        check: Check,
        sender: SocketAddrV4,
        ip: &Ipv4<&[u8]>,
        holder: Option<Ipv4Addr>,
        dropped: bool,
    ) {
        let (source, destination) = (ip.source(), ip.destination());
        let subject = if check == Check::Source { source } else { destination };
        let issue = self.notes.issue.load(Ordering::Relaxed);
        let hash = (sender.ip().to_bits() ^ subject.to_bits()).wrapping_mul(0x9e37_79b1);
        let told = &mut self.told[(hash >> 26) as usize % TOLD];
        if told.issue == issue
            && (told.check, told.sender, told.subject) == (check, *sender.ip(), subject)
        {
            return;
        }
        *told = Told { issue, check, sender: *sender.ip(), subject };
        let mismatch = Mismatch { check, source, destination, sender, holder, dropped };
        if self.reports.try_send(mismatch).is_err() {
            counters.mismatches_untold.add(1);
        }
    }
}

/// Reports that wait for control, two seconds' at most.
const REPORTS: usize = 256;
/// Pairs of a sender and an inner address that a thread remembers having told.
const TOLD: usize = 64;

#[cfg(test)]
mod tests;
