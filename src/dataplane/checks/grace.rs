//! Grace for peers whose lease has not arrived yet.
//!
//! A peer may send before its lease reaches this host through the lease store. A packet whose inner source
//! is in the overlay network and in no lease is therefore delivered for some seconds after the first such
//! packet of its sender. An address in a known lease gets no grace, so a stranger cannot use the addresses
//! of a peer. Where the check is enforced, no packet is delivered for this reason.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::outcome::{GraceReason, MismatchReason};

/// The senders to which one worker has given grace. The size is fixed, so strangers cannot exhaust the
/// memory: while every slot holds a sender of the last [`FORGET_AFTER`], further senders get no grace.
/// Only the worker writes; control may read.
pub(super) struct GraceTable {
    created: Instant,
    slots: [GraceSlot; SENDERS],
}

#[derive(Default)]
struct GraceSlot {
    /// The sender's address, [`EMPTY`] in a slot never used. Stored after `since`.
    sender: AtomicU32,
    /// Nanoseconds from the table's creation to the sender's first packet.
    since: AtomicU64,
}

/// What a table holds about a sender.
enum SenderState<'a> {
    /// Nothing; its grace may begin in this slot.
    New(&'a GraceSlot),
    /// Grace for the rest of this time.
    Running(Duration),
    /// Its grace is over.
    Over,
    /// Nothing, and no slot is free.
    NoSlot,
}

impl Default for GraceTable {
    fn default() -> Self {
        Self::created_at(Instant::now())
    }
}

impl GraceTable {
    /// An empty table for times from `created` on.
    pub(super) fn created_at(created: Instant) -> Self {
        Self { created, slots: std::array::from_fn(|_| GraceSlot::default()) }
    }

    /// Whether a packet of `sender` is delivered although no lease holds its source, and why. The first
    /// such packet begins the grace of the sender. Only the owning worker may call this.
    pub(super) fn admit(
        &self,
        sender: Ipv4Addr,
        now: Instant,
    ) -> Result<GraceReason, MismatchReason> {
        let state = self.state(sender, now);
        if let SenderState::New(slot) = state {
            slot.since.store(self.age(now), Ordering::Relaxed);
            slot.sender.store(sender.to_bits(), Ordering::Release);
        }
        state.grace()
    }

    /// The result that [`Self::admit`] would have for a packet of `sender`, without beginning its grace.
    /// The table that knows the sender decides: the kernel delivers all packets of one sender to one
    /// worker.
    pub(super) fn peek<'a>(
        tables: impl IntoIterator<Item = &'a Self>,
        sender: Ipv4Addr,
        now: Instant,
    ) -> Result<GraceReason, MismatchReason> {
        let states = tables.into_iter().map(|table| table.state(sender, now));
        let precedence = |state: &SenderState<'_>| match state {
            SenderState::New(_) => 0,
            SenderState::NoSlot => 1,
            SenderState::Running(_) | SenderState::Over => 2,
        };
        states.max_by_key(precedence).map_or(Ok(GraceReason::FirstPacket), |state| state.grace())
    }

    fn state(&self, sender: Ipv4Addr, now: Instant) -> SenderState<'_> {
        let now = self.age(now);
        let mut free = None;
        for slot in &self.slots {
            let holder = slot.sender.load(Ordering::Acquire);
            let age = now.saturating_sub(slot.since.load(Ordering::Relaxed));
            let age = Duration::from_nanos(age);
            let is_free = holder == EMPTY || age >= FORGET_AFTER;
            if holder == sender.to_bits() && !is_free {
                return match GRACE.checked_sub(age) {
                    Some(left) if !left.is_zero() => SenderState::Running(left),
                    _ => SenderState::Over,
                };
            }
            if is_free && (free.is_none() || holder == sender.to_bits()) {
                free = Some(slot);
            }
        }
        free.map_or(SenderState::NoSlot, SenderState::New)
    }

    /// Nanoseconds from the creation of the table to `now`.
    fn age(&self, now: Instant) -> u64 {
        now.duration_since(self.created).as_nanos() as u64
    }
}

impl SenderState<'_> {
    fn grace(&self) -> Result<GraceReason, MismatchReason> {
        match *self {
            Self::New(_) => Ok(GraceReason::FirstPacket),
            Self::Running(left) => Ok(GraceReason::Running(left)),
            Self::Over => Err(MismatchReason::GraceOver),
            Self::NoSlot => Err(MismatchReason::GraceTableFull),
        }
    }
}

/// 0.0.0.0, from which no datagram comes.
const EMPTY: u32 = 0;
/// How long after its first packet a sender has grace. A lease that was written normally arrives through
/// the watch of the lease store within a second.
pub const GRACE: Duration = Duration::from_secs(5);
/// Time after its first packet at which a sender may have grace again: the address may belong to another
/// host by then.
pub(super) const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Senders that each worker remembers.
pub(super) const SENDERS: usize = 64;
