//! The threads of a worker: look, carry, look again, sleep.
//!
//! A worker has a **lead**, which carries what leaves, and may have an **aide**. What comes in, the
//! ingress half, belongs to one of the two at a time. While traffic is light the lead has both: a
//! round trip then wakes one thread on this host and not two. When the lead is kept busy by both
//! directions it hands the ingress half to the aide, and gets it back once the aide is idle and
//! nothing moves in bulk. Changing hands costs a wake-up and happens at most once in some dozens of
//! rounds; between changes nobody locks anything.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::config::Threads;
use super::counters::ThreadCounters;
use super::egress::Egress;
use super::idle::Idle;
use super::ingress::Ingress;
use super::plane::Event;
use super::sleep::Bell;
use crate::sys::tun::TunQueue;

/// What one look at a queue or socket brought.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Turn {
    /// Nothing was there.
    Idle,
    /// There was work, and there may be more.
    Worked,
    /// There was bulk.
    Bulk,
    /// The TUN device is gone.
    Lost,
}

impl Turn {
    /// What a batch of so many bytes was.
    pub(super) fn of_batch(bytes: usize) -> Self {
        if bytes < BULK_BYTES { Self::Worked } else { Self::Bulk }
    }
}

/// The ingress half, which the lead and the aide of a worker hand to each other.
pub(super) struct Baton {
    /// Locked for as long as a thread has it.
    ingress: Mutex<Ingress>,
    /// Whose it is to be.
    with_aide: AtomicBool,
    lead: Bell,
    aide: Bell,
}

impl Baton {
    pub(super) fn new(ingress: Ingress, threads: Threads) -> io::Result<Self> {
        Ok(Self {
            ingress: Mutex::new(ingress),
            with_aide: AtomicBool::new(threads == Threads::Two),
            lead: Bell::new()?,
            aide: Bell::new()?,
        })
    }

    /// What wakes the lead and the aide.
    pub(super) fn bells(&self) -> [&Bell; 2] {
        [&self.lead, &self.aide]
    }

    /// Takes the half; waits for the other thread, which has let go of it or is about to.
    fn take(&self) -> MutexGuard<'_, Ingress> {
        self.ingress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the half, and tells the other thread.
    fn hand(&self, half: MutexGuard<'_, Ingress>, to_aide: bool) {
        drop(half);
        self.with_aide.store(to_aide, Ordering::Release);
        if to_aide { self.aide.ring() } else { self.lead.ring() }
    }

    #[inline]
    fn is_with_aide(&self) -> bool {
        self.with_aide.load(Ordering::Acquire)
    }
}

