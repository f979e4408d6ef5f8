//! Whether an idle thread looks again or goes to sleep.
//!
//! A wake-up costs tens of microseconds and dominates a round trip, so a thread that has just
//! worked looks for the next packet for a while, yielding the core at each look. It does so only
//! while that pays: once several looks in a row found nothing it sleeps at once, until a sleep
//! turns out so short that looking would have met the packet, or would have if nobody had had to
//! wake up: an exchange is quicker once all its threads look. Beside bulk traffic, in either
//! direction, nobody looks: there the processor has better to do, and packets that wait for a
//! thread to wake up make a greater batch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::recent::Lately;

pub(in crate::dataplane) struct Idle {
    /// Bulk, in either direction of the worker.
    bulk: Arc<Lately>,
    /// How long to look.
    spin: Duration,
    /// Looks in a row that ended without a packet.
    misses: u32,
    /// When it began to look, and when it looked last.
    since: Option<(Instant, Instant)>,
    /// Time between looks in vain that [`Self::take_looked`] has not told yet.
    looked: Duration,
}

impl Idle {
    pub(in crate::dataplane) fn new(spin: Duration, bulk: Arc<Lately>) -> Self {
        Self { bulk, spin, misses: 0, since: None, looked: Duration::ZERO }
    }

    /// Packets came; whether they were bulk.
    #[inline]
    pub(in crate::dataplane) fn worked(&mut self, bulk: bool) {
        if self.since.take().is_some() {
            self.misses = 0;
        }
        if bulk {
            self.bulk.happened();
        }
    }

    /// Whether it looks for a while before it sleeps.
    #[inline]
    pub(in crate::dataplane) fn looks(&self) -> bool {
        !self.spin.is_zero() && self.misses < MISSES
    }

    /// Nothing was there: whether to look again.
    #[inline]
    pub(in crate::dataplane) fn look_again(&mut self) -> bool {
        if !self.looks() {
            return false;
        }
        let now = Instant::now();
        let (since, last) = self.since.take().unwrap_or((now, now));
        self.looked += now.duration_since(last);
        if self.bulk.counts(now) {
            return false;
        }
        let again = now.duration_since(since) < self.spin;
        match again {
            true => self.since = Some((since, now)),
            false => self.misses += 1,
        }
        again
    }

    /// For how long it has looked since the last call. A look that met a packet is none.
    pub(in crate::dataplane) fn take_looked(&mut self) -> Duration {
        std::mem::take(&mut self.looked)
    }

    /// Whether there was bulk lately.
    pub(in crate::dataplane) fn is_bulk(&self) -> bool {
        self.bulk.counts(Instant::now())
    }

    /// The thread has slept for `time`.
    pub(in crate::dataplane) fn slept(&mut self, time: Duration) {
        if time < self.spin * 2 {
            self.misses = 0;
        }
    }
}

/// Looks without a packet after which looking has stopped paying.
const MISSES: u32 = 4;
/// How long traffic counts as bulk after a great batch: some round trips of a bulk TCP flow.
pub(in crate::dataplane) const BULK_LASTS: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(spin: Duration) -> Idle {
        Idle::new(spin, Arc::new(Lately::new(BULK_LASTS)))
    }

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
        assert!(!miss(&mut idle(Duration::ZERO)));
    }

    #[test]
    fn looking_stops_when_it_does_not_pay_and_starts_when_it_would_have() {
        let mut idle = idle(Duration::from_micros(20));
        for _ in 0..MISSES {
            assert!(miss(&mut idle));
            idle.slept(Duration::from_secs(1));
            idle.worked(false);
        }
        assert!(!miss(&mut idle));
        idle.slept(Duration::from_secs(1));
        assert!(!miss(&mut idle));
        idle.slept(Duration::from_micros(10));
        assert!(miss(&mut idle));
    }

    #[test]
    fn looks_in_vain_are_timed() {
        let mut idle = idle(Duration::from_millis(20));
        let began = Instant::now();
        assert!(miss(&mut idle));
        let (whole, looked) = (began.elapsed(), idle.take_looked());
        assert!(looked >= idle.spin && looked <= whole, "{looked:?} of {whole:?}");
        assert_eq!(idle.take_looked(), Duration::ZERO, "told once");
        // The one that met a packet was worth its time; the sleep is no look.
        assert!(idle.look_again());
        std::thread::sleep(Duration::from_millis(5));
        idle.worked(false);
        std::thread::sleep(Duration::from_millis(5));
        assert!(idle.look_again());
        assert_eq!(idle.take_looked(), Duration::ZERO);
    }

    #[test]
    fn nobody_looks_beside_bulk() {
        let bulk = Arc::new(Lately::new(BULK_LASTS));
        let [mut one, mut other] =
            [(); 2].map(|()| Idle::new(Duration::from_millis(50), Arc::clone(&bulk)));
        assert!(one.look_again());
        other.worked(true);
        assert!(!one.look_again() && !other.look_again());
        std::thread::sleep(BULK_LASTS);
        assert!(one.look_again() && other.look_again());
    }

    #[test]
    fn a_packet_met_while_looking_forgives() {
        let mut idle = idle(Duration::from_millis(50));
        for _ in 0..3 * MISSES {
            assert!(idle.look_again());
            idle.worked(false);
        }
        assert_eq!(idle.misses, 0);
    }
}
