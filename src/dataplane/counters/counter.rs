//! The kinds of counters: a number, a histogram, a number per drop reason.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::DropReason;
use super::metric::{Kind, Reading};

/// A field of the counters of one thread: how its value is read, summed over threads, and exported.
pub trait Cell {
    /// The value at one moment, of one thread or of several together.
    type Sum: Default;

    /// The kind of metric that such values are.
    const KIND: Kind;

    /// The value now.
    fn read(&self) -> Self::Sum;

    /// Adds the value of another thread to `sum`.
    fn add(sum: &mut Self::Sum, other: &Self::Sum);

    /// The value as a metric's.
    fn reading(sum: &Self::Sum) -> Reading;
}

/// A number that only grows, with one writer.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call it: it is a load and a store, not an atomic addition.
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

impl Cell for Counter {
    type Sum = u64;

    const KIND: Kind = Kind::Counter;

    fn read(&self) -> u64 {
        self.get()
    }

    fn add(sum: &mut u64, other: &u64) {
        *sum += other;
    }

    fn reading(sum: &u64) -> Reading {
        Reading::Count(*sum)
    }
}

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

/// A [`Histogram`] at one moment.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HistogramStats {
    /// Counts by bucket.
    pub buckets: [u64; Histogram::BUCKETS],
    /// Sum of the values.
    pub sum: u64,
}

impl AddAssign<&Self> for HistogramStats {
    fn add_assign(&mut self, other: &Self) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += bucket;
        }
        self.sum += other.sum;
    }
}

impl Cell for Histogram {
    type Sum = HistogramStats;

    const KIND: Kind = Kind::Histogram;

    fn read(&self) -> HistogramStats {
        HistogramStats { buckets: self.buckets.each_ref().map(Counter::get), sum: self.sum.get() }
    }

    fn add(sum: &mut HistogramStats, other: &HistogramStats) {
        *sum += other;
    }

    fn reading(sum: &HistogramStats) -> Reading {
        Reading::Histogram(sum.clone())
    }
}

/// Dropped packets, by reason.
#[derive(Default, Debug)]
pub struct DropCounters([Counter; DropReason::ALL.len()]);

impl DropCounters {
    /// Counts `packets` packets as dropped for `reason`.
    #[inline]
    pub fn add(&self, reason: DropReason, packets: u64) {
        self.0[reason as usize].add(packets);
    }
}

impl Cell for DropCounters {
    type Sum = BTreeMap<Cow<'static, str>, u64>;

    const KIND: Kind = Kind::CounterByReason;

    fn read(&self) -> Self::Sum {
        let counts = DropReason::ALL.iter().zip(&self.0);
        counts.map(|(reason, count)| (reason.name().into(), count.get())).collect()
    }

    fn add(sum: &mut Self::Sum, other: &Self::Sum) {
        for (reason, count) in other {
            *sum.entry(reason.clone()).or_default() += count;
        }
    }

    fn reading(sum: &Self::Sum) -> Reading {
        Reading::ByReason(sum.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_of_the_next_power() {
        let histogram = Histogram::default();
        for value in [0, 1, 2, 3, 4, 5, 1 << 40] {
            histogram.record(value);
        }
        let stats = histogram.read();
        assert_eq!(stats.buckets[..4], [2, 1, 2, 1]);
        assert_eq!(stats.buckets[Histogram::BUCKETS - 1], 1);
    }
}
