//! Watching a directory: whatever wakes us, all of it is read again and compared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

use super::FileOptions;
use super::directory::{LeaseDirectory, LeaseFile};
use crate::subnet::store::{ListAndWatch, StoreChange, StoreError, StoreSnapshot, WatchStream};

/// Watches first, then lists, so that nothing falls between.
pub(super) async fn watch(
    directory: &Arc<LeaseDirectory>,
    options: &FileOptions,
) -> Result<ListAndWatch, StoreError> {
    let (wake, woken) = mpsc::channel(1);
    let wake = move || {
        // A full channel has a wake-up in it already.
        let _ = wake.try_send(());
    };
    // The watcher has a thread of its own, which inherits the rights of the one that starts it: not
    // those of the control thread.
    let watched = Arc::clone(directory);
    let watcher = tokio::task::spawn_blocking(move || start_notifier(&watched, wake)).await;
    let watcher = watcher.unwrap_or_else(|error| Err(notify::Error::generic(&error.to_string())));
    let poll = match &watcher {
        Ok(_) => options.poll,
        Err(error) => {
            warn!(dir = %directory.dir().display(), %error, "no notice of changes; reading often");
            options.poll.min(POLL_ONLY)
        }
    };
    let entries = list(directory).await?;
    let records = entries.values().map(|entry| entry.record.clone()).collect();
    let changes = FileWatch {
        directory: Arc::clone(directory),
        known: entries,
        woken,
        _watcher: watcher.ok(),
        poll,
        read_at: Instant::now() + poll,
        probed: false,
    };
    Ok(ListAndWatch { snapshot: StoreSnapshot { records, revision: 0 }, stream: Box::new(changes) })
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
    let entries = super::blocking(directory, |directory| Ok(directory.list()?)).await?;
    Ok(entries.into_iter().map(|entry| (entry.record.name.clone(), entry)).collect())
}

struct FileWatch {
    directory: Arc<LeaseDirectory>,
    known: BTreeMap<String, LeaseFile>,
    woken: Receiver<()>,
    /// Reports changes for as long as it lives.
    _watcher: Option<RecommendedWatcher>,
    poll: Duration,
    /// When the directory is read at the latest.
    read_at: Instant,
    probed: bool,
}

impl FileWatch {
    /// The next reading: a poll, or the moment at which an entry dies.
    fn next_reading(&self) -> Instant {
        let now = self.directory.now();
        let dies = self.known.values().filter_map(|entry| entry.dies).min();
        let wait = dies.map(|dies| dies.duration_since(now).unwrap_or_default() + TICK);
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
                    // Remembered before anything is waited for: this future may be dropped.
                    self.read_at = Instant::now();
                    // Writers come in pairs of files, and renewals in bursts.
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

/// How long to let a burst of changes settle.
const SETTLE: Duration = Duration::from_millis(5);
/// An entry is dead only after its time.
const TICK: Duration = Duration::from_millis(10);
/// How often to read where the kernel reports nothing.
const POLL_ONLY: Duration = Duration::from_millis(500);
