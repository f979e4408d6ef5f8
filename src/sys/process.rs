//! Signals to processes that this program started.

use std::io;
use std::process::Child;

/// A signal a child process is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Please stop.
    Terminate,
    /// As Ctrl-C.
    Interrupt,
    /// Please read your settings again.
    Hangup,
    /// Please write your counters.
    User1,
    /// Please write what else you know.
    User2,
    /// End at once.
    Kill,
    /// Freeze, until [`Signal::Continue`].
    Stop,
    /// Go on.
    Continue,
}

/// Sends `signal` to `child`, which must not have been waited for.
pub fn signal(child: &Child, signal: Signal) -> io::Result<()> {
    signal_pid(child.id(), signal)
}

/// Sends `signal` to the process `pid`: only for a process known to be ours.
pub fn signal_pid(pid: u32, signal: Signal) -> io::Result<()> {
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Interrupt => libc::SIGINT,
        Signal::Hangup => libc::SIGHUP,
        Signal::User1 => libc::SIGUSR1,
        Signal::User2 => libc::SIGUSR2,
        Signal::Kill => libc::SIGKILL,
        Signal::Stop => libc::SIGSTOP,
        Signal::Continue => libc::SIGCONT,
    };
    let pid = libc::pid_t::try_from(pid)
        .ok()
        .filter(|pid| *pid > 1)
        .ok_or_else(|| io::Error::other("not the pid of a child"))?;
    // SAFETY: kill takes two integers and no pointer; `pid` is one process, not a group.
    if unsafe { libc::kill(pid, number) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The effective user id of this process.
pub fn effective_user() -> u32 {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}
