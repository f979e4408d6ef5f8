//! Whether something has happened lately, told and asked by threads that share it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Something that counts for a while after it has happened.
pub(in crate::dataplane) struct Lately {
    epoch: Instant,
    /// For how many microseconds it counts.
    lasts: u64,
    /// Microseconds from `epoch` until which it counts.
    until: AtomicU64,
}

impl Lately {
    /// What counts for `lasts`, or up to a twentieth less.
    pub(in crate::dataplane) fn new(lasts: Duration) -> Self {
        let lasts = lasts.as_micros() as u64;
        Self { epoch: Instant::now(), lasts, until: AtomicU64::new(0) }
    }

    /// It has happened.
    #[inline]
    pub(in crate::dataplane) fn happened(&self) {
        let until = self.micros(Instant::now()) + self.lasts;
        // Other threads read this line at each batch: it is written seldom, however much happens.
        if until > self.until.load(Ordering::Relaxed) + self.lasts / 20 {
            self.until.store(until, Ordering::Relaxed);
        }
    }

    /// Whether it counts at `now`.
    #[inline]
    pub(in crate::dataplane) fn counts(&self, now: Instant) -> bool {
        self.micros(now) < self.until.load(Ordering::Relaxed)
    }

    fn micros(&self, now: Instant) -> u64 {
        now.duration_since(self.epoch).as_micros() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_from_when_it_happened_and_not_much_longer() {
        let lasts = Duration::from_millis(2);
        let lately = Lately::new(lasts);
        assert!(!lately.counts(Instant::now()));
        for _ in 0..2 {
            let happened = Instant::now();
            lately.happened();
            assert!(lately.counts(Instant::now()) || happened.elapsed() >= lasts - lasts / 20);
            std::thread::sleep(lasts);
            assert!(!lately.counts(Instant::now()));
        }
    }
}
