//! Waits between attempts, by the `backon` crate.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// Exponential waits with jitter, without an end. Each wait is drawn from the upper half of a span
/// that begins at `first` and doubles up to `limit`, so that hosts that lost one server together do
/// not return together.
pub fn exponential(first: Duration, limit: Duration) -> ExponentialBuilder {
    // backon adds up to the whole delay as jitter, so the delay is half of the span.
    ExponentialBuilder::new()
        .with_min_delay(first / 2)
        .with_max_delay(limit / 2)
        .with_jitter()
        .without_max_times()
}

/// The waits of [`exponential`], for a state machine that learns by itself of success.
#[derive(Debug)]
pub struct Backoff {
    builder: ExponentialBuilder,
    waits: <ExponentialBuilder as BackoffBuilder>::Backoff,
    limit: Duration,
}

impl Backoff {
    /// Waits that begin near `first` and never exceed `limit`.
    pub fn new(first: Duration, limit: Duration) -> Self {
        let builder = exponential(first, limit);
        Self { builder, waits: builder.build(), limit }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        self.waits.next().unwrap_or(self.limit)
    }

    /// Starts again at the first wait, after a success.
    pub fn reset(&mut self) {
        self.waits = self.builder.build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_below_the_limit() {
        let (first, limit) = (Duration::from_millis(50), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, limit);
        let waits: Vec<_> = (0..20).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] <= first && waits[0] >= first / 2);
        assert!(waits[6..].iter().all(|&wait| wait >= limit / 2 && wait <= limit), "{waits:?}");
        backoff.reset();
        assert!(backoff.next_wait() <= first);
    }

    #[test]
    fn two_hosts_do_not_wait_alike() {
        let (first, limit) = (Duration::from_millis(50), Duration::from_secs(1));
        let waits = || {
            let mut backoff = Backoff::new(first, limit);
            (0..20).map(|_| backoff.next_wait()).collect::<Vec<_>>()
        };
        assert_ne!(waits(), waits());
    }
}
