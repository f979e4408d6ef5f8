//! Counters: one block a thread, on cache lines of its own, summed by whoever reads.
//!
//! Conservation: in each direction `received = carried + Σ dropped`, in inner packets as they stand
//! on the wire; a super-packet counts as its segments.

use std::sync::atomic::{AtomicU64, Ordering};

use super::peers::PeerCounters;
use crate::route::PeerIndex;

mod busy;
mod reasons;
mod stats;

pub use busy::BusyClock;
pub use reasons::DropReason;
pub use stats::{DirectionStats, HistogramStats, Stats};

/// A counter with one writer.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may: it is a load and a store, not an atomic addition.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const REASONS: usize = DropReason::ALL.len();

/// Counts of a value by powers of two: bucket *i* holds values up to 2^*i*.
#[derive(Default, Debug)]
pub struct Histogram {
    buckets: [Counter; Self::BUCKETS],
    sum: Counter,
}

impl Histogram {
    /// Number of buckets; the last holds everything larger as well.
    pub const BUCKETS: usize = 12;

    /// Counts `value`.
    #[inline]
    pub fn record(&self, value: u64) {
        let bucket = value.max(1).next_power_of_two().trailing_zeros() as usize;
        self.buckets[bucket.min(Self::BUCKETS - 1)].add(1);
        self.sum.add(value);
    }
}

/// Counters of one direction in one thread.
#[derive(Default, Debug)]
#[repr(align(128))]
pub struct DirectionCounters {
    /// Packets taken in.
    pub packets: Counter,
    /// Bytes of those packets.
    pub bytes: Counter,
    /// Packets carried: sent, or delivered to the TUN device.
    pub carried_packets: Counter,
    /// Bytes of those packets.
    pub carried_bytes: Counter,
    /// System calls that took packets in.
    pub in_calls: Counter,
    /// System calls that put packets out.
    pub out_calls: Counter,
    /// Units taken in: TUN packets or UDP messages, each of one or more inner packets.
    pub in_units: Counter,
    /// Units put out: UDP messages or TUN packets.
    pub out_units: Counter,
    /// Runs of datagrams that the kernel would not cut and that were sent again one by one.
    pub uncut: Counter,
    /// ICMP errors generated.
    pub icmp: Counter,
    /// ICMP errors held back by the rate limit.
    pub icmp_limited: Counter,
    /// Packets whose inner source failed the check, dropped or not.
    pub source_mismatches: Counter,
    /// Packets whose inner source is in nobody's lease yet, carried during their sender's grace.
    pub source_grace: Counter,
    /// Packets whose inner destination failed the check, dropped or not.
    pub destination_mismatches: Counter,
    /// Failed checks that were not told to control, because it had not yet read of others.
    pub mismatches_untold: Counter,
    /// Inner packets a batch.
    pub batch: Histogram,
    /// Inner packets a system call of the UDP socket: one that sends, or one that receives.
    pub socket_call_packets: Histogram,
    /// Inner packets a unit taken in.
    pub in_unit_packets: Histogram,
    /// Inner packets a unit put out.
    pub out_unit_packets: Histogram,
    /// What of `carried_packets` and `carried_bytes` belongs to which peer, and of what was not sent.
    pub(super) peers: PeerCounters,
    drops: [Counter; REASONS],
}

impl DirectionCounters {
    /// Counts packets to or from `peer` as carried.
    #[inline]
    pub(super) fn carry(&self, peer: PeerIndex, packets: u64, bytes: u64) {
        self.carried_packets.add(packets);
        self.carried_bytes.add(bytes);
        self.peers.add(peer, packets, bytes);
    }

    /// Counts `packets` packets as dropped.
    #[inline]
    pub fn drop(&self, reason: DropReason, packets: u64) {
        self.drops[reason as usize].add(packets);
    }

    /// Counts packets to `peer` that the kernel did not send.
    #[cold]
    pub(super) fn unsent(&self, reason: DropReason, peer: PeerIndex, packets: u64) {
        self.drop(reason, packets);
        self.peers.add_unsent(peer, packets);
    }

    /// Counts packets that were taken in and dropped.
    pub(super) fn lose(&self, reason: DropReason, packets: usize, bytes: usize) {
        self.packets.add(packets as u64);
        self.bytes.add(bytes as u64);
        self.drop(reason, packets as u64);
    }
}

/// Counters of one thread.
#[derive(Default, Debug)]
#[repr(align(128))]
pub struct ThreadCounters {
    /// From the TUN device to UDP.
    pub egress: DirectionCounters,
    /// From UDP to the TUN device.
    pub ingress: DirectionCounters,
    /// Times the thread went to sleep.
    pub sleeps: Counter,
    /// Nanoseconds asleep.
    pub asleep_nanos: Counter,
    /// Rounds that found nothing and looked again instead of going to sleep.
    pub spins: Counter,
    /// Nanoseconds between such rounds.
    pub spinning_nanos: Counter,
    /// Times the thread handed the ingress half of its worker to the other thread.
    pub hand_overs: Counter,
    /// Rounds of the thread's loop: it lives while this moves after a wake-up.
    pub rounds: Counter,
    /// Time awake.
    pub busy: BusyClock,
}

impl ThreadCounters {
    /// Counters of a thread that works in these directions; what it carries in the other has no
    /// room for peers.
    pub(super) fn new(egress: bool, ingress: bool) -> Self {
        let mut counters = Self::default();
        if egress {
            counters.egress.peers = PeerCounters::sending();
        }
        if ingress {
            counters.ingress.peers = PeerCounters::receiving();
        }
        counters
    }
}

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
        let stats = Stats::sum(&threads);
        assert_eq!(stats.egress.packets, 7);
        assert_eq!(stats.egress.drops["no-route"], 2);
        assert_eq!(stats.egress.dropped(), 2);
        assert_eq!(stats.ingress.batch.buckets[3], 1);
    }

    #[test]
    fn values_fall_into_the_bucket_of_the_next_power() {
        let histogram = Histogram::default();
        for value in [0, 1, 2, 3, 4, 5, 1 << 40] {
            histogram.record(value);
        }
        let stats = HistogramStats::from(&histogram);
        assert_eq!(stats.buckets[..4], [2, 1, 2, 1]);
        assert_eq!(stats.buckets[Histogram::BUCKETS - 1], 1);
    }
}
