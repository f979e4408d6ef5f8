//! Whether an idle thread looks again or goes to sleep.
//!
//! A wake-up costs tens of microseconds and dominates a round trip, so a thread that has just
//! worked looks for the next packet for a while, yielding the core at each look. It does so only
//! while that pays: once several looks in a row found nothing it sleeps at once, until a sleep
//! turns out so short that looking would have met the packet.

use std::time::{Duration, Instant};

pub(super) struct Idle {
    /// How long to look.
    spin: Duration,
    /// Looks in a row that ended without a packet.
    misses: u32,
    since: Option<Instant>,
}

impl Idle {
    pub(super) fn new(spin: Duration) -> Self {
        Self { spin, misses: 0, since: None }
    }

    /// A packet came.
    #[inline]
    pub(super) fn worked(&mut self) {
        if self.since.take().is_some() {
            self.misses = 0;
        }
    }

    /// Nothing was there: whether to look again.
    #[inline]
    pub(super) fn look_again(&mut self) -> bool {
        if self.spin.is_zero() || self.misses >= MISSES {
            return false;
        }
        match self.since {
            None => {
                self.since = Some(Instant::now());
                true
            }
            Some(since) if since.elapsed() < self.spin => true,
            Some(_) => {
                self.since = None;
                self.misses += 1;
                false
            }
        }
    }

    /// The thread has slept for `time`.
    pub(super) fn slept(&mut self, time: Duration) {
        if time < self.spin {
            self.misses = 0;
        }
    }
}

/// Looks without a packet after which looking has stopped paying.
const MISSES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks until it would sleep; returns whether it looked at all.
    fn miss(idle: &mut Idle) -> bool {
        let mut looked = false;
        while idle.look_again() {
            looked = true;
        }
        looked
    }

    #[test]
    fn zero_never_looks() {
        assert!(!miss(&mut Idle::new(Duration::ZERO)));
    }

    #[test]
    fn looking_stops_when_it_does_not_pay_and_starts_when_it_would_have() {
        let mut idle = Idle::new(Duration::from_micros(20));
        for _ in 0..MISSES {
            assert!(miss(&mut idle));
            idle.slept(Duration::from_secs(1));
            idle.worked();
        }
        assert!(!miss(&mut idle));
        idle.slept(Duration::from_secs(1));
        assert!(!miss(&mut idle));
        idle.slept(Duration::from_micros(10));
        assert!(miss(&mut idle));
    }

    #[test]
    fn a_packet_met_while_looking_forgives() {
        let mut idle = Idle::new(Duration::from_millis(50));
        for _ in 0..3 * MISSES {
            assert!(idle.look_again());
            idle.worked();
        }
        assert_eq!(idle.misses, 0);
    }
}
