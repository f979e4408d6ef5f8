//! Bulk that gives way while somebody waits beside it.
//!
//! Where TCP has a queue of its own, what comes through the other one is mostly what somebody waits
//! for. A bulk flow must then not keep the processor to itself: on a host whose processors are all
//! busy, the thread at the other end, or the one that gets the answer, would wait for it
//! milliseconds. So while such packets come, to any worker, bulk leaves in smaller batches and lets
//! others run after each. Alone, it does neither: both cost throughput (`docs/benchmarks.md`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When what somebody may wait for came last, shared by all workers.
pub(in crate::dataplane) struct Company {
    epoch: Instant,
    /// Microseconds from `epoch` until which it counts as being here.
    until: AtomicU64,
}

impl Company {
    pub(in crate::dataplane) fn new() -> Self {
        Self { epoch: Instant::now(), until: AtomicU64::new(0) }
    }

    /// It has come.
    #[inline]
    pub(super) fn came(&self) {
        let until = self.micros() + LASTS.as_micros() as u64;
        // Other workers read this line at each batch: it is written seldom, however much comes.
        if until > self.until.load(Ordering::Relaxed) + SELDOM.as_micros() as u64 {
            self.until.store(until, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn is_here(&self) -> bool {
        self.micros() < self.until.load(Ordering::Relaxed)
    }

    fn micros(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }
}

/// How long it counts: some round trips on a busy host.
const LASTS: Duration = Duration::from_millis(2);
const SELDOM: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_here_from_when_it_came_and_not_much_longer() {
        let company = Company::new();
        assert!(!company.is_here());
        for _ in 0..2 {
            let came = Instant::now();
            company.came();
            assert!(company.is_here() || came.elapsed() >= LASTS - SELDOM);
            std::thread::sleep(LASTS);
            assert!(!company.is_here());
        }
    }
}
