//! The checks of what comes in: whether the inner source belongs to the outer sender's lease, and
//! whether the inner destination is ours. What fails is told to control, which names it.
//!
//! Only packets that fail come here. A worker tells control through a bounded channel that nobody
//! waits on: no lock, no system call. Each sender and inner address is told once between two looks
//! of control's, so that a flood of one does not hide another.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

use super::counters::{DirectionCounters, DropReason};
use crate::packet::ipv4::Ipv4;
use crate::route::RouteTable;

mod grace;
mod recent;
mod verdict;

pub use grace::GRACE;
use grace::Grace;
pub use recent::{Mismatches, RecentMismatch};
pub(super) use verdict::Rules;
pub use verdict::{Early, Verdict, Why};

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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
    /// Each worker's.
    graces: Mutex<Vec<Arc<Grace>>>,
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
        Self { reports, sender, notes: Arc::new(notes), graces: Mutex::default() }
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

    /// How `sender` stands now with the worker to which its packets come, should their source be in
    /// nobody's lease. Nothing begins by asking.
    pub(super) fn standing(&self, sender: Ipv4Addr) -> Result<Early, Why> {
        if self.notes.blind.load(Ordering::Relaxed) {
            return Ok(Early::Blind);
        }
        Grace::foresee(self.graces().iter().map(|grace| &**grace), sender, Instant::now())
    }

    fn graces(&self) -> MutexGuard<'_, Vec<Arc<Grace>>> {
        self.graces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The checks of one worker.
pub(super) struct Checks {
    rules: Rules,
    routes: Arc<RouteTable>,
    reports: Sender<Mismatch>,
    notes: Arc<Notes>,
    grace: Arc<Grace>,
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
        let grace = Arc::new(Grace::default());
        desk.graces().push(Arc::clone(&grace));
        Self {
            rules,
            routes: Arc::clone(routes),
            reports: desk.sender.clone(),
            notes: Arc::clone(&desk.notes),
            grace,
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
        if self.rules.source_at_once(is_senders).is_none()
            && self.refuse_source(counters, sender, ip, is_senders)
        {
            return Some(DropReason::SourceMismatch);
        }
        if self.rules.destination_at_once(ip.destination()).is_none()
            && self.refuse_destination(counters, sender, ip)
        {
            return Some(DropReason::DestinationMismatch);
        }
        None
    }

    /// Does what the verdict on a source asks for: whether to drop the packet.
    #[cold]
    fn refuse_source(
        &mut self,
        counters: &DirectionCounters,
        sender: SocketAddrV4,
        ip: &Ipv4<&[u8]>,
        is_senders: bool,
    ) -> bool {
        let Self { rules, routes, notes, grace, .. } = self;
        let early = || match notes.blind.load(Ordering::Relaxed) {
            true => Ok(Early::Blind),
            false => grace.admit(*sender.ip(), Instant::now()),
        };
        let verdict = rules.source(ip.source(), is_senders, routes, early);
        self.obey(counters, Check::Source, verdict, sender, ip)
    }

    /// The same of a destination.
    #[cold]
    fn refuse_destination(
        &mut self,
        counters: &DirectionCounters,
        sender: SocketAddrV4,
        ip: &Ipv4<&[u8]>,
    ) -> bool {
        let verdict = self.rules.destination(ip.destination(), &self.routes);
        self.obey(counters, Check::Destination, verdict, sender, ip)
    }

    fn obey(
        &mut self,
        counters: &DirectionCounters,
        check: Check,
        verdict: Verdict,
        sender: SocketAddrV4,
        ip: &Ipv4<&[u8]>,
    ) -> bool {
        match verdict {
            Verdict::Off | Verdict::Passes => false,
            Verdict::Early(_) => {
                counters.source_grace.add(1);
                false
            }
            Verdict::Fails { why, dropped } => {
                let (source, destination, holder) = (ip.source(), ip.destination(), why.holder());
                let mismatch = Mismatch { check, source, destination, sender, holder, dropped };
                self.tell(counters, mismatch);
                dropped
            }
        }
    }

    /// Counts a packet that failed, and lets control know.
    fn tell(&mut self, counters: &DirectionCounters, mismatch: Mismatch) {
        let Mismatch { check, source, destination, sender, .. } = mismatch;
        let (count, subject) = match check {
            Check::Source => (&counters.source_mismatches, source),
            Check::Destination => (&counters.destination_mismatches, destination),
        };
        count.add(1);
        let issue = self.notes.issue.load(Ordering::Relaxed);
        let hash = (sender.ip().to_bits() ^ subject.to_bits()).wrapping_mul(0x9e37_79b1);
        let told = &mut self.told[(hash >> 26) as usize % TOLD];
        if told.issue == issue
            && (told.check, told.sender, told.subject) == (check, *sender.ip(), subject)
        {
            return;
        }
        *told = Told { issue, check, sender: *sender.ip(), subject };
        if self.reports.try_send(mismatch).is_err() {
            counters.mismatches_untold.add(1);
        }
    }
}

/// Reports that wait for control, two seconds' at most.
const REPORTS: usize = 256;
/// Pairs of a sender and an inner address that a worker remembers having told.
const TOLD: usize = 64;

#[cfg(test)]
mod tests;
