//! The ingress half changes hands between the threads of a worker.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::dataplane::config::Threads;
use crate::dataplane::ingress::Ingress;
use crate::dataplane::polling::Bell;

/// The ingress half, which the lead and the aide of a worker hand to each other.
pub(in crate::dataplane) struct Baton {
    /// Locked for as long as a thread has it.
    ingress: Mutex<Ingress>,
    /// Whose it is to be.
    with_aide: AtomicBool,
    pub(super) lead: Bell,
    pub(super) aide: Bell,
}

impl Baton {
    pub(in crate::dataplane) fn new(ingress: Ingress, threads: Threads) -> io::Result<Self> {
        Ok(Self {
            ingress: Mutex::new(ingress),
            with_aide: AtomicBool::new(threads == Threads::Two),
            lead: Bell::new()?,
            aide: Bell::new()?,
        })
    }

    /// What wakes the lead and the aide.
    pub(in crate::dataplane) fn bells(&self) -> [&Bell; 2] {
        [&self.lead, &self.aide]
    }

    /// Takes the half; waits for the other thread, which has let go of it or is about to.
    pub(super) fn take(&self) -> MutexGuard<'_, Ingress> {
        self.ingress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the half, and tells the other thread.
    pub(super) fn hand(&self, half: MutexGuard<'_, Ingress>, to_aide: bool) {
        drop(half);
        self.with_aide.store(to_aide, Ordering::Release);
        if to_aide { self.aide.ring() } else { self.lead.ring() }
    }

    #[inline]
    pub(super) fn is_with_aide(&self) -> bool {
        self.with_aide.load(Ordering::Acquire)
    }
}
