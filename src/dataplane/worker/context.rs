//! What every packet thread has.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::dataplane::counters::ThreadCounters;
use crate::dataplane::plane::Event;
use crate::dataplane::polling::{Bell, Idle, Ready};

/// What every thread has.
pub(in crate::dataplane) struct Seat {
    pub(in crate::dataplane) idle: Idle,
    pub(in crate::dataplane) counters: Arc<ThreadCounters>,
    pub(in crate::dataplane) stop: Arc<AtomicBool>,
}

impl Seat {
    pub(super) fn goes_on(&self) -> bool {
        self.counters.rounds.add(1);
        !self.stop.load(Ordering::Relaxed)
    }

    /// Nothing was there: says that all sources are worth another look, or sleeps.
    pub(super) fn rest(&mut self, bell: &Bell, sources: &[BorrowedFd<'_>]) -> Result<Ready, Event> {
        let again = self.idle.look_again();
        self.counters.spinning_nanos.add(self.idle.take_looked().as_nanos() as u64);
        if again {
            self.counters.spins.add(1);
            thread::yield_now();
            return Ok(Ready::ANY);
        }
        self.sleep(bell, sources)
    }

    /// Says what is ready afterwards, unless packets come so quickly that it was no sleep.
    pub(super) fn sleep(
        &mut self,
        bell: &Bell,
        sources: &[BorrowedFd<'_>],
    ) -> Result<Ready, Event> {
        let before = Instant::now();
        self.counters.busy.sleep(before);
        let ready = bell.sleep(sources).map_err(Event::Failed)?;
        let after = Instant::now();
        self.counters.busy.wake(after);
        let asleep = after.duration_since(before);
        self.idle.slept(asleep);
        self.counters.sleeps.add(1);
        self.counters.asleep_nanos.add(asleep.as_nanos() as u64);
        Ok(if asleep < SLEEP { Ready::ANY } else { ready })
    }
}

/// A sleep shorter than this has not waited.
const SLEEP: Duration = Duration::from_micros(10);
