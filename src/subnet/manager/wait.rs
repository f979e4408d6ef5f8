//! Waiting for the lease store and for the network config, with the reason in the log.

use std::future::Future;

use backon::Retryable;
use tokio::time::sleep;
use tracing::{debug, error, warn};

use super::ManagerOptions;
use super::log_throttle::LogThrottle;
use crate::subnet::backoff::{Backoff, exponential};
use crate::subnet::store::{LeaseStore, StoreError, UnavailableKind};
use crate::subnet::{ConfigError, NetworkConfig};

/// Waits for a usable network config.
///
/// # Errors
/// A config with which flannel exits at once.
pub(super) async fn config(
    store: &dyn LeaseStore,
    options: &ManagerOptions,
) -> Result<NetworkConfig, ConfigError> {
    let timing = &options.timing;
    let mut throttle = LogThrottle::new(timing.log_interval);
    let mut backoff = Backoff::new(timing.backoff_first, timing.config_poll);
    loop {
        let mut endpoints = Vec::new();
        let problem = match store.config().await {
            Ok(Some(text)) => {
                options.refusal.clear();
                match NetworkConfig::parse(&text) {
                    Ok(config) => return Ok(config),
                    Err(error) if error.is_fatal() => return Err(error),
                    Err(error) => Some(format!("Couldn't fetch network config: {error}")),
                }
            }
            // The text costs a request, so it is made only if it can be logged.
            Ok(None) if throttle.is_due() => Some(missing(store).await),
            Ok(None) => None,
            Err(error) => {
                options.refusal.set(&error);
                let failure = Failure::new(store, &error);
                endpoints = failure.endpoints;
                Some(failure.summary)
            }
        };
        let delay = backoff.next_wait();
        debug!(kind = "retry", ?delay, "no usable network config yet; reading it again");
        if let Some(problem) = problem
            && throttle.allow()
        {
            error!("{problem}; waiting");
            endpoints.iter().for_each(|line| error!("{line}"));
        }
        sleep(delay).await;
    }
}

/// A failure to use the store, for the log.
pub(super) struct Failure {
    /// The store, what is wrong and what to do about it, in one line.
    pub(super) summary: String,
    /// A line for each endpoint, if there are several.
    pub(super) endpoints: Vec<String>,
}

impl Failure {
    pub(super) fn new(store: &dyn LeaseStore, error: &StoreError) -> Self {
        let (store, remedy) = (store.describe(), error.remedy());
        let mut endpoints: Vec<_> = error.to_string().lines().map(str::to_owned).collect();
        let is_refusal = error.kind().is_some_and(UnavailableKind::is_refusal);
        let reason = match &mut endpoints {
            one if one.len() == 1 => one.remove(0),
            several if is_refusal => several[0].clone(),
            _ => "no endpoint can be used".into(),
        };
        let summary = match error.kind() {
            _ if is_refusal => format!("{store} refuses: {reason}; {remedy}"),
            // etcd may have answered, or the kernel has no route to it: the error says which.
            None | Some(UnavailableKind::NoLeader | UnavailableKind::Other) => {
                format!("{store}: {reason}")
            }
            Some(_) => format!("cannot reach {store}: {reason}"),
        };
        Self { summary, endpoints }
    }
}

/// The message for a config that does not exist, with a sample of the keys that do.
async fn missing(store: &dyn LeaseStore) -> String {
    let others = match store.other_keys().await {
        Ok(keys) if keys.is_empty() => "nothing else is there".to_owned(),
        Ok(keys) => format!("found there: {}", keys.join(", ")),
        Err(error) => format!("cannot list what is there: {error}"),
    };
    format!(
        "Couldn't fetch network config: flannel config not found in {}, at {}. \
         {} ({others})",
        store.describe(),
        store.describe_config(),
        store.config_hint()
    )
}

/// Repeats `op` until the lease store answers, and returns its answer: a value, or a conflict.
pub(super) async fn answer<T, F, R>(
    store: &dyn LeaseStore,
    options: &ManagerOptions,
    op: F,
) -> Result<T, StoreError>
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, StoreError>>,
{
    let timing = &options.timing;
    let mut throttle = LogThrottle::new(timing.log_interval);
    op.retry(exponential(timing.backoff_first, timing.backoff_limit))
        // A list that a compaction overtook is listed again, without a line in the log.
        .when(|error| !matches!(error, StoreError::Conflict))
        .notify(|error, delay| {
            options.refusal.set(error);
            debug!(kind = "retry", ?delay, %error, "the lease store did not answer; retrying");
            if matches!(error, StoreError::Unavailable { .. }) && throttle.allow() {
                let Failure { summary, endpoints } = Failure::new(store, error);
                warn!("{summary}; retrying");
                endpoints.iter().for_each(|line| warn!("{line}"));
            }
        })
        .await
}
