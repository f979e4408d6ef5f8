//! Round-trip times and their percentiles.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Round-trip times, recorded in nanoseconds with three significant digits.
#[derive(Debug, Clone)]
pub struct LatencyHistogram {
    nanos: Histogram<u64>,
}

/// Percentiles of round-trip times, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the definitions")]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        let nanos = Histogram::new_with_max(LONGEST.as_nanos() as u64, SIGNIFICANT_DIGITS);
        Self { nanos: nanos.expect("constant bounds that the histogram accepts") }
    }
}

impl LatencyHistogram {
    /// Adds one time; a time above a minute counts as a minute.
    pub fn record(&mut self, time: Duration) {
        self.nanos.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many times were added.
    pub fn count(&self) -> u64 {
        self.nanos.len()
    }

    /// Removes all times.
    pub fn clear(&mut self) {
        self.nanos.reset();
    }

    /// The percentiles; all 0 if no times were added.
    pub fn percentiles(&self) -> Percentiles {
        let micros = |quantile| self.nanos.value_at_quantile(quantile) as f64 / 1e3;
        Percentiles {
            p50: micros(0.5),
            p90: micros(0.9),
            p99: micros(0.99),
            p999: micros(0.999),
            max: self.nanos.max() as f64 / 1e3,
        }
    }
}

/// The longest time that is recorded. An echo client gives a request up after 200 ms.
const LONGEST: Duration = Duration::from_secs(60);

/// A recorded time differs from the true one by less than 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_ramp() {
        let mut histogram = LatencyHistogram::default();
        for us in 1..=1000 {
            histogram.record(Duration::from_micros(us));
        }
        let Percentiles { p50, p90, p99, p999, max } = histogram.percentiles();
        for (measured, exact) in
            [(p50, 500.0), (p90, 900.0), (p99, 990.0), (p999, 999.0), (max, 1000.0)]
        {
            assert!((measured - exact).abs() / exact < 0.001, "{measured} for {exact}");
        }
        assert_eq!(histogram.count(), 1000);
        histogram.clear();
        assert_eq!((histogram.count(), histogram.percentiles()), (0, Percentiles::default()));
    }

    #[test]
    fn a_time_beyond_the_longest_is_counted() {
        let mut histogram = LatencyHistogram::default();
        histogram.record(Duration::MAX);
        assert_eq!(histogram.count(), 1);
        assert!(histogram.percentiles().max >= LONGEST.as_micros() as f64);
    }
}
