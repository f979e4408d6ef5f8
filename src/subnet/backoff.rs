//! Waiting between attempts.

use std::time::Duration;

/// Exponential back-off with jitter: each wait is drawn from the upper half of a span that
/// doubles up to a limit, so hosts that lost one server together do not return together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    span: Duration,
    rng: fastrand::Rng,
}

impl Backoff {
    /// Waits that begin near `first` and never exceed `limit`.
    pub fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit, span: first, rng: fastrand::Rng::new() }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.span.mul_f64(0.5 + self.rng.f64() / 2.0);
        self.span = (self.span * 2).min(self.limit);
        wait
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.span = self.first;
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
}
