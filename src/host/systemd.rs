//! Words to the service manager (`Type=notify`), silent where there is none.

use std::time::Duration;

use sd_notify::NotifyState;

/// The daemon does its work: interface up, rules in place, routes of all peers in the table.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// One line for `systemctl status`.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// The daemon is on its way out.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Sign of life. To be sent only while every worker and the control thread have shown one.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] should be called: half of the unit's `WatchdogSec`, as sd_watchdog_enabled(3)
/// advises. `None` where the unit asks for no watchdog.
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|period| !period.is_zero())
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        // Nothing the operator can do from here, and the unit's own time-out will tell.
        tracing::debug!(%error, "the service manager's socket does not answer");
    }
}
