//! Grace for hosts whose lease is not known yet.
//!
//! A host may send before its lease has come to us through the registry. So a packet whose inner
//! source lies in the overlay network and in nobody's lease is carried for a while after its sender
//! first sent one such. Addresses of a known lease get none: nobody can borrow a peer's addresses.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::verdict::{Early, Why};

/// Who has had how much grace from one worker: a fixed table, so that strangers cannot fill the
/// memory. While it is full of senders that are not forgotten, another gets no grace. The worker
/// alone writes; control may look.
pub(super) struct Grace {
    born: Instant,
    places: [Place; SENDERS],
}

#[derive(Default)]
struct Place {
    /// Written last; 0 in a place that nobody has had yet.
    sender: AtomicU32,
    /// Nanoseconds from `born` to its first packet.
    since: AtomicU64,
}

/// How a sender stands in a table.
enum Standing<'a> {
    /// It may begin, in this place.
    New(&'a Place),
    Running(Duration),
    Over,
    NoRoom,
}

impl Default for Grace {
    fn default() -> Self {
        Self::since(Instant::now())
    }
}

impl Grace {
    /// For times from `born` on.
    pub(super) fn since(born: Instant) -> Self {
        Self { born, places: std::array::from_fn(|_| Place::default()) }
    }

    /// Whether a packet of `sender`'s is carried though no lease holds its source. The first one
    /// begins the sender's grace. For the worker.
    pub(super) fn admit(&self, sender: Ipv4Addr, now: Instant) -> Result<Early, Why> {
        let standing = self.standing(sender, now);
        if let Standing::New(place) = standing {
            place.since.store(self.age(now), Ordering::Relaxed);
            place.sender.store(sender.to_bits(), Ordering::Release);
        }
        standing.verdict()
    }

    /// What [`Self::admit`] would say to a packet of `sender`'s that comes to the worker with one of
    /// these tables which has seen it before, or else to any.
    pub(super) fn foresee<'a>(
        tables: impl IntoIterator<Item = &'a Self>,
        sender: Ipv4Addr,
        now: Instant,
    ) -> Result<Early, Why> {
        let standings = tables.into_iter().map(|table| table.standing(sender, now));
        let known = |standing: &Standing<'_>| match standing {
            Standing::New(_) => 0,
            Standing::NoRoom => 1,
            Standing::Running(_) | Standing::Over => 2,
        };
        standings.max_by_key(known).map_or(Ok(Early::First), |standing| standing.verdict())
    }

    fn standing(&self, sender: Ipv4Addr, now: Instant) -> Standing<'_> {
        let now = self.age(now);
        let mut free = None;
        for place in &self.places {
            let holder = place.sender.load(Ordering::Acquire);
            let age = now.saturating_sub(place.since.load(Ordering::Relaxed));
            let age = Duration::from_nanos(age);
            let is_free = holder == NOBODY || age >= FORGOTTEN;
            if holder == sender.to_bits() && !is_free {
                return match GRACE.checked_sub(age) {
                    Some(left) if !left.is_zero() => Standing::Running(left),
                    _ => Standing::Over,
                };
            }
            if is_free && (free.is_none() || holder == sender.to_bits()) {
                free = Some(place);
            }
        }
        free.map_or(Standing::NoRoom, Standing::New)
    }

    fn age(&self, now: Instant) -> u64 {
        now.duration_since(self.born).as_nanos() as u64
    }
}

impl Standing<'_> {
    fn verdict(&self) -> Result<Early, Why> {
        match *self {
            Self::New(_) => Ok(Early::First),
            Self::Running(left) => Ok(Early::Grace(left)),
            Self::Over => Err(Why::Late),
            Self::NoRoom => Err(Why::Crowded),
        }
    }
}

/// No datagram comes from 0.0.0.0.
const NOBODY: u32 = 0;
/// How long after its first packet a sender is borne with: a lease that was written comes through
/// the registry's watch within a second, as a rule.
pub const GRACE: Duration = Duration::from_secs(5);
/// After this time a sender may have grace again: it may be another host by then.
pub(super) const FORGOTTEN: Duration = Duration::from_secs(600);
/// Senders remembered by each worker.
pub(super) const SENDERS: usize = 64;
