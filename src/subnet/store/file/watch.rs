//! Watching a directory: after any notification the whole directory is read again and compared
//! with the previous list.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

use super::FileOptions;
use super::calls::blocking;
use super::directory::{LeaseDirectory, LeaseFile};
use crate::subnet::store::{ListAndWatch, StoreChange, StoreError, StoreSnapshot, WatchStream};

/// Starts the notifier, then lists, so that no change falls between the two.
pub(super) async fn watch(
    directory: &Arc<LeaseDirectory>,
    options: &FileOptions,
) -> Result<ListAndWatch, StoreError> {
    let (wake, woken) = mpsc::channel(1);
    let wake = move || {
        // A full channel holds a wake-up already.
        let _ = wake.try_send(());
    };
    // The notifier's thread inherits the capabilities of the thread that starts it
    // (`capabilities(7)`). The control thread has more of them than the notifier needs, so a
    // thread of the blocking pool starts the notifier.
    let notifier = blocking(directory, |directory, _| Ok(start_notifier(directory, wake))).await?;
    let poll = match &notifier {
        Ok(_) => options.poll,
        Err(error) => {
            warn!(
                dir = %directory.dir().display(), %error,
                "the kernel does not report changes in this directory; reading it every {POLL_ONLY:?}"
            );
            options.poll.min(POLL_ONLY)
        }
    };
    let entries = list(directory).await?;
    let records = entries.values().map(|entry| entry.record.clone()).collect();
    let stream = FileWatch {
        directory: Arc::clone(directory),
        known: entries,
        woken,
        _notifier: notifier.ok(),
        poll,
        read_at: Instant::now() + poll,
        probed: false,
    };
    Ok(ListAndWatch { snapshot: StoreSnapshot { records, revision: 0 }, stream: Box::new(stream) })
}

fn start_notifier(
    directory: &LeaseDirectory,
    wake: impl Fn() + Send + 'static,
) -> Result<RecommendedWatcher, notify::Error> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.map_or(true, |event| !event.kind.is_access()) {
            wake();
        }
    })?;
    watcher.watch(&directory.subnets(), RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

async fn list(directory: &Arc<LeaseDirectory>) -> Result<BTreeMap<String, LeaseFile>, StoreError> {
    let entries = blocking(directory, |directory, steps| Ok(directory.list(steps)?)).await?;
    Ok(entries.into_iter().map(|entry| (entry.record.name.clone(), entry)).collect())
}

struct FileWatch {
    directory: Arc<LeaseDirectory>,
    /// The entries of the last list.
    known: BTreeMap<String, LeaseFile>,
    woken: Receiver<()>,
    /// Sends wake-ups until it is dropped.
    _notifier: Option<RecommendedWatcher>,
    poll: Duration,
    /// Time of the next read without a wake-up.
    read_at: Instant,
    /// Whether the caller asked for a sign of life.
    probed: bool,
}

impl FileWatch {
    /// Time of the next read without a wake-up: the next poll, or the moment an entry expires.
    fn next_reading(&self) -> Instant {
        let now = self.directory.now();
        let expires = self.known.values().filter_map(|entry| entry.expires).min();
        let wait = expires.map(|expires| expires.duration_since(now).unwrap_or_default() + TICK);
        Instant::now() + wait.unwrap_or(self.poll).min(self.poll)
    }
}

#[async_trait]
impl WatchStream for FileWatch {
    async fn next(&mut self) -> Result<Vec<StoreChange>, StoreError> {
        loop {
            let wait_until = self.read_at;
            tokio::select! {
                Some(()) = self.woken.recv() => {
                    // Stored before the next await, because this future may be dropped there.
                    self.read_at = Instant::now();
                    // A writer replaces two files, and renewals come in bursts.
                    sleep(SETTLE).await;
                }
                () = sleep_until(wait_until) => {}
            }
            let entries = list(&self.directory).await?;
            let changes = difference(&self.known, &entries);
            self.known = entries;
            self.read_at = self.next_reading();
            if !changes.is_empty() || std::mem::take(&mut self.probed) {
                return Ok(changes);
            }
        }
    }

    async fn probe(&mut self) -> Result<(), StoreError> {
        self.probed = true;
        self.read_at = Instant::now();
        Ok(())
    }
}

fn difference(
    before: &BTreeMap<String, LeaseFile>,
    after: &BTreeMap<String, LeaseFile>,
) -> Vec<StoreChange> {
    let removed = before
        .keys()
        .filter(|name| !after.contains_key(*name))
        .map(|name| StoreChange::Delete { name: name.clone(), revision: 0 });
    let put = after
        .iter()
        .filter(|(name, entry)| before.get(*name).is_none_or(|was| was.record != entry.record))
        .map(|(_, entry)| StoreChange::Put(entry.record.clone()));
    removed.chain(put).collect()
}

/// Delay between a wake-up and the read, so that one read covers a burst of changes.
const SETTLE: Duration = Duration::from_millis(5);
/// Delay between the expiry of an entry and the read that finds it expired.
const TICK: Duration = Duration::from_millis(10);
/// Interval of reads where the kernel reports no changes.
const POLL_ONLY: Duration = Duration::from_millis(500);
