//! Whether an idle thread polls again or sleeps.
//!
//! A wake-up costs tens of microseconds and dominates a round trip, so a thread that has just worked
//! polls for the next packet for a while, yielding the core after each poll. It does so only while
//! that pays: after [`MAX_MISSES`] busy-poll periods in a row without a packet the thread sleeps at
//! once. It polls again after a sleep so short that polling would have met the packet, or would have
//! met it had no thread of the exchange needed waking up: a round trip is quicker once all threads on
//! its way poll. Beside bulk traffic, in either direction, no thread polls: the processor is needed
//! elsewhere, and packets that wait for a thread to wake up form a larger batch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::recent::RecentEvent;

/// The busy polling of one thread.
pub(in crate::dataplane) struct BusyPoll {
    /// Bulk traffic in either direction of the worker.
    bulk: Arc<RecentEvent>,
    /// How long the thread polls before it sleeps.
    limit: Duration,
    /// Periods in a row that ended without a packet.
    misses: u32,
    /// When the current period began, and when the thread polled last.
    period: Option<(Instant, Instant)>,
    /// Time between polls without a packet that [`Self::take_wasted`] has not returned yet.
    wasted: Duration,
}

impl BusyPoll {
    /// Polling for up to `limit`; zero turns polling off. The threads of a worker share `bulk`.
    pub(in crate::dataplane) fn new(limit: Duration, bulk: Arc<RecentEvent>) -> Self {
        Self { bulk, limit, misses: 0, period: None, wasted: Duration::ZERO }
    }

    /// Records that packets arrived.
    #[inline]
    pub(in crate::dataplane) fn record_work(&mut self) {
        if self.period.take().is_some() {
            self.misses = 0;
        }
    }

    /// Records that bulk traffic arrived at `now`.
    #[inline]
    pub(in crate::dataplane) fn record_bulk(&mut self, now: Instant) {
        self.record_work();
        self.bulk.record(now);
    }

    /// Records that the thread slept for `time`.
    pub(in crate::dataplane) fn record_sleep(&mut self, time: Duration) {
        if time < self.limit * 2 {
            self.misses = 0;
        }
    }

    /// Whether the thread polls for a while before it sleeps.
    #[inline]
    pub(in crate::dataplane) fn is_worthwhile(&self) -> bool {
        !self.limit.is_zero() && self.misses < MAX_MISSES
    }

    /// Whether to poll again after a turn at `now` that found every source empty.
    #[inline]
    pub(in crate::dataplane) fn poll_again(&mut self, now: Instant) -> bool {
        let (began, last) = self.period.take().unwrap_or((now, now));
        self.wasted += now.duration_since(last);
        if self.bulk.is_recent(now) {
            return false;
        }
        let again = now.duration_since(began) < self.limit;
        if again {
            self.period = Some((began, now));
        } else {
            self.misses += 1;
        }
        again
    }

    /// How long the thread has polled without a packet since the last call. The time before a poll that
    /// met a packet does not count.
    pub(in crate::dataplane) fn take_wasted(&mut self) -> Duration {
        std::mem::take(&mut self.wasted)
    }

    /// Whether bulk traffic is recent at `now`, in either direction of the worker.
    pub(in crate::dataplane) fn has_recent_bulk(&self, now: Instant) -> bool {
        self.bulk.is_recent(now)
    }
}

/// Periods in a row without a packet after which polling no longer pays.
const MAX_MISSES: u32 = 4;
/// How long traffic counts as bulk after a large batch: some round trips of a bulk TCP flow.
pub(in crate::dataplane) const BULK_WINDOW: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(20);
    const STEP: Duration = Duration::from_micros(1);

    /// A thread and the time that passes for it.
    struct Thread {
        busy_poll: BusyPoll,
        now: Instant,
    }

    impl Thread {
        fn new(limit: Duration) -> Self {
            let bulk = Arc::new(RecentEvent::new(BULK_WINDOW));
            Self { busy_poll: BusyPoll::new(limit, bulk), now: Instant::now() }
        }

        fn polls(&mut self) -> bool {
            self.busy_poll.is_worthwhile() && self.busy_poll.poll_again(self.now)
        }

        /// Polls without a packet until the thread would sleep; returns for how long.
        fn miss(&mut self) -> Duration {
            let began = self.now;
            while self.polls() {
                self.now += STEP;
            }
            self.now - began
        }

        fn sleep(&mut self, time: Duration) {
            self.now += time;
            self.busy_poll.record_sleep(time);
        }
    }

    #[test]
    fn a_limit_of_zero_turns_polling_off() {
        assert_eq!(Thread::new(Duration::ZERO).miss(), Duration::ZERO);
    }

    #[test]
    fn polling_stops_when_it_does_not_pay_and_starts_when_it_would_have() {
        let mut thread = Thread::new(LIMIT);
        for _ in 0..MAX_MISSES {
            assert_eq!(thread.miss(), LIMIT);
            thread.sleep(Duration::from_secs(1));
            thread.busy_poll.record_work();
        }
        assert_eq!(thread.miss(), Duration::ZERO);
        thread.sleep(LIMIT * 2);
        assert_eq!(thread.miss(), Duration::ZERO, "the sleep was too long");
        thread.sleep(LIMIT * 2 - STEP);
        assert_eq!(thread.miss(), LIMIT);
    }

    #[test]
    fn only_polls_without_a_packet_count_as_wasted() {
        let mut thread = Thread::new(LIMIT);
        let polled = thread.miss();
        assert_eq!(thread.busy_poll.take_wasted(), polled);
        assert_eq!(thread.busy_poll.take_wasted(), Duration::ZERO, "returned once");
        // The poll that met a packet was worth its time, and a sleep is no polling.
        assert!(thread.polls());
        thread.now += LIMIT / 2;
        thread.busy_poll.record_work();
        thread.sleep(Duration::from_secs(1));
        assert!(thread.polls());
        assert_eq!(thread.busy_poll.take_wasted(), Duration::ZERO);
    }

    #[test]
    fn no_thread_of_a_worker_polls_beside_bulk() {
        let bulk = Arc::new(RecentEvent::new(BULK_WINDOW));
        let [mut one, mut other] = [(); 2].map(|()| BusyPoll::new(LIMIT, Arc::clone(&bulk)));
        let now = Instant::now();
        assert!(one.poll_again(now) && !one.has_recent_bulk(now));
        other.record_bulk(now);
        assert!(!one.poll_again(now) && !other.poll_again(now));
        assert!(one.has_recent_bulk(now) && other.has_recent_bulk(now));
        let later = now + BULK_WINDOW;
        assert!(one.poll_again(later) && other.poll_again(later));
        assert_eq!(one.misses + other.misses, 0, "bulk is not a miss");
    }

    #[test]
    fn a_packet_met_while_polling_clears_the_misses() {
        let mut thread = Thread::new(LIMIT);
        for _ in 1..MAX_MISSES {
            assert_eq!(thread.miss(), LIMIT);
        }
        assert!(thread.polls());
        thread.busy_poll.record_work();
        for _ in 0..MAX_MISSES {
            assert_eq!(thread.miss(), LIMIT);
        }
        assert_eq!(thread.miss(), Duration::ZERO);
    }
}
