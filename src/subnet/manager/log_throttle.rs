//! Few log lines about a failure that lasts.

use std::time::Duration;

use tokio::time::Instant;

/// Allows a first line at once, two more soon, and then one per interval.
pub(super) struct LogThrottle {
    interval: Duration,
    last: Option<Instant>,
    allowed: u32,
}

impl LogThrottle {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, last: None, allowed: 0 }
    }

    /// Whether a line may be logged now.
    pub(super) fn is_due(&self) -> bool {
        let wait = if self.allowed < 2 { self.interval / 3 } else { self.interval };
        self.last.is_none_or(|last| last.elapsed() >= wait)
    }

    /// Like [`is_due`](Self::is_due), and counts the line as logged.
    pub(super) fn allow(&mut self) -> bool {
        let due = self.is_due();
        if due {
            self.last = Some(Instant::now());
            self.allowed += 1;
        }
        due
    }

    /// Ends a failure. The first lines about the next failure come soon again, but no closer
    /// together than before.
    pub(super) fn reset(&mut self) {
        self.allowed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lasting_failure_is_a_few_lines() {
        let mut throttle = LogThrottle::new(Duration::from_millis(150));
        let mut lines = 0;
        for _ in 0..60 {
            lines += u32::from(throttle.allow());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!((3..=7).contains(&lines), "{lines}");
    }
}
