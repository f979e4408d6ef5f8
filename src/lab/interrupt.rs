//! SIGINT and SIGTERM while a lab stands: remember the wish, so that every wait ends early and the
//! lab is taken down the ordinary way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::LabError;

/// Listens for SIGINT and SIGTERM from now on. Children are started in process groups of their
/// own, so that Ctrl-C reaches only this process.
pub fn listen() -> Result<(), LabError> {
    let problem = |e: std::io::Error| LabError::Unusable(format!("cannot watch signals: {e}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(problem)?;
    let (mut interrupt, mut terminate) = {
        use tokio::signal::unix::{SignalKind, signal};
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt()).map_err(problem)?,
            signal(SignalKind::terminate()).map_err(problem)?,
        )
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    REQUESTED.store(true, Ordering::SeqCst);
                }
            });
        })
        .map_err(problem)?;
    Ok(())
}

/// An error once a stop was asked for.
pub fn check() -> Result<(), LabError> {
    if REQUESTED.load(Ordering::SeqCst) { Err(LabError::Interrupted) } else { Ok(()) }
}

/// Sleeps for `duration`, or ends early with an error when a stop is asked for.
pub fn sleep(duration: Duration) -> Result<(), LabError> {
    let end = Instant::now() + duration;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(STEP));
    }
}

/// How soon a wait notices the wish to stop.
const STEP: Duration = Duration::from_millis(50);

static REQUESTED: AtomicBool = AtomicBool::new(false);
