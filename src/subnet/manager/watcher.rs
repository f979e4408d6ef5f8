//! The watcher: lists and watches the lease store until the manager ends, through every failure.
//!
//! After each interruption everything is listed again. A server that was restored from an older
//! snapshot, or restarted empty, keeps its name, and its revisions may pass the last one that this
//! host has seen; only a list shows the difference.

use std::sync::Arc;
use std::time::Duration;

use futures::future::OptionFuture;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, trace, warn};

use super::Timing;
use super::hedge::HedgedStart;
use super::log_throttle::LogThrottle;
use super::wait::Failure;
use crate::subnet::backoff::Backoff;
use crate::subnet::store::{
    LeaseStore, ListAndWatch, StoreChange, StoreError, StoreSnapshot, WatchStream,
};

/// A report of the watcher.
pub(super) enum WatcherEvent {
    /// All entries.
    List(StoreSnapshot),
    /// The changes since the last event; an empty list is a sign of life.
    Changes(Vec<StoreChange>),
    /// The lease store cannot be reached, with the error.
    Lost(String),
}

/// Runs until the receiver is dropped.
pub(super) async fn run(store: Arc<dyn LeaseStore>, timing: Timing, to: Sender<WatcherEvent>) {
    let backoff = Backoff::new(timing.backoff_first, timing.backoff_limit);
    let throttle = LogThrottle::new(timing.log_interval);
    let mut watcher = LeaseWatcher {
        store,
        timing,
        to,
        backoff,
        throttle,
        lost_at: None,
        has_logged_loss: false,
    };
    while watcher.session().await.is_some() {}
}

/// Lists and watches; `None` from a method means that the receiver was dropped.
struct LeaseWatcher {
    store: Arc<dyn LeaseStore>,
    timing: Timing,
    to: Sender<WatcherEvent>,
    backoff: Backoff,
    throttle: LogThrottle,
    /// Since when the lease store has been out of reach.
    lost_at: Option<Instant>,
    /// Whether the log has a line about the present loss.
    has_logged_loss: bool,
}

impl LeaseWatcher {
    /// Starts one watch, and follows it until it ends.
    async fn session(&mut self) -> Option<()> {
        let mut start = self.start();
        let ListAndWatch { snapshot, stream } = loop {
            match start.next().await {
                Ok(started) => break started,
                Err(error) => self.on_failure(&error).await?,
            }
        };
        drop(start);
        self.on_contact();
        let (revision, entries) = (snapshot.revision, snapshot.records.len());
        debug!(kind = "watch", revision, entries, "listed the leases; watching for changes");
        self.to.send(WatcherEvent::List(snapshot)).await.ok()?;
        let began = Instant::now();
        let error = self.stream_changes(stream).await?;
        if began.elapsed() > STABLE {
            self.backoff.reset();
        }
        let delay = self.backoff.next_wait();
        debug!(kind = "watch", ?delay, %error, "the watch ended; restarting it");
        self.lost_at.get_or_insert_with(Instant::now);
        sleep(delay).await;
        Some(())
    }

    /// Passes changes on until the watch ends; returns the reason.
    ///
    /// A connection can die without a FIN or RST. A silent watch is therefore asked for a sign of
    /// life, and if none comes in time a second watch is started beside it. The one that answers
    /// first is followed from then on.
    async fn stream_changes(&mut self, mut stream: Box<dyn WatchStream>) -> Option<StoreError> {
        let mut asked: Option<Instant> = None;
        let mut probe_at = Instant::now() + self.timing.probe;
        let mut resync_at = self.resync_at();
        let mut answer_timeout = self.timing.suspect;
        let mut second: Option<HedgedStart> = None;
        loop {
            let suspect_at = asked.map(|asked| asked + answer_timeout);
            let is_single = second.is_none();
            tokio::select! {
                changes = stream.next() => {
                    let changes = match changes {
                        Ok(changes) => changes,
                        Err(error) => return Some(error),
                    };
                    if let Some(asked) = asked.take() {
                        let twice = asked.elapsed() * 2;
                        answer_timeout = twice.clamp(self.timing.suspect, MAX_ANSWER_TIMEOUT);
                        second = None;
                    }
                    self.on_contact();
                    trace!(kind = "watch", changes = changes.len(), "received from the watch");
                    probe_at = Instant::now() + self.timing.probe;
                    self.to.send(WatcherEvent::Changes(changes)).await.ok()?;
                }
                () = sleep_until(probe_at), if asked.is_none() => {
                    if let Err(error) = stream.probe().await {
                        return Some(error);
                    }
                    asked = Some(Instant::now());
                }
                () = sleep_until(suspect_at.unwrap_or(probe_at)),
                    if suspect_at.is_some() && is_single =>
                {
                    debug!(kind = "watch", "the watch is silent; starting a second one in parallel");
                    second = Some(self.start());
                }
                () = sleep_until(resync_at), if is_single => {
                    debug!(kind = "watch", "listing the leases again, as done periodically");
                    second = Some(self.start());
                    resync_at = self.resync_at();
                }
                Some(outcome) = OptionFuture::from(second.as_mut().map(HedgedStart::next)) => {
                    match outcome {
                        Ok(started) => {
                            second = None;
                            asked = None;
                            let entries = started.snapshot.records.len();
                            debug!(kind = "watch", entries, "switching to the second watch");
                            self.on_contact();
                            stream = started.stream;
                            probe_at = Instant::now() + self.timing.probe;
                            self.to.send(WatcherEvent::List(started.snapshot)).await.ok()?;
                        }
                        Err(error) if asked.is_some() => self.on_failure(&error).await?,
                        // The periodic list failed, but the watch answers.
                        Err(error) => {
                            second = None;
                            debug!(kind = "watch", %error, "the periodic list failed");
                        }
                    }
                }
            }
        }
    }

    fn start(&self) -> HedgedStart {
        HedgedStart::new(&self.store, &self.timing)
    }

    fn resync_at(&self) -> Instant {
        Instant::now() + self.timing.resync.mul_f64(0.75 + fastrand::f64() / 2.0)
    }

    async fn on_failure(&mut self, error: &StoreError) -> Option<()> {
        self.lost_at.get_or_insert_with(Instant::now);
        if self.throttle.allow() {
            self.has_logged_loss = true;
            let Failure { summary, endpoints } = Failure::new(&*self.store, error);
            let event = match error.kind() {
                Some(kind) if kind.is_refusal() => "the lease store refuses read access",
                _ => "lost contact with the lease store",
            };
            warn!("{event}; forwarding continues with the current routes: {summary}");
            endpoints.iter().for_each(|line| warn!("{line}"));
        }
        self.to.send(WatcherEvent::Lost(error.to_string())).await.ok()
    }

    fn on_contact(&mut self) {
        let Some(lost_at) = self.lost_at.take() else { return };
        if std::mem::take(&mut self.has_logged_loss) {
            let store = self.store.describe();
            let away = Duration::from_millis(lost_at.elapsed().as_millis() as u64);
            info!(%store, ?away, "the lease store answers again");
        }
        self.throttle.reset();
    }
}

/// Life of a watch after which the next failure starts at the first wait again.
const STABLE: Duration = Duration::from_secs(2);
/// Upper limit of the time that a watch has for a sign of life, however slow the lease store is.
const MAX_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
