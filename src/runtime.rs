//! The asynchronous runtime of the daemon and of the commands: one thread.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::exit::{Code, Exit};

/// Builds a runtime that polls its tasks on the calling thread. Blocking work, such as file I/O and name
/// resolution, runs on threads of their own; each of them calls `on_thread_start` first.
///
/// # Errors
/// [`Code::System`] if the kernel refuses the event queue.
pub fn build(on_thread_start: impl Fn() + Send + Sync + 'static) -> Result<Runtime, Exit> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_start(on_thread_start)
        .build()
        .map_err(|error| Exit::new(Code::System, format!("cannot start: {error}")))
}

/// Runs a command's future to its end on the calling thread.
///
/// # Errors
/// Those of [`build`] and of the future itself.
pub fn block_on(future: impl Future<Output = Result<(), Exit>>) -> Result<(), Exit> {
    let runtime = build(|| {})?;
    let outcome = runtime.block_on(future);
    end(runtime);
    outcome
}

/// Ends a runtime. A name server that is silent keeps a thread busy for many seconds, and nothing
/// else that may still run is worth waiting for.
pub fn end(runtime: Runtime) {
    runtime.shutdown_timeout(LAST_FILE_IO);
}

/// Time for file I/O that is under way to complete.
const LAST_FILE_IO: Duration = Duration::from_millis(200);
