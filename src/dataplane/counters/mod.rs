//! Counters: one block per thread, on cache lines of its own, summed by the reader.
//!
//! A counter is declared in one line of `direction` or `thread`; its sum, its JSON field and its
//! metric follow from that line.
//!
//! Conservation: in each direction `received = carried + Σ dropped`, in inner packets as they stand
//! on the wire; a super-packet counts as its segments.

mod busy;
pub(super) mod by_peer;
mod counter;
mod declare;
mod direction;
pub mod metric;
mod reasons;
mod stats;
mod thread;

pub use busy::BusyClock;
pub use counter::{Cell, Counter, DropCounters, Histogram, HistogramStats};
pub use direction::{DirectionCounters, DirectionStats};
pub use reasons::DropReason;
pub use stats::Stats;
pub use thread::{ThreadCounters, ThreadStats};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_summed() {
        let threads = [ThreadCounters::default(), ThreadCounters::default()];
        threads[0].egress.packets.add(3);
        threads[1].egress.packets.add(4);
        threads[1].egress.drop(DropReason::NoRoute, 2);
        threads[1].ingress.batch.record(5);
        threads[0].sleeps.add(1);
        threads[1].sleeps.add(2);
        let mut stats = Stats::sum(&threads);
        assert_eq!(stats.egress.packets, 7);
        assert_eq!(stats.egress.drops["no-route"], 2);
        assert_eq!(stats.egress.dropped(), 2);
        assert_eq!(stats.ingress.batch.buckets[3], 1);
        assert_eq!(stats.threads.sleeps, 3);
        stats += &stats.clone();
        assert_eq!((stats.egress.packets, stats.threads.sleeps), (14, 6));
        assert_eq!((stats.egress.dropped(), stats.ingress.batch.sum), (4, 10));
    }
}
