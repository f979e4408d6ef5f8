//! The asynchronous runtime of the daemon and of the commands: one thread.

use std::future::Future;

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
    build(|| {})?.block_on(future)
}
