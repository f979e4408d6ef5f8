//! Waiting for the registry and its config, and saying why.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{error, warn};

use super::Timing;
use crate::subnet::backoff::Backoff;
use crate::subnet::store::{LeaseStore, StoreError};
use crate::subnet::{ConfigError, NetworkConfig};

/// Waits for a good config.
pub(super) async fn config(
    store: &dyn LeaseStore,
    timing: &Timing,
) -> Result<NetworkConfig, ConfigError> {
    let mut throttle = LogThrottle::new(timing.log_interval);
    let mut backoff = Backoff::new(timing.backoff_first, timing.config_poll);
    loop {
        let trouble = match store.config().await {
            Ok(Some(text)) => match NetworkConfig::parse(&text) {
                Ok(config) => return Ok(config),
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => format!("Couldn't fetch network config: {error}"),
            },
            Ok(None) if throttle.due() => missing(store).await,
            Ok(None) => String::new(),
            Err(error) => format!("cannot reach {}: {error}", store.describe()),
        };
        if !trouble.is_empty() && throttle.allow() {
            error!("{trouble}; waiting");
        }
        sleep(backoff.next_wait()).await;
    }
}

/// The text for a config that is not there, with what is there instead.
async fn missing(store: &dyn LeaseStore) -> String {
    let others = match store.other_keys().await {
        Ok(keys) if keys.is_empty() => "no other key exists either".to_owned(),
        Ok(keys) => format!("these keys exist: {}", keys.join(", ")),
        Err(error) => format!("other keys cannot be listed: {error}"),
    };
    format!(
        "Couldn't fetch network config: flannel config not found in {}. \
         Did you create your config using etcdv3 API? ({others})",
        store.describe()
    )
}

/// Repeats `op` until the registry answers; what it answers is for the caller.
pub(super) async fn answer<T, F, R>(
    store: &dyn LeaseStore,
    timing: &Timing,
    mut op: F,
) -> Result<T, StoreError>
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, StoreError>>,
{
    let mut throttle = LogThrottle::new(timing.log_interval);
    let mut backoff = Backoff::new(timing.backoff_first, timing.backoff_limit);
    loop {
        match op().await {
            Err(error @ StoreError::Unavailable { .. }) => {
                if throttle.allow() {
                    warn!(registry = store.describe(), %error, "registry does not answer; trying on");
                }
            }
            // A list outlived by a compaction: just list again.
            Err(StoreError::Compacted) => {}
            other => return other,
        }
        sleep(backoff.next_wait()).await;
    }
}

/// Lets a line through at once, again soon, and then now and then.
pub(super) struct LogThrottle {
    every: Duration,
    last: Option<Instant>,
    passed: u32,
}

impl LogThrottle {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, last: None, passed: 0 }
    }

    /// Whether a line may be said now.
    pub(super) fn due(&self) -> bool {
        let wait = if self.passed < 2 { self.every / 3 } else { self.every };
        self.last.is_none_or(|last| last.elapsed() >= wait)
    }

    /// Like [`due`](Self::due), and counts the line as said.
    pub(super) fn allow(&mut self) -> bool {
        let due = self.due();
        if due {
            self.last = Some(Instant::now());
            self.passed += 1;
        }
        due
    }

    /// The trouble is over. The next one is said soon again, though not more often than before.
    pub(super) fn reset(&mut self) {
        self.passed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lasting_trouble_is_a_few_lines() {
        let mut throttle = LogThrottle::new(Duration::from_millis(150));
        let mut lines = 0;
        for _ in 0..60 {
            lines += u32::from(throttle.allow());
            sleep(Duration::from_millis(10)).await;
        }
        assert!((3..=7).contains(&lines), "{lines}");
    }
}
