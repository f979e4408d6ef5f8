//! The threads of a worker: poll, forward, poll again, sleep.
//!
//! A worker has an **egress thread**, which carries outgoing packets, and may have an **ingress
//! thread**. Incoming packets are handled by the **ingress half**, which one of the two threads has at a
//! time. While traffic is light the egress thread has the half, and so serves both directions: a round
//! trip then wakes one thread on this host and not two. When both directions keep the egress thread busy
//! it hands the half to the ingress thread, which hands the half back once it is idle and no bulk traffic
//! is recent. A handoff costs a wake-up and happens at most once in some dozens of rounds; between
//! handoffs no thread takes a lock.
//!
//! A thread that was woken up reads only the source that woke it. If that source held a single packet,
//! the thread waits again at once: the wait reports in one system call whether another packet has
//! arrived.

mod context;
mod handoff;
mod load;

use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

pub(super) use context::ThreadContext;
pub(super) use handoff::{IngressHandoff, Owner};
use load::Load;

use super::config::Threads;
use super::egress::Egress;
use super::event::Event;
use super::polling::{Ready, Turn};
use crate::sys::tun::TunQueue;

/// The thread that carries outgoing packets and, while traffic is light, incoming ones too.
pub(super) struct EgressThread {
    pub(super) egress: Egress,
    pub(super) queues: Vec<Arc<TunQueue>>,
    pub(super) socket: Arc<UdpSocket>,
    pub(super) handoff: Arc<IngressHandoff>,
    pub(super) threads: Threads,
    pub(super) context: ThreadContext,
}

impl EgressThread {
    /// Carries packets until the context says to stop.
    ///
    /// # Errors
    /// What the control thread must act on: the TUN device is gone, or a wait failed.
    pub(super) fn run(self) -> Result<(), Event> {
        let Self { mut egress, queues, socket, handoff, threads, mut context } = self;
        let sources: Vec<_> =
            queues.iter().map(|queue| queue.as_fd()).chain([socket.as_fd()]).collect();
        let waker = handoff.waker(Owner::EgressThread);
        let mut half = None;
        let mut load = Load::default();
        let mut ready = Ready::ANY;
        while context.begin_round() {
            if half.is_none() && handoff.owner() == Owner::EgressThread {
                half = Some(handoff.take());
                load = Load::default();
            }
            let outgoing = egress.turn(ready);
            let incoming = match half.as_deref_mut() {
                Some(half) if ready.has(queues.len()) => half.turn(ready),
                _ => Turn::Idle,
            };
            let turn = outgoing.max(incoming);
            let single_wakeup = is_single_wakeup(turn, ready);
            load.record(turn, incoming, single_wakeup);
            let watched = queues.len() + usize::from(half.is_some());
            ready = Ready::ANY;
            match turn {
                Turn::DeviceLost => return Err(Event::TunLost),
                Turn::Idle => ready = context.idle(waker, &sources[..watched])?,
                Turn::Single | Turn::Worked | Turn::Bulk => {
                    context.record_work(turn);
                    if threads == Threads::Auto
                        && load.needs_two_threads()
                        && let Some(half) = half.take()
                    {
                        context.counters.handoffs.add(1);
                        handoff.hand_off(half, Owner::IngressThread);
                    } else if single_wakeup && !context.busy_poll.is_worthwhile() {
                        ready = context.wait(waker, &sources[..watched])?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The thread that carries incoming packets while there are many.
pub(super) struct IngressThread {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) handoff: Arc<IngressHandoff>,
    pub(super) threads: Threads,
    pub(super) context: ThreadContext,
}

impl IngressThread {
    /// Carries packets whenever this thread owns the ingress half, until the context says to stop.
    ///
    /// # Errors
    /// As [`EgressThread::run`].
    pub(super) fn run(mut self) -> Result<(), Event> {
        let handoff = Arc::clone(&self.handoff);
        let socket = Arc::clone(&self.socket);
        while self.context.begin_round() {
            if handoff.owner() == Owner::IngressThread {
                self.carry(&handoff, socket.as_fd())?;
            } else {
                self.context.wait(handoff.waker(Owner::IngressThread), &[])?;
            }
        }
        Ok(())
    }

    /// Carries incoming packets until they no longer keep this thread busy.
    fn carry(&mut self, handoff: &IngressHandoff, socket: BorrowedFd<'_>) -> Result<(), Event> {
        let waker = handoff.waker(Owner::IngressThread);
        let mut half = handoff.take();
        let mut load = Load::busy();
        let mut ready = Ready::ANY;
        while self.context.begin_round() {
            let turn = half.turn(ready);
            let single_wakeup = is_single_wakeup(turn, ready);
            load.record(turn, turn, single_wakeup);
            ready = Ready::ANY;
            match turn {
                Turn::DeviceLost => return Err(Event::TunLost),
                _ if self.threads == Threads::Auto
                    && load.is_idle()
                    && !self.context.busy_poll.has_recent_bulk(Instant::now()) =>
                {
                    self.context.counters.handoffs.add(1);
                    handoff.hand_off(half, Owner::EgressThread);
                    return Ok(());
                }
                Turn::Idle => ready = self.context.idle(waker, &[socket])?,
                Turn::Single | Turn::Worked | Turn::Bulk => {
                    self.context.record_work(turn);
                    if single_wakeup && !self.context.busy_poll.is_worthwhile() {
                        ready = self.context.wait(waker, &[socket])?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether a single packet woke the thread and no source held another. As a rule none has arrived
/// since; the next wait finds that out with one call, where a turn over every source takes several.
fn is_single_wakeup(turn: Turn, ready: Ready) -> bool {
    turn == Turn::Single && ready.is_known()
}
