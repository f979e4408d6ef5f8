//! A histogram of times with a bounded relative error.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Counts of nanoseconds in buckets at most 1/32 (3 %) wide.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

/// What a histogram says, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the definitions")]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; bucket_of(u64::MAX) + 1], count: 0, max: 0 }
    }
}

impl Histogram {
    /// Adds one time.
    pub fn record(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(ns)] += 1;
        self.count += 1;
        self.max = self.max.max(ns);
    }

    /// How many were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.buckets.fill(0);
        (self.count, self.max) = (0, 0);
    }

    /// The time in nanoseconds below which the share `q` (0 to 1) of all lies; 0 when empty.
    pub fn quantile(&self, q: f64) -> u64 {
        let rank = ((self.count as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= rank {
                return middle_of(bucket).min(self.max);
            }
        }
        0
    }

    /// The usual percentiles.
    pub fn percentiles(&self) -> Percentiles {
        let us = |q| self.quantile(q) as f64 / 1e3;
        Percentiles {
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            p999: us(0.999),
            max: self.max as f64 / 1e3,
        }
    }
}

/// Values below 32 have a bucket each; above, every power of two has 32.
fn bucket_of(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let shift = ns.ilog2() - STEPS.ilog2();
    shift as usize * STEPS as usize + (ns >> shift) as usize
}

fn middle_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    let low = (bucket - shift * STEPS) << shift;
    low + (1 << shift) / 2
}

const STEPS: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_is_near_its_values(ns in 0..u64::MAX / 2) {
            let told = middle_of(bucket_of(ns));
            prop_assert!(told.abs_diff(ns) as f64 <= ns as f64 / 32.0 + 0.5, "{ns} told as {told}");
        }
    }

    #[test]
    fn percentiles_of_a_ramp() {
        let mut histogram = Histogram::default();
        for us in 1..=1000 {
            histogram.record(Duration::from_micros(us));
        }
        let told = histogram.percentiles();
        for (told, exact) in [(told.p50, 500.0), (told.p90, 900.0), (told.p99, 990.0)] {
            assert!((told - exact).abs() / exact < 0.04, "{told} for {exact}");
        }
        assert_eq!(told.max, 1000.0);
        histogram.clear();
        assert_eq!(histogram.percentiles(), Percentiles::default());
    }
}
