//! Network namespaces: make, open, enter, start a process in one.
//!
//! A thread's network namespace is a property of the thread (`setns(2)`, `unshare(2)`), so every
//! visit happens on a scratch thread that ends afterwards: no worker ever finds itself in a
//! namespace it did not ask for. A socket belongs to the namespace it was opened in, and a child
//! process to that of the thread that forked it, wherever they are used later.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

/// One network namespace, held open by a file descriptor.
///
/// A namespace made by [`Netns::create`] has a name under `/run/netns`, as `ip netns` shows it, and
/// loses that name on drop. The kernel frees it when its last process and socket are gone.
#[derive(Debug)]
pub struct Netns {
    name: Option<String>,
    owned: bool,
    file: File,
}

impl Netns {
    /// Makes a namespace called `name` (with `ip netns add`, so that everybody's tools find it).
    /// The loopback device in it is up.
    pub fn create(name: &str) -> io::Result<Self> {
        ip(&["netns", "add", name])?;
        // From here on, dropping it takes the name away again.
        let file = File::open(path_of(name)).inspect_err(|_| {
            let _ = ip(&["netns", "del", name]);
        })?;
        let netns = Self { name: Some(name.to_owned()), owned: true, file };
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// Opens the namespace called `name`; dropping it leaves the namespace alone.
    pub fn open(name: &str) -> io::Result<Self> {
        let file = File::open(path_of(name))?;
        Ok(Self { name: Some(name.to_owned()), owned: false, file })
    }

    /// Makes a namespace without a name: it lives as long as this value and what runs in it.
    pub fn anonymous() -> io::Result<Self> {
        let file = on_scratch_thread(|| {
            // SAFETY: unshare takes no pointer; it changes only the calling (scratch) thread.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            File::open("/proc/thread-self/ns/net")
        })?;
        Ok(Self { name: None, owned: false, file })
    }

    /// The name under `/run/netns`, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The file that keeps the namespace, if it has a name.
    pub fn path(&self) -> Option<PathBuf> {
        self.name.as_deref().map(path_of)
    }

    /// Leaves the namespace in place when this value is dropped.
    pub fn keep(&mut self) {
        self.owned = false;
    }

    /// Runs `visit` on a thread inside the namespace and returns what it returns. A panic in
    /// `visit` goes on in the caller.
    pub fn enter<T: Send>(&self, visit: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_scratch_thread(|| {
            // SAFETY: the descriptor is open for the whole call and setns takes no pointer; it
            // changes only the calling (scratch) thread, which is not shared with anybody.
            if unsafe { libc::setns(self.file.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(visit())
        })
    }

    /// Starts `command` as a process inside the namespace.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.enter(|| command.spawn())?
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let (true, Some(name)) = (self.owned, &self.name) {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

/// Where `ip netns` keeps the namespace called `name`.
pub fn path_of(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

fn on_scratch_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        match thread::Builder::new().name("netns".into()).spawn_scoped(scope, work) {
            Ok(visitor) => visitor.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(error) => Err(error),
        }
    })
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output().map_err(|e| {
        let hint = if e.kind() == io::ErrorKind::NotFound { " (install iproute2)" } else { "" };
        io::Error::new(e.kind(), format!("cannot run ip: {e}{hint}"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {}: {}", arguments.join(" "), said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    /// The namespace, or a loud word that this test proves nothing here.
    fn privileged(made: io::Result<Netns>) -> Option<Netns> {
        made.inspect_err(|e| eprintln!("SKIPPED: no network namespace here: {e}")).ok()
    }

    #[test]
    fn a_visit_sees_another_network_and_the_caller_does_not_move() {
        let Some(netns) = privileged(Netns::anonymous()) else { return };
        let here = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let there =
            netns.enter(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
        assert_ne!(here, there);
        assert_eq!(here, std::fs::read_link("/proc/thread-self/ns/net").unwrap());
        // Loopback is down in a fresh namespace: nothing can be bound but the wildcard.
        netns.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    }

    #[test]
    fn a_panic_inside_reaches_the_caller() {
        let Some(netns) = privileged(Netns::anonymous()) else { return };
        let caught = std::panic::catch_unwind(|| netns.enter(|| panic!("inside")));
        assert!(caught.is_err());
    }

    #[test]
    fn a_named_one_runs_processes_and_leaves_nothing() {
        let name = format!("fu{}-netns-test", std::process::id());
        let Some(netns) = privileged(Netns::create(&name)) else { return };
        let mut command = Command::new("readlink");
        command.arg("/proc/self/ns/net").stdout(Stdio::piped());
        let output = netns.spawn(&mut command).unwrap().wait_with_output().unwrap();
        let inside =
            netns.enter(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), inside.to_string_lossy());
        drop(netns);
        assert!(!path_of(&name).exists());
    }
}
