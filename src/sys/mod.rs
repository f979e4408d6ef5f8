//! The only module with `unsafe`: one thin wrapper per system call of the data path, and those of the
//! lab and of the probes.
//!
//! Each wrapper states the rule of the man page or kernel file that it keeps, each block its proof.
//! Nothing here decides anything: policy lives in [`crate::dataplane`], [`crate::lab`] and
//! `probe`.

pub mod clock;
pub mod ethtool;
pub mod iovec;
pub mod mmsg;
pub mod netns;
pub mod process;
pub mod raw;
pub mod resolver;
pub mod seccomp;
pub mod steering;
pub mod tun;
pub mod udp;

use std::io;

/// Turns the `-1` of a system call into the error that `errno` names.
pub(crate) fn check(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
