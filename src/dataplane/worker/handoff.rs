//! The ingress half of a worker moves between the two threads of the worker.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::dataplane::config::Threads;
use crate::dataplane::ingress::Ingress;
use crate::dataplane::polling::Waker;

/// The ingress half of a worker, which the egress thread and the ingress thread hand to each other.
///
/// The thread that has the half holds its lock for as long as it has it, so that a packet needs no
/// lock of its own.
pub(in crate::dataplane) struct IngressHandoff<I = Ingress> {
    ingress: Mutex<I>,
    /// Which thread is to have the half.
    owner: AtomicBool,
    egress_waker: Waker,
    ingress_waker: Waker,
}

/// One of the two threads of a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::dataplane) enum Owner {
    EgressThread,
    IngressThread,
}

impl<I> IngressHandoff<I> {
    /// With [`Threads::Two`] the ingress thread begins with the half, otherwise the egress thread.
    ///
    /// # Errors
    /// As [`Waker::new`].
    pub(in crate::dataplane) fn new(ingress: I, threads: Threads) -> io::Result<Self> {
        Ok(Self {
            ingress: Mutex::new(ingress),
            owner: AtomicBool::new(threads == Threads::Two),
            egress_waker: Waker::new()?,
            ingress_waker: Waker::new()?,
        })
    }

    /// What wakes the given thread.
    pub(in crate::dataplane) fn waker(&self, thread: Owner) -> &Waker {
        match thread {
            Owner::EgressThread => &self.egress_waker,
            Owner::IngressThread => &self.ingress_waker,
        }
    }

    /// Takes the half. Waits for the other thread, which has released the half or is about to.
    pub(super) fn take(&self) -> MutexGuard<'_, I> {
        self.ingress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases the half and wakes the other thread.
    pub(super) fn hand_off(&self, half: MutexGuard<'_, I>, to: Owner) {
        drop(half);
        self.owner.store(to == Owner::IngressThread, Ordering::Release);
        self.waker(to).wake();
    }

    /// Which thread has the half, or is to take it.
    #[inline]
    pub(super) fn owner(&self) -> Owner {
        if self.owner.load(Ordering::Acquire) { Owner::IngressThread } else { Owner::EgressThread }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::polling::Ready;

    #[test]
    fn the_number_of_threads_decides_who_begins() {
        for (threads, owner) in [
            (Threads::Auto, Owner::EgressThread),
            (Threads::One, Owner::EgressThread),
            (Threads::Two, Owner::IngressThread),
        ] {
            assert_eq!(IngressHandoff::new((), threads).unwrap().owner(), owner, "{threads:?}");
        }
    }

    #[test]
    fn a_hand_off_wakes_the_new_owner_which_finds_the_state_of_the_old() {
        let handoff = IngressHandoff::new(0, Threads::Auto).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..100 {
                    while handoff.owner() != Owner::IngressThread {
                        let ready = handoff.waker(Owner::IngressThread).wait(&[]).unwrap();
                        assert_eq!(ready, Ready::ANY);
                    }
                    let mut half = handoff.take();
                    *half += 1;
                    handoff.hand_off(half, Owner::EgressThread);
                }
            });
            for round in 1..=100 {
                handoff.hand_off(handoff.take(), Owner::IngressThread);
                while handoff.owner() != Owner::EgressThread {
                    handoff.waker(Owner::EgressThread).wait(&[]).unwrap();
                }
                assert_eq!(*handoff.take(), round);
            }
        });
    }

    #[test]
    fn a_thread_that_panicked_does_not_keep_the_half() {
        let handoff = IngressHandoff::new(7, Threads::Auto).unwrap();
        let panicked = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let _half = handoff.take();
                    panic!("of this test");
                })
                .join()
        });
        assert!(panicked.is_err());
        assert_eq!(*handoff.take(), 7);
    }
}
