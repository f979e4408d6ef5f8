//! Grace for hosts whose lease is not known yet.
//!
//! A host may send before its lease has come to us through the registry. So a packet whose inner
//! source lies in the overlay network and in nobody's lease is carried for a while after its sender
//! first sent one such. Addresses of a known lease get none: nobody can borrow a peer's addresses.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Who has had how much grace: a fixed table, so that strangers cannot fill the memory. While it
/// is full of senders that are not forgotten, another gets no grace.
pub(super) struct Grace {
    senders: Vec<(Ipv4Addr, Instant)>,
}

impl Default for Grace {
    fn default() -> Self {
        Self { senders: Vec::with_capacity(SENDERS) }
    }
}

impl Grace {
    /// Whether a packet of `sender`'s is carried though no lease holds its source.
    pub(super) fn tolerates(&mut self, sender: Ipv4Addr, now: Instant) -> bool {
        let known = self.senders.iter_mut().find(|(known, _)| *known == sender);
        if let Some((_, since)) = known {
            let age = now.duration_since(*since);
            if age >= FORGOTTEN {
                *since = now;
            }
            return !(GRACE..FORGOTTEN).contains(&age);
        }
        if self.senders.len() == SENDERS {
            self.senders.retain(|(_, since)| now.duration_since(*since) < FORGOTTEN);
        }
        if self.senders.len() == SENDERS {
            return false;
        }
        self.senders.push((sender, now));
        true
    }
}

/// How long after its first packet a sender is borne with: a lease that was written comes through
/// the registry's watch within a second, as a rule.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// After this time a sender may have grace again: it may be another host by then.
pub(super) const FORGOTTEN: Duration = Duration::from_secs(600);
/// Senders remembered in each thread.
pub(super) const SENDERS: usize = 64;
