//! The watcher: lists and watches the registry, for ever, whatever happens to it.
//!
//! After any break everything is listed anew: a server that was restored from an older snapshot,
//! or restarted empty, keeps its name and may count past our revision, so nothing but a list tells
//! the truth.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, OptionFuture};
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::Timing;
use super::wait::LogThrottle;
use crate::subnet::backoff::Backoff;
use crate::subnet::store::{
    LeaseStore, ListAndWatch, StoreChange, StoreError, StoreSnapshot, WatchStream,
};

/// What the watcher tells.
pub(super) enum WatcherEvent {
    /// Everything there is.
    List(StoreSnapshot),
    /// What changed after the list; nothing is a sign of life.
    Changes(Vec<StoreChange>),
    /// The registry cannot be reached.
    Lost(String),
}

/// Runs until the receiver is gone.
pub(super) async fn run(store: Arc<dyn LeaseStore>, timing: Timing, to: Sender<WatcherEvent>) {
    let backoff = Backoff::new(timing.backoff_first, timing.backoff_limit);
    let throttle = LogThrottle::new(timing.log_interval);
    let mut watcher =
        LeaseWatcher { store, timing, to, backoff, throttle, lost_at: None, said: false };
    while watcher.session().await.is_some() {}
}

struct LeaseWatcher {
    store: Arc<dyn LeaseStore>,
    timing: Timing,
    to: Sender<WatcherEvent>,
    backoff: Backoff,
    throttle: LogThrottle,
    lost_at: Option<Instant>,
    /// Whether the log says that the registry is lost.
    said: bool,
}

impl LeaseWatcher {
    /// Attempts until one comes through, and the watch that came of it; `None` if nobody listens
    /// any more.
    async fn session(&mut self) -> Option<()> {
        let mut race = self.race();
        let ListAndWatch { snapshot, stream } = loop {
            match race.next().await {
                Ok(listed) => break listed,
                Err(error) => self.failed(&error).await?,
            }
        };
        drop(race);
        self.came_back();
        self.to.send(WatcherEvent::List(snapshot)).await.ok()?;
        let began = Instant::now();
        let error = self.live(stream).await?;
        if began.elapsed() > STABLE {
            self.backoff.reset();
        }
        debug!(%error, "the watch ended");
        self.lost_at.get_or_insert_with(Instant::now);
        sleep(self.backoff.next_wait()).await;
        Some(())
    }

    /// Passes changes on until the watch ends; returns why it did.
    ///
    /// A watch can die without a word. So a silent one is asked for a sign of life, and if none
    /// comes soon a second connection is tried beside it: whichever speaks first is the watch.
    async fn live(&mut self, mut stream: Box<dyn WatchStream>) -> Option<StoreError> {
        let mut asked: Option<Instant> = None;
        let mut probe_at = Instant::now() + self.timing.probe;
        let mut resync_at = self.resync_at();
        let mut answer_timeout = self.timing.suspect;
        let mut second: Option<AttemptRace> = None;
        loop {
            let suspect_at = asked.map(|asked| asked + answer_timeout);
            let idle = second.is_none();
            tokio::select! {
                heard = stream.next() => {
                    let heard = match heard {
                        Ok(heard) => heard,
                        Err(error) => return Some(error),
                    };
                    if let Some(asked) = asked.take() {
                        answer_timeout = (asked.elapsed() * 2).clamp(self.timing.suspect, MAX_ANSWER_TIMEOUT);
                        second = None;
                    }
                    self.came_back();
                    probe_at = Instant::now() + self.timing.probe;
                    self.to.send(WatcherEvent::Changes(heard)).await.ok()?;
                }
                () = sleep_until(probe_at), if asked.is_none() => {
                    if let Err(error) = stream.probe().await {
                        return Some(error);
                    }
                    asked = Some(Instant::now());
                }
                () = sleep_until(suspect_at.unwrap_or(probe_at)), if suspect_at.is_some() && idle => {
                    debug!("the watch is silent; trying another connection beside it");
                    second = Some(self.race());
                }
                () = sleep_until(resync_at), if idle => {
                    second = Some(self.race());
                    resync_at = self.resync_at();
                }
                Some(outcome) = OptionFuture::from(second.as_mut().map(AttemptRace::next)) => {
                    match outcome {
                        Ok(listed) => {
                            second = None;
                            asked = None;
                            self.came_back();
                            stream = listed.stream;
                            probe_at = Instant::now() + self.timing.probe;
                            self.to.send(WatcherEvent::List(listed.snapshot)).await.ok()?;
                        }
                        Err(error) if asked.is_some() => self.failed(&error).await?,
                        // A list that was only meant to make sure; the watch is well.
                        Err(error) => {
                            second = None;
                            debug!(%error, "could not list anew");
                        }
                    }
                }
            }
        }
    }

