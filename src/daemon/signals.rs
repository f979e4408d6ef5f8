//! The signals that the daemon handles.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks the daemon to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DaemonSignal {
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGHUP: read again what can be read again.
    Reload,
    /// SIGUSR1: write the statistics file.
    WriteStats,
}

/// Receives the signals that the daemon handles.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// The kernel refuses a handler.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> DaemonSignal {
        tokio::select! {
            _ = self.terminate.recv() => DaemonSignal::Stop,
            _ = self.interrupt.recv() => DaemonSignal::Stop,
            _ = self.hangup.recv() => DaemonSignal::Reload,
            _ = self.user.recv() => DaemonSignal::WriteStats,
        }
    }
}
