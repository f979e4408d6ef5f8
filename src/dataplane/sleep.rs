//! Where a thread sleeps, and what wakes it.
//!
//! `poll(2)` and not `epoll(7)`: a registration with epoll stays on the socket's wait queue while
//! nobody sleeps, and the kernel then calls it for every datagram that leaves the socket
//! (`sock_wfree` tells writers that there is room) and for every packet that comes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

/// Wakes one thread; clones ring the same bell.
#[derive(Clone, Debug)]
pub(super) struct Bell(Arc<OwnedFd>);

impl Bell {
    /// # Errors
    /// As `eventfd(2)`: no descriptor is left.
    pub(super) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Wakes the thread, or keeps it from falling asleep once.
    pub(super) fn ring(&self) {
        // A full counter means that it rings already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Sleeps until one of `sources`, at most three, has something to read, or the bell rings.
    ///
    /// # Errors
    /// As `poll(2)`, but for signals, which wake as the bell does.
    pub(super) fn sleep(&self, sources: &[BorrowedFd<'_>]) -> io::Result<()> {
        let entry = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut list = [(); 1 + MAX_SOURCES].map(|()| entry(self.0.as_fd()));
        for (place, source) in list[1..].iter_mut().zip(sources) {
            *place = entry(*source);
        }
        match poll(&mut list[..=sources.len().min(MAX_SOURCES)], None) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            outcome => outcome?,
        };
        if !list[0].revents().is_empty() {
            // Nothing to read means that another sleep has heard it.
            let _ = rustix::io::read(&self.0, &mut [0; 8]);
        }
        Ok(())
    }
}

/// Two queues and a socket.
const MAX_SOURCES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_before_the_sleep_is_heard_once() {
        let bell = Bell::new().unwrap();
        let (one, other) =
            (std::os::unix::net::UnixDatagram::pair().unwrap(), Bell::new().unwrap());
        bell.ring();
        bell.ring();
        bell.sleep(&[one.0.as_fd()]).unwrap();
        // Nothing is left of it: only the source ends this sleep.
        let ringer = std::thread::spawn(move || {
            other.ring();
            std::thread::sleep(std::time::Duration::from_millis(20));
            one.1.send(b"x").unwrap();
            one
        });
        let start = std::time::Instant::now();
        let watched = ringer.join().unwrap().0;
        bell.sleep(&[watched.as_fd()]).unwrap();
        assert!(start.elapsed() >= std::time::Duration::from_millis(15));
    }
}