    fn race(&self) -> AttemptRace {
        let backoff = Backoff::new(self.timing.backoff_first, self.timing.backoff_limit);
        AttemptRace {
            store: Arc::clone(&self.store),
            hedge: self.timing.hedge,
            backoff,
            attempts: FuturesUnordered::new(),
            next_at: Instant::now(),
        }
    }

    fn resync_at(&self) -> Instant {
        Instant::now() + self.timing.resync.mul_f64(0.75 + fastrand::f64() / 2.0)
    }

    async fn failed(&mut self, error: &StoreError) -> Option<()> {
        self.lost_at.get_or_insert_with(Instant::now);
        if self.throttle.allow() {
            self.said = true;
            let store = self.store.describe();
            warn!(%store, %error, "registry lost; forwarding goes on with the routes as they are");
        }
        self.to.send(WatcherEvent::Lost(error.to_string())).await.ok()
    }

    fn came_back(&mut self) {
        let Some(lost_at) = self.lost_at.take() else { return };
        if std::mem::take(&mut self.said) {
            let store = self.store.describe();
            info!(%store, away = ?rounded(lost_at.elapsed()), "registry is back");
        }
        self.throttle.reset();
    }
}

/// Lists and watches by whichever attempt comes through first.
///
/// An attempt that fell into a hole says nothing until its time is out. So as long as none has
/// come through, another is started beside it: the registry's return is seen by the next one.
struct AttemptRace {
    store: Arc<dyn LeaseStore>,
    hedge: Duration,
    backoff: Backoff,
    attempts: FuturesUnordered<BoxFuture<'static, Result<ListAndWatch, StoreError>>>,
    next_at: Instant,
}

impl AttemptRace {
    /// The outcome of the next attempt that has one; more attempts follow a failed one. May be
    /// dropped while it waits.
    async fn next(&mut self) -> Result<ListAndWatch, StoreError> {
        loop {
            if self.attempts.len() < MAX_ATTEMPTS && Instant::now() >= self.next_at {
                let store = Arc::clone(&self.store);
                self.attempts.push(Box::pin(async move { store.watch().await }));
                self.next_at = Instant::now() + self.hedge.mul_f64(0.75 + fastrand::f64() / 4.0);
            }
            let room = self.attempts.len() < MAX_ATTEMPTS;
            tokio::select! {
                Some(outcome) = self.attempts.next() => {
                    if outcome.is_err() && self.attempts.is_empty() {
                        self.next_at = Instant::now() + self.backoff.next_wait();
                    }
                    return outcome;
                }
                () = sleep_until(self.next_at), if room => {}
            }
        }
    }
}

fn rounded(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis() as u64)
}

/// Attempts that may be under way at once.
const MAX_ATTEMPTS: usize = 6;
/// A watch that lived this long was a good one.
const STABLE: Duration = Duration::from_secs(2);
/// However slow the registry is, a watch that is silent for longer is doubted.
const MAX_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
