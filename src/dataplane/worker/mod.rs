//! The threads of a worker: look, carry, look again, sleep.
//!
//! A worker has a **lead**, which carries what leaves, and may have an **aide**. What comes in, the
//! ingress half, belongs to one of the two at a time. While traffic is light the lead has both: a
//! round trip then wakes one thread on this host and not two. When the lead is kept busy by both
//! directions it hands the ingress half to the aide, and gets it back once the aide is idle and
//! nothing moves in bulk. Changing hands costs a wake-up and happens at most once in some dozens of
//! rounds; between changes nobody locks anything.
//!
//! A thread that has slept looks at what has woken it up and at nothing else, and if that was one
//! packet it sleeps again: `poll` knows for one call whether more has come.

mod context;
mod handoff;
mod load;

use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

pub(super) use context::Seat;
pub(super) use handoff::Baton;
use load::{BUSY, Load};

use super::config::Threads;
use super::egress::Egress;
use super::plane::Event;
use super::polling::{Ready, Turn};
use crate::sys::tun::TunQueue;

/// The thread that carries what leaves and, mostly, what comes.
pub(super) struct Lead {
    pub(super) egress: Egress,
    pub(super) queues: Vec<Arc<TunQueue>>,
    pub(super) socket: Arc<UdpSocket>,
    pub(super) baton: Arc<Baton>,
    pub(super) threads: Threads,
    pub(super) seat: Seat,
}

impl Lead {
    /// Carries packets until told to stop.
    ///
    /// # Errors
    /// What control must know: the device is gone, or sleeping fails.
    pub(super) fn run(self) -> Result<(), Event> {
        let Self { mut egress, queues, socket, baton, threads, mut seat } = self;
        let sources: Vec<_> =
            queues.iter().map(|queue| queue.as_fd()).chain([socket.as_fd()]).collect();
        let mut half = None;
        let mut load = Load::default();
        let mut ready = Ready::ANY;
        while seat.goes_on() {
            if half.is_none() && !baton.is_with_aide() {
                half = Some(baton.take());
                load = Load::default();
            }
            let outgoing = egress.turn(ready);
            let incoming = match half.as_deref_mut() {
                Some(half) if ready.has(queues.len()) => half.turn(ready),
                _ => Turn::Idle,
            };
            let turn = outgoing.max(incoming);
            let alone = is_alone(turn, ready);
            load.note(turn, incoming, alone);
            let watched = queues.len() + usize::from(half.is_some());
            ready = Ready::ANY;
            match turn {
                Turn::Lost => return Err(Event::TunLost),
                Turn::Idle => ready = seat.rest(&baton.lead, &sources[..watched])?,
                turn => {
                    seat.idle.worked(turn == Turn::Bulk);
                    if threads == Threads::Auto
                        && load.is_for_two()
                        && let Some(half) = half.take()
                    {
                        seat.counters.hand_overs.add(1);
                        baton.hand(half, true);
                    } else if alone && !seat.idle.looks() {
                        ready = seat.sleep(&baton.lead, &sources[..watched])?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The thread that carries what comes while there is much.
pub(super) struct Aide {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) baton: Arc<Baton>,
    pub(super) threads: Threads,
    pub(super) seat: Seat,
}

impl Aide {
    /// Carries packets whenever it is asked to, until told to stop.
    ///
    /// # Errors
    /// As [`Lead::run`].
    pub(super) fn run(mut self) -> Result<(), Event> {
        let baton = Arc::clone(&self.baton);
        let socket = Arc::clone(&self.socket);
        while self.seat.goes_on() {
            if baton.is_with_aide() {
                self.carry(&baton, socket.as_fd())?;
            } else {
                self.seat.sleep(&baton.aide, &[])?;
            }
        }
        Ok(())
    }

    /// Until there is little left to do.
    fn carry(&mut self, baton: &Baton, socket: BorrowedFd<'_>) -> Result<(), Event> {
        let mut half = baton.take();
        let mut load = Load { busy: BUSY, incoming: 0 };
        let mut ready = Ready::ANY;
        while self.seat.goes_on() {
            let turn = half.turn(ready);
            let alone = is_alone(turn, ready);
            load.note(turn, turn, alone);
            ready = Ready::ANY;
            match turn {
                Turn::Lost => return Err(Event::TunLost),
                _ if self.threads == Threads::Auto
                    && load.is_none()
                    && !self.seat.idle.is_bulk() =>
                {
                    self.seat.counters.hand_overs.add(1);
                    baton.hand(half, false);
                    return Ok(());
                }
                Turn::Idle => ready = self.seat.rest(&baton.aide, &[socket])?,
                turn => {
                    self.seat.idle.worked(turn == Turn::Bulk);
                    if alone && !self.seat.idle.looks() {
                        ready = self.seat.sleep(&baton.aide, &[socket])?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether one packet has woken a thread up, and nothing but that was there. As a rule nothing has come
/// since, which the next sleep finds out with one call, less than a look at every source takes.
fn is_alone(turn: Turn, ready: Ready) -> bool {
    turn == Turn::Lone && ready.is_known()
}
