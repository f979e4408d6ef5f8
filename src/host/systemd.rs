//! Notifications to the service manager (sd_notify(3), `Type=notify`); none where there is no
//! service manager.

use std::time::Duration;

use sd_notify::NotifyState;

/// Reports readiness: interface up, firewall rules in place, routes of all peers in the route
/// table.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Sets the line that `systemctl status` shows.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// Reports that the daemon is stopping.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Resets the watchdog. The caller must call this only if every worker and the control thread are
/// alive.
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// Interval at which to call [`watchdog`]: half of the unit's `WatchdogSec`, as
/// sd_watchdog_enabled(3) recommends. `None` if the unit has no watchdog.
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|period| !period.is_zero())
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        // The service manager reports the missing notification itself, when the unit's timeout
        // expires.
        tracing::debug!(%error, "the service manager's socket does not answer");
    }
}