/// What every thread has.
pub(super) struct Seat {
    pub(super) idle: Idle,
    pub(super) counters: Arc<ThreadCounters>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Seat {
    fn goes_on(&self) -> bool {
        self.counters.rounds.add(1);
        !self.stop.load(Ordering::Relaxed)
    }

    /// Nothing was there: looks again, or sleeps.
    fn rest(&mut self, bell: &Bell, sources: &[BorrowedFd<'_>]) -> Result<(), Event> {
        let again = self.idle.look_again();
        self.counters.spinning_nanos.add(self.idle.take_looked().as_nanos() as u64);
        if again {
            self.counters.spins.add(1);
            thread::yield_now();
            return Ok(());
        }
        self.sleep(bell, sources)
    }

    fn sleep(&mut self, bell: &Bell, sources: &[BorrowedFd<'_>]) -> Result<(), Event> {
        let before = Instant::now();
        self.counters.busy.sleep(before);
        bell.sleep(sources).map_err(Event::Failed)?;
        let after = Instant::now();
        self.counters.busy.wake(after);
        let asleep = after.duration_since(before);
        self.idle.slept(asleep);
        self.counters.sleeps.add(1);
        self.counters.asleep_nanos.add(asleep.as_nanos() as u64);
        Ok(())
    }
}

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
        while seat.goes_on() {
            if half.is_none() && !baton.is_with_aide() {
                half = Some(baton.take());
                load = Load::default();
            }
            let outgoing = egress.turn();
            let incoming = half.as_deref_mut().map_or(Turn::Idle, Ingress::turn);
            load.note(outgoing, incoming);
            match outgoing.max(incoming) {
                Turn::Lost => return Err(Event::TunLost),
                Turn::Idle => {
                    let watched = queues.len() + usize::from(half.is_some());
                    seat.rest(&baton.lead, &sources[..watched])?;
                }
                turn => {
                    seat.idle.worked(turn == Turn::Bulk);
                    if threads == Threads::Auto
                        && load.is_for_two()
                        && let Some(half) = half.take()
                    {
                        seat.counters.hand_overs.add(1);
                        baton.hand(half, true);
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
            match baton.is_with_aide() {
                true => self.carry(&baton, socket.as_fd())?,
                false => self.seat.sleep(&baton.aide, &[])?,
            }
        }
        Ok(())
    }

    /// Until there is little left to do.
    fn carry(&mut self, baton: &Baton, socket: BorrowedFd<'_>) -> Result<(), Event> {
        let mut half = baton.take();
        let mut load = Load { busy: BUSY, incoming: 0 };
        while self.seat.goes_on() {
            let turn = half.turn();
            load.note(Turn::Idle, turn);
            match turn {
                Turn::Lost => return Err(Event::TunLost),
                Turn::Idle
                    if self.threads == Threads::Auto
                        && load.is_none()
                        && !self.seat.idle.is_bulk() =>
                {
                    self.seat.counters.hand_overs.add(1);
                    baton.hand(half, false);
                    return Ok(());
                }
                Turn::Idle => self.seat.rest(&baton.aide, &[socket])?,
                turn => self.seat.idle.worked(turn == Turn::Bulk),
            }
        }
        Ok(())
    }
}

/// How busy a thread is, by its rounds.
#[derive(Default)]
struct Load {
    /// Rounds with work less rounds without, between 0 and [`BUSY`].
    busy: u32,
    /// Of those with work since it was 0: how many brought something in.
    incoming: u32,
}

impl Load {
    #[inline]
    fn note(&mut self, egress: Turn, ingress: Turn) {
        if egress == Turn::Idle && ingress == Turn::Idle {
            self.busy = self.busy.saturating_sub(1);
            if self.busy == 0 {
                self.incoming = 0;
            }
        } else {
            self.busy = (self.busy + 1).min(BUSY);
            self.incoming += u32::from(ingress != Turn::Idle);
        }
    }

    /// Whether another thread would find enough to do with what comes in.
    fn is_for_two(&self) -> bool {
        self.busy == BUSY && self.incoming >= BUSY / 4
    }

    fn is_none(&self) -> bool {
        self.busy == 0
    }
}

/// A batch of so many bytes is bulk: more than a message that somebody waits for, as a rule.
const BULK_BYTES: usize = 32 << 10;

/// Rounds with work, those without taken off, after which a thread counts as busy.
const BUSY: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(rounds: impl IntoIterator<Item = (Turn, Turn)>) -> Load {
        let mut load = Load::default();
        rounds.into_iter().for_each(|(egress, ingress)| load.note(egress, ingress));
        load
    }

    #[test]
    fn a_thread_that_both_directions_keep_busy_is_two_threads_work() {
        let both = (Turn::Bulk, Turn::Worked);
        assert!(after([both; BUSY as usize]).is_for_two());
        assert!(!after([both; BUSY as usize - 1]).is_for_two());
        // Now and then a round without work does not matter.
        let mixed = [both, both, (Turn::Idle, Turn::Idle)];
        assert!(after(mixed.into_iter().cycle().take(62)).is_for_two());
    }

    #[test]
    fn one_direction_or_a_round_trip_is_not() {
        assert!(!after([(Turn::Bulk, Turn::Idle); 1_000]).is_for_two());
        let mut round_trip = vec![(Turn::Idle, Turn::Idle); 8];
        round_trip.extend([(Turn::Worked, Turn::Idle), (Turn::Idle, Turn::Worked)]);
        let load = after(round_trip.iter().copied().cycle().take(1_000));
        assert!(!load.is_for_two());
        assert!(after(round_trip.into_iter().cycle().take(1_008)).is_none());
    }
}
