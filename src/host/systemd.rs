//! Notifications to the service manager (sd_notify(3), `Type=notify`); none where there is no
//! service manager.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
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
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    if let Err(error) = send_to(path.as_bytes(), text.as_bytes()) {
        // The service manager reports the missing notification itself, when the unit's timeout
        // expires.
        tracing::debug!(%error, "the service manager does not accept a notification");
    }
}

/// Sends a datagram to the socket at `path`, or with the name behind an `@`. It does not wait for space in the
/// receiver's queue, as `sd_notify::notify` does: a service manager that hangs must not stop the daemon.
fn send_to(path: &[u8], text: &[u8]) -> io::Result<()> {
    let address = match path.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(Path::new(OsStr::from_bytes(path)))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_manager_that_does_not_read_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let send = || send_to(path.as_os_str().as_bytes(), b"WATCHDOG=1\n");
        send().unwrap();
        let mut text = [0; 32];
        assert_eq!(socket.recv(&mut text).unwrap(), b"WATCHDOG=1\n".len());
        // The queue's length is the sysctl net.unix.max_dgram_qlen.
        let refused = (0..100_000).find_map(|_| send().err()).expect("a full queue");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }
}
