//! Whether an event happened recently, recorded and queried by threads that share it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// An event that counts as recent for a fixed time after it was last recorded.
pub(in crate::dataplane) struct RecentEvent {
    epoch: Instant,
    /// How long the event counts as recent, in microseconds.
    window: u64,
    /// When the event stops being recent, in microseconds since `epoch`.
    until: AtomicU64,
}

impl RecentEvent {
    /// An event that counts as recent for `window`, or up to a twentieth less.
    pub(in crate::dataplane) fn new(window: Duration) -> Self {
        let window = window.as_micros() as u64;
        Self { epoch: Instant::now(), window, until: AtomicU64::new(0) }
    }

    /// Records that the event happened at `now`.
    #[inline]
    pub(in crate::dataplane) fn record(&self, now: Instant) {
        let until = self.micros(now) + self.window;
        // Every thread reads this cache line once per batch, so the line is written at most twenty
        // times per window, however often the event happens.
        if until > self.until.load(Ordering::Relaxed) + self.window / 20 {
            self.until.store(until, Ordering::Relaxed);
        }
    }

    /// Whether the event is recent at `now`.
    #[inline]
    pub(in crate::dataplane) fn is_recent(&self, now: Instant) -> bool {
        self.micros(now) < self.until.load(Ordering::Relaxed)
    }

    fn micros(&self, now: Instant) -> u64 {
        now.duration_since(self.epoch).as_micros() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(2);

    #[test]
    fn an_event_is_recent_for_its_window_and_not_longer() {
        let event = RecentEvent::new(WINDOW);
        let mut now = event.epoch;
        assert!(!event.is_recent(now), "the event has not happened");
        for _ in 0..2 {
            event.record(now);
            assert!(event.is_recent(now));
            assert!(event.is_recent(now + WINDOW - Duration::from_micros(1)));
            now += WINDOW;
            assert!(!event.is_recent(now));
        }
    }

    #[test]
    fn an_event_that_goes_on_stays_recent_with_few_writes() {
        let event = RecentEvent::new(WINDOW);
        let (mut writes, mut last) = (0, 0);
        for micros in 0..4_000 {
            let now = event.epoch + Duration::from_micros(micros);
            event.record(now);
            let until = event.until.load(Ordering::Relaxed);
            writes += u64::from(until != last);
            last = until;
            assert!(event.is_recent(now + WINDOW * 9 / 10));
        }
        assert!(writes <= 40, "{writes} writes in two windows");
    }
}
