//! Where a thread sleeps, and what wakes it.
//!
//! `poll(2)` and not `epoll(7)`: a registration with epoll stays on the socket's wait queue while
//! nobody sleeps, and the kernel then calls it for every datagram that leaves the socket
//! (`sock_wfree` tells writers that there is room) and for every packet that comes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

/// Which of its sources a sleep has found ready, by their places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::dataplane) struct Ready(u8);

impl Ready {
    /// Nobody has asked: any may be.
    pub(in crate::dataplane) const ANY: Self = Self(u8::MAX);

    #[inline]
    pub(in crate::dataplane) fn has(self, place: usize) -> bool {
        self.0 >> place & 1 == 1
    }

    /// A sleep has just told.
    #[inline]
    pub(in crate::dataplane) fn is_known(self) -> bool {
        self != Self::ANY
    }
}

/// Wakes one thread; clones ring the same bell.
#[derive(Clone, Debug)]
pub(in crate::dataplane) struct Bell(Arc<OwnedFd>);

impl Bell {
    /// # Errors
    /// As `eventfd(2)`: no descriptor is left.
    pub(in crate::dataplane) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Wakes the thread, or keeps it from falling asleep once.
    pub(in crate::dataplane) fn ring(&self) {
        // A full counter means that it rings already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Sleeps until one of `sources`, at most three, has something to read, or the bell rings, after
    /// which all are worth a look.
    ///
    /// # Errors
    /// As `poll(2)`, but for signals, which wake as the bell does.
    pub(in crate::dataplane) fn sleep(&self, sources: &[BorrowedFd<'_>]) -> io::Result<Ready> {
        let entry = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut list = [(); 1 + MAX_SOURCES].map(|()| entry(self.0.as_fd()));
        for (place, source) in list[1..].iter_mut().zip(sources) {
            *place = entry(*source);
        }
        match poll(&mut list[..=sources.len().min(MAX_SOURCES)], None) {
            Err(rustix::io::Errno::INTR) => return Ok(Ready::ANY),
            outcome => outcome?,
        };
        if !list[0].revents().is_empty() {
            // Nothing to read means that another sleep has heard it.
            let _ = rustix::io::read(&self.0, &mut [0; 8]);
            return Ok(Ready::ANY);
        }
        let bit =
            |(place, entry): (usize, &PollFd<'_>)| u8::from(!entry.revents().is_empty()) << place;
        Ok(Ready(list[1..].iter().enumerate().map(bit).sum()))
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
        assert_eq!(bell.sleep(&[one.0.as_fd()]).unwrap(), Ready::ANY);
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

    #[test]
    fn a_sleep_says_which_source_ended_it() {
        let bell = Bell::new().unwrap();
        let pairs = [(); MAX_SOURCES].map(|()| std::os::unix::net::UnixDatagram::pair().unwrap());
        let sources = pairs.each_ref().map(|(watched, _)| watched.as_fd());
        for told in [&[1][..], &[0, 2]] {
            for place in told {
                pairs[*place].1.send(b"x").unwrap();
            }
            let ready = bell.sleep(&sources).unwrap();
            assert!(ready.is_known());
            for (place, pair) in pairs.iter().enumerate() {
                assert_eq!(ready.has(place), told.contains(&place), "{place} of {told:?}");
                pair.0.set_nonblocking(true).unwrap();
                let _ = pair.0.recv(&mut [0]);
            }
        }
    }
}
