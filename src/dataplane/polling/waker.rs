//! Where a packet thread sleeps, and what wakes it.
//!
//! The threads use `poll(2)` and not `epoll(7)`: a registration with epoll stays on the wait queue of
//! the socket while no thread sleeps, and the kernel then calls into epoll for every datagram that
//! leaves the socket (`sock_wfree` reports room for writers) and for every packet that arrives.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

/// Which sources of a thread a wait has found ready, by their indexes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::dataplane) struct Ready(u8);

impl Ready {
    /// The thread has not waited, so any source may be ready.
    pub(in crate::dataplane) const ANY: Self = Self(u8::MAX);

    /// Whether the source with this index may be ready.
    #[inline]
    pub(in crate::dataplane) fn has(self, source: usize) -> bool {
        self.0 >> source & 1 == 1
    }

    /// Whether a wait has just reported which sources are ready.
    #[inline]
    pub(in crate::dataplane) fn is_known(self) -> bool {
        self != Self::ANY
    }

    /// The sources with these indexes are ready.
    #[cfg(test)]
    pub(in crate::dataplane) fn of(sources: &[usize]) -> Self {
        Self(sources.iter().map(|source| 1 << source).sum())
    }
}

/// Wakes one thread; clones wake the same thread.
#[derive(Clone, Debug)]
pub(in crate::dataplane) struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Makes a waker.
    ///
    /// # Errors
    /// As `eventfd(2)`: no descriptor is left.
    pub(in crate::dataplane) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Wakes the thread, or ends its next wait at once.
    pub(in crate::dataplane) fn wake(&self) {
        // A full counter means that a wake-up is pending already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Waits until one of `sources`, at most three, is readable, or until [`Self::wake`], after which
    /// any source may be ready.
    ///
    /// # Errors
    /// As `poll(2)`, except that a signal ends the wait as [`Self::wake`] does.
    pub(in crate::dataplane) fn wait(&self, sources: &[BorrowedFd<'_>]) -> io::Result<Ready> {
        let entry = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut list = [(); 1 + MAX_SOURCES].map(|()| entry(self.0.as_fd()));
        for (slot, source) in list[1..].iter_mut().zip(sources) {
            *slot = entry(*source);
        }
        match poll(&mut list[..=sources.len().min(MAX_SOURCES)], None) {
            Err(rustix::io::Errno::INTR) => return Ok(Ready::ANY),
            outcome => outcome?,
        };
        if !list[0].revents().is_empty() {
            // An empty counter means that an earlier wait has consumed the wake-up.
            let _ = rustix::io::read(&self.0, &mut [0; 8]);
            return Ok(Ready::ANY);
        }
        let bit =
            |(source, entry): (usize, &PollFd<'_>)| u8::from(!entry.revents().is_empty()) << source;
        Ok(Ready(list[1..].iter().enumerate().map(bit).sum()))
    }
}

/// Two TUN queues and a socket.
const MAX_SOURCES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_before_the_wait_ends_one_wait() {
        let waker = Waker::new().unwrap();
        let (one, other) =
            (std::os::unix::net::UnixDatagram::pair().unwrap(), Waker::new().unwrap());
        waker.wake();
        waker.wake();
        assert_eq!(waker.wait(&[one.0.as_fd()]).unwrap(), Ready::ANY);
        // Both wake-ups are consumed: only the source ends this wait.
        let sender = std::thread::spawn(move || {
            other.wake();
            std::thread::sleep(std::time::Duration::from_millis(20));
            one.1.send(b"x").unwrap();
            one
        });
        let start = std::time::Instant::now();
        let watched = sender.join().unwrap().0;
        waker.wait(&[watched.as_fd()]).unwrap();
        assert!(start.elapsed() >= std::time::Duration::from_millis(15));
    }

    #[test]
    fn a_wait_reports_which_source_ended_it() {
        let waker = Waker::new().unwrap();
        let pairs = [(); MAX_SOURCES].map(|()| std::os::unix::net::UnixDatagram::pair().unwrap());
        let sources = pairs.each_ref().map(|(watched, _)| watched.as_fd());
        for expected in [&[1][..], &[0, 2]] {
            for source in expected {
                pairs[*source].1.send(b"x").unwrap();
            }
            let ready = waker.wait(&sources).unwrap();
            assert!(ready.is_known());
            assert_eq!(ready, Ready::of(expected));
            for (watched, _) in &pairs {
                watched.set_nonblocking(true).unwrap();
                let _ = watched.recv(&mut [0]);
            }
        }
    }
}
