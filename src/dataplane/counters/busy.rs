//! The time that a thread is awake.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How much of its life a thread has been awake. One word that the thread writes when it falls asleep
/// and when it wakes up, so that a reader is right in between as well.
#[derive(Debug)]
pub struct BusyClock {
    born: Instant,
    /// Bit 0: asleep. Above it, in nanoseconds: the time awake so far while asleep, the time asleep
    /// so far while awake.
    word: AtomicU64,
}

impl Default for BusyClock {
    fn default() -> Self {
        Self { born: Instant::now(), word: AtomicU64::new(0) }
    }
}

impl BusyClock {
    /// The owning thread goes to sleep.
    #[inline]
    pub(in crate::dataplane) fn sleep(&self, now: Instant) {
        let asleep = self.word.load(Ordering::Relaxed) >> 1;
        self.word.store((self.life(now).saturating_sub(asleep)) << 1 | 1, Ordering::Relaxed);
    }

    /// It woke up.
    #[inline]
    pub(in crate::dataplane) fn wake(&self, now: Instant) {
        let awake = self.word.load(Ordering::Relaxed) >> 1;
        self.word.store((self.life(now).saturating_sub(awake)) << 1, Ordering::Relaxed);
    }

    /// Time awake and time since the thread was made.
    pub fn read(&self) -> (Duration, Duration) {
        let (life, word) = (self.life(Instant::now()), self.word.load(Ordering::Relaxed));
        let awake = if word & 1 == 1 { word >> 1 } else { life.saturating_sub(word >> 1) };
        (Duration::from_nanos(awake), Duration::from_nanos(life))
    }

    fn life(&self, now: Instant) -> u64 {
        now.duration_since(self.born).as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_clock_is_right_asleep_and_awake() {
        let clock = BusyClock::default();
        let at = |millis| clock.born + Duration::from_millis(millis);
        let word = || (clock.word.load(Ordering::Relaxed) >> 1) / 1_000_000;
        clock.sleep(at(10));
        assert_eq!(word(), 10, "awake");
        assert_eq!(clock.read().0, Duration::from_millis(10), "asleep, it stands still");
        clock.wake(at(40));
        assert_eq!(word(), 30, "asleep");
        clock.sleep(at(45));
        assert_eq!(word(), 15, "awake");
        clock.wake(at(45));
        assert_eq!(word(), 30, "asleep");
    }
}
