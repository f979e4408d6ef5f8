//! Calls to the file system: each on a thread that may block, and none waited for without an end.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::directory::{DirectoryError, LeaseDirectory};
use crate::subnet::store::{StoreError, UnavailableKind};

/// What a long call has done so far.
#[derive(Default)]
pub(super) struct Progress(AtomicU64);

impl Progress {
    /// Counts a step: a call that makes progress is not given up, however long it takes.
    pub(super) fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The threads that calls to one directory may occupy. A thread whose file server hangs cannot be
/// ended, only left behind.
#[derive(Clone)]
pub(super) struct CallThreads(Arc<Semaphore>);

impl CallThreads {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_THREADS)))
    }
}

/// Runs `op` on a thread that may block.
///
/// # Errors
/// Those of `op`; a time-out if it makes no progress for five seconds.
pub(super) async fn blocking<T: Send + 'static>(
    directory: &Arc<LeaseDirectory>,
    op: impl FnOnce(&LeaseDirectory, &Progress) -> Result<T, DirectoryError> + Send + 'static,
) -> Result<T, StoreError> {
    let shared = Arc::clone(directory);
    match bounded(directory.threads(), DEADLINE, move |progress| op(&shared, progress)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(DirectoryError::Conflict)) => Err(StoreError::Conflict),
        Ok(Err(DirectoryError::Io(error))) | Err(error) => Err(failed(directory.dir(), &error)),
    }
}

async fn bounded<T: Send + 'static>(
    threads: &CallThreads,
    deadline: Duration,
    op: impl FnOnce(&Progress) -> T + Send + 'static,
) -> io::Result<T> {
    let progress = Arc::new(Progress::default());
    let (steps, threads) = (Arc::clone(&progress), Arc::clone(&threads.0));
    let mut work = pin!(async move {
        let thread = threads.acquire_owned().await.map_err(io::Error::other)?;
        let call = tokio::task::spawn_blocking(move || {
            let _thread = thread;
            op(&steps)
        });
        call.await.map_err(io::Error::other)
    });
    loop {
        let before = progress.0.load(Ordering::Relaxed);
        if let Ok(outcome) = timeout(deadline, &mut work).await {
            return outcome;
        }
        if progress.0.load(Ordering::Relaxed) == before {
            let text = format!("the file system did not answer within {deadline:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
    }
}

fn failed(dir: &Path, error: &io::Error) -> StoreError {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            UnavailableKind::Permission
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => UnavailableKind::Full,
        io::ErrorKind::TimedOut => UnavailableKind::Timeout,
        _ => UnavailableKind::Other,
    };
    StoreError::unavailable(kind, format!("{}: {error}", dir.display()))
}

/// Time without progress after which a call is given up.
const DEADLINE: Duration = Duration::from_secs(5);
/// Upper limit of threads per directory, those that hang included.
const MAX_THREADS: usize = 8;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread::sleep;

    use super::*;

    const BRIEF: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn calls_that_hang_are_given_up_and_occupy_few_threads() {
        let threads = CallThreads::new();
        let mut hung = Vec::new();
        for _ in 0..2 * MAX_THREADS {
            let (go_on, gone_on) = mpsc::channel::<()>();
            let error = bounded(&threads, BRIEF, move |_| gone_on.recv()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            hung.push(go_on);
        }
        assert_eq!(threads.0.available_permits(), 0);
        drop(hung);
        let back = bounded(&threads, Duration::from_secs(5), |_| 7).await;
        assert_eq!(back.unwrap(), 7, "it answers again");
    }

    #[tokio::test]
    async fn a_slow_call_that_makes_progress_is_waited_for() {
        let threads = CallThreads::new();
        let slow = bounded(&threads, 4 * BRIEF, |progress| {
            for _ in 0..8 {
                sleep(BRIEF);
                progress.step();
            }
        });
        slow.await.expect("its end");
    }
}
