//! Hedged attempts to start a watch.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::Timing;
use crate::subnet::backoff::Backoff;
use crate::subnet::store::{LeaseStore, ListAndWatch, StoreError};

/// Starts a watch by whichever of several concurrent attempts succeeds first.
///
/// An attempt whose packets are lost reports nothing until its time limit. Another attempt is
/// therefore started beside it from time to time, and the first one after the store's return
/// succeeds at once.
pub(super) struct HedgedStart {
    store: Arc<dyn LeaseStore>,
    hedge: Duration,
    backoff: Backoff,
    attempts: FuturesUnordered<BoxFuture<'static, Result<ListAndWatch, StoreError>>>,
    next_at: Instant,
}

impl HedgedStart {
    /// A start whose first attempt is made at once.
    pub(super) fn new(store: &Arc<dyn LeaseStore>, timing: &Timing) -> Self {
        Self {
            store: Arc::clone(store),
            hedge: timing.hedge,
            backoff: Backoff::new(timing.backoff_first, timing.backoff_limit),
            attempts: FuturesUnordered::new(),
            next_at: Instant::now(),
        }
    }

    /// The outcome of the attempt that ends next. A failed attempt is followed by others in later
    /// calls. The future may be dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<ListAndWatch, StoreError> {
        loop {
            if self.attempts.len() < MAX_ATTEMPTS && Instant::now() >= self.next_at {
                let store = Arc::clone(&self.store);
                self.attempts.push(Box::pin(async move { store.watch().await }));
                self.next_at = Instant::now() + self.hedge.mul_f64(0.75 + fastrand::f64() / 4.0);
            }
            let has_room = self.attempts.len() < MAX_ATTEMPTS;
            tokio::select! {
                Some(outcome) = self.attempts.next() => {
                    if let Err(error) = &outcome {
                        let mut delay = None;
                        if self.attempts.is_empty() {
                            let wait = self.backoff.next_wait();
                            self.next_at = Instant::now() + wait;
                            delay = Some(wait);
                        }
                        let others = self.attempts.len();
                        debug!(kind = "retry", ?delay, others, %error, "cannot start the watch; trying again");
                    }
                    return outcome;
                }
                () = sleep_until(self.next_at), if has_room => {}
            }
        }
    }
}

/// Upper limit of concurrent attempts.
const MAX_ATTEMPTS: usize = 6;
