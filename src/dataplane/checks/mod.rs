//! Checks of the inner addresses of ingress packets: whether the source belongs to a lease of the outer
//! sender, and whether the destination is in this host's subnet.
//!
//! A worker reports a mismatch to control through a bounded channel without blocking, locking or
//! allocating; a packet that passes costs no more than the comparison of its addresses. Each worker
//! reports each pair of sender and inner address once per epoch, so that a flood of one mismatch leaves
//! room for the others.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

use super::config::CheckMode;
use super::counters::DirectionCounters;

mod budget;
mod grace;
mod outcome;
mod recent;

use budget::PacketBudget;
pub use grace::GRACE;
use grace::GraceTable;
pub(super) use outcome::CheckRules;
pub use outcome::{CheckOutcome, Checked, DroppedBy, GraceReason, MismatchReason};
pub use recent::{MismatchLog, RecentMismatch};

/// A check of ingress packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// The inner source belongs to a lease of the outer sender.
    Source,
    /// The inner destination is in this host's subnet.
    Destination,
}

/// A packet that failed a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mismatch {
    /// The check that it failed.
    pub check: Check,
    /// Inner source.
    pub source: Ipv4Addr,
    /// Inner destination.
    pub destination: Ipv4Addr,
    /// Outer sender.
    pub sender: SocketAddrV4,
    /// The host whose lease holds the address that failed; `None` if no lease does.
    pub holder: Option<Ipv4Addr>,
    /// Whether the packet was dropped.
    pub dropped: bool,
    /// The rule by which it was dropped.
    #[serde(default)]
    pub by: Option<DroppedBy>,
}

/// Control's end of the checks of one data plane.
pub(super) struct MismatchReports {
    receiver: Receiver<Mismatch>,
    /// Cloned into each worker.
    sender: Sender<Mismatch>,
    control: Arc<ControlState>,
    /// The table of each worker.
    grace_tables: Mutex<Vec<Arc<GraceTable>>>,
}

/// What control writes and workers read.
struct ControlState {
    /// True while the route table is not in step with the lease store and so may lack leases.
    routes_stale: AtomicBool,
    /// Epoch of the last drain; a worker reports each mismatch once per epoch.
    epoch: AtomicU32,
    /// What is done with a source that is not its sender's.
    mode: CheckMode,
}

impl ControlState {
    /// The grace of a sender, of which `table` knows when it began; `budget` says whether there is room for
    /// another packet of a host that the routes do not know.
    fn grace(
        &self,
        is_peer: bool,
        table: impl FnOnce() -> Result<GraceReason, MismatchReason>,
        budget: impl FnOnce() -> bool,
    ) -> Result<GraceReason, MismatchReason> {
        let strangers_differ = self.mode == CheckMode::Peers && !is_peer;
        if self.routes_stale.load(Ordering::Relaxed) {
            if strangers_differ && !budget() {
                return Err(MismatchReason::BudgetSpent);
            }
            Ok(GraceReason::RoutesStale)
        } else if strangers_differ || self.mode == CheckMode::Enforce {
            Err(MismatchReason::NoGrace)
        } else {
            table()
        }
    }
}

impl MismatchReports {
    /// No reports; the routes are stale until [`Self::set_routes_stale`].
    pub(super) fn new(source_check: CheckMode) -> Self {
        let (sender, receiver) = bounded(CHANNEL_CAPACITY);
        let control = ControlState {
            routes_stale: AtomicBool::new(true),
            epoch: AtomicU32::new(1),
            mode: source_check,
        };
        Self { receiver, sender, control: Arc::new(control), grace_tables: Mutex::default() }
    }

    /// Sets whether the route table may lack leases.
    pub(super) fn set_routes_stale(&self, stale: bool) {
        self.control.routes_stale.store(stale, Ordering::Relaxed);
    }

    /// Takes the mismatches reported since the last drain, and begins the next epoch.
    pub(super) fn drain(&self) -> Vec<Mismatch> {
        let reports = self.receiver.try_iter().take(CHANNEL_CAPACITY).collect();
        self.control.epoch.fetch_add(1, Ordering::Relaxed);
        reports
    }

    /// Whether a packet from `sender` whose source is in no lease would be delivered now, and why.
    /// Unlike such a packet, this does not start the grace of the sender.
    pub(super) fn grace_of(
        &self,
        sender: Ipv4Addr,
        is_peer: bool,
    ) -> Result<GraceReason, MismatchReason> {
        let table = || {
            let tables = self.grace_tables();
            GraceTable::peek(tables.iter().map(|table| &**table), sender, Instant::now())
        };
        self.control.grace(is_peer, table, || true)
    }

