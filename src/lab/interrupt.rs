//! SIGINT and SIGTERM while a lab exists: a flag makes every wait end early, so that the lab is removed in
//! the ordinary way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::LabError;

/// Handles SIGINT and SIGTERM from now on. Child processes have process groups of their own, so Ctrl-C
/// reaches only this process.
pub fn listen() -> Result<(), LabError> {
    let failed = |e: std::io::Error| LabError::Unusable(format!("cannot handle signals: {e}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (mut interrupt, mut terminate) = {
        use tokio::signal::unix::{SignalKind, signal};
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt()).map_err(failed)?,
            signal(SignalKind::terminate()).map_err(failed)?,
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
        .map_err(failed)?;
    Ok(())
}

/// Fails with [`LabError::Interrupted`] after a signal.
pub fn check() -> Result<(), LabError> {
    if REQUESTED.load(Ordering::SeqCst) { Err(LabError::Interrupted) } else { Ok(()) }
}

/// Sleeps for `duration`, or fails with [`LabError::Interrupted`] as soon as a signal arrives.
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

/// The time after which a wait notices a signal.
const STEP: Duration = Duration::from_millis(50);

static REQUESTED: AtomicBool = AtomicBool::new(false);
