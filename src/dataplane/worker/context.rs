//! What every packet thread has: its counters, its busy polling, its way to sleep.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::dataplane::counters::ThreadCounters;
use crate::dataplane::event::Event;
use crate::dataplane::polling::{BusyPoll, Ready, Turn, Waker};

/// What every packet thread has.
pub(in crate::dataplane) struct ThreadContext {
    pub(in crate::dataplane) busy_poll: BusyPoll,
    pub(in crate::dataplane) counters: Arc<ThreadCounters>,
    /// Set once the thread is to end.
    pub(in crate::dataplane) stop: Arc<AtomicBool>,
}

impl ThreadContext {
    /// Counts a round and returns whether the thread is to go on.
    pub(super) fn begin_round(&self) -> bool {
        self.counters.rounds.add(1);
        !self.stop.load(Ordering::Relaxed)
    }

    /// Records a `turn` that found packets.
    pub(super) fn record_work(&mut self, turn: Turn) {
        if turn == Turn::Bulk {
            self.busy_poll.record_bulk(Instant::now());
        } else {
            self.busy_poll.record_work();
        }
    }

    /// Follows a turn that found every source empty: yields the core if the thread is to poll again,
    /// and waits otherwise. Returns which sources may be ready.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub(super) fn idle(
        &mut self,
        waker: &Waker,
        sources: &[BorrowedFd<'_>],
    ) -> Result<Ready, Event> {
        let again = self.busy_poll.is_worthwhile() && self.busy_poll.poll_again(Instant::now());
        self.counters.spinning_nanos.add(self.busy_poll.take_wasted().as_nanos() as u64);
        if again {
            self.counters.spins.add(1);
            thread::yield_now();
            return Ok(Ready::ANY);
        }
        self.wait(waker, sources)
    }

    /// Waits for one of `sources` or for `waker`. Returns which sources are ready, or that any may be if
    /// the wait was too short to have been one.
    ///
    /// # Errors
    /// [`Event::Failed`] if the wait fails.
    pub(super) fn wait(
        &mut self,
        waker: &Waker,
        sources: &[BorrowedFd<'_>],
    ) -> Result<Ready, Event> {
        let before = Instant::now();
        self.counters.busy.sleep(before);
        let ready = waker.wait(sources).map_err(Event::Failed)?;
        let after = Instant::now();
        self.counters.busy.wake(after);
        let asleep = after.duration_since(before);
        self.busy_poll.record_sleep(asleep);
        self.counters.sleeps.add(1);
        self.counters.asleep_nanos.add(asleep.as_nanos() as u64);
        Ok(if asleep < SHORTEST_SLEEP { Ready::ANY } else { ready })
    }
}

/// A shorter wait found its source ready at once: packets arrive faster than the thread can sleep.
const SHORTEST_SLEEP: Duration = Duration::from_micros(10);