    fn grace_tables(&self) -> MutexGuard<'_, Vec<Arc<GraceTable>>> {
        self.grace_tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker's end of the checks.
pub(super) struct Checks {
    sender: Sender<Mismatch>,
    control: Arc<ControlState>,
    grace: Arc<GraceTable>,
    budget: PacketBudget,
    /// Hash table without chaining: a collision makes a mismatch be reported again.
    reported: [Reported; REPORTED_SLOTS],
}

/// A mismatch that this worker has reported, and the epoch in which it did.
#[derive(Clone, Copy)]
struct Reported {
    epoch: u32,
    check: Check,
    sender: Ipv4Addr,
    /// The inner address that failed.
    address: Ipv4Addr,
}

impl Checks {
    /// The checks of one worker, which report to `reports`.
    pub(super) fn new(reports: &MismatchReports) -> Self {
        // Epochs begin at 1, so a slot of epoch 0 matches no mismatch.
        let empty = Reported {
            epoch: 0,
            check: Check::Source,
            sender: Ipv4Addr::UNSPECIFIED,
            address: Ipv4Addr::UNSPECIFIED,
        };
        let grace = Arc::new(GraceTable::default());
        reports.grace_tables().push(Arc::clone(&grace));
        Self {
            sender: reports.sender.clone(),
            control: Arc::clone(&reports.control),
            grace,
            budget: PacketBudget::default(),
            reported: [empty; REPORTED_SLOTS],
        }
    }

    /// Whether a packet from `sender` whose source is in no lease is delivered, and why. The first
    /// such packet starts the grace of the sender.
    #[cold]
    pub(super) fn grace_of(
        &mut self,
        sender: Ipv4Addr,
        is_peer: bool,
    ) -> Result<GraceReason, MismatchReason> {
        let Self { control, grace, budget, .. } = self;
        control.grace(is_peer, || grace.admit(sender, Instant::now()), || budget.take())
    }

    /// Counts and reports what the checks of a packet from `sender` found.
    #[cold]
    pub(super) fn apply(
        &mut self,
        counters: &DirectionCounters,
        sender: SocketAddrV4,
        checked: &Checked,
    ) {
        self.apply_outcome(counters, Check::Source, checked.source_check, sender, checked);
        if !checked.source_check.drops() {
            let outcome = checked.destination_check;
            self.apply_outcome(counters, Check::Destination, outcome, sender, checked);
        }
    }

    fn apply_outcome(
        &mut self,
        counters: &DirectionCounters,
        check: Check,
        outcome: CheckOutcome,
        sender: SocketAddrV4,
        &Checked { source, destination, .. }: &Checked,
    ) {
        match outcome {
            CheckOutcome::Off | CheckOutcome::Passes => {}
            CheckOutcome::Grace(_) => counters.source_grace.add(1),
            CheckOutcome::Fails { reason, dropped } => {
                let holder = reason.holder();
                let (by, dropped) = (dropped, dropped.is_some());
                let mismatch = Mismatch { check, source, destination, sender, holder, dropped, by };
                self.report(counters, mismatch);
            }
        }
    }

    /// Counts a mismatch, and reports it unless that was done in this epoch.
    fn report(&mut self, counters: &DirectionCounters, mismatch: Mismatch) {
        let Mismatch { check, source, destination, sender, .. } = mismatch;
        let (count, address) = match check {
            Check::Source => (&counters.source_mismatches, source),
            Check::Destination => (&counters.destination_mismatches, destination),
        };
        count.add(1);
        let epoch = self.control.epoch.load(Ordering::Relaxed);
        // Fibonacci hashing: the upper bits of the product select the slot.
        let hash = (sender.ip().to_bits() ^ address.to_bits()).wrapping_mul(0x9e37_79b1);
        let slot = &mut self.reported[(hash >> 26) as usize % REPORTED_SLOTS];
        if slot.epoch == epoch
            && (slot.check, slot.sender, slot.address) == (check, *sender.ip(), address)
        {
            return;
        }
        *slot = Reported { epoch, check, sender: *sender.ip(), address };
        if self.sender.try_send(mismatch).is_err() {
            counters.mismatches_unreported.add(1);
        }
    }
}

/// Reports that the channel holds until control drains it, every two seconds at the latest.
const CHANNEL_CAPACITY: usize = 256;
/// Pairs of a sender and an inner address that a worker remembers as reported.
const REPORTED_SLOTS: usize = 64;

#[cfg(test)]
mod tests;
