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

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::config::Threads;
use super::counters::ThreadCounters;
use super::egress::Egress;
use super::idle::Idle;
use super::ingress::Ingress;
use super::plane::Event;
use super::sleep::{Bell, Ready};
use crate::sys::tun::TunQueue;

/// What one look at a queue or socket brought.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Turn {
    /// Nothing was there.
    Idle,
    /// One packet was there.
    Lone,
    /// There was work, and there may be more.
    Worked,
    /// There was bulk.
    Bulk,
    /// The TUN device is gone.
    Lost,
}

impl Turn {
    /// What a batch of so many packets and bytes was.
    pub(super) fn of_batch(packets: u64, bytes: usize) -> Self {
        match packets {
            _ if bytes >= BULK_BYTES => Self::Bulk,
            1 => Self::Lone,
            _ => Self::Worked,
        }
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

    /// Nothing was there: says that all sources are worth another look, or sleeps.
    fn rest(&mut self, bell: &Bell, sources: &[BorrowedFd<'_>]) -> Result<Ready, Event> {
        let again = self.idle.look_again();
        self.counters.spinning_nanos.add(self.idle.take_looked().as_nanos() as u64);
        if again {
            self.counters.spins.add(1);
            thread::yield_now();
            return Ok(Ready::ANY);
        }
        self.sleep(bell, sources)
    }

    /// Says what is ready afterwards, unless packets come so quickly that it was no sleep.
    fn sleep(&mut self, bell: &Bell, sources: &[BorrowedFd<'_>]) -> Result<Ready, Event> {
        let before = Instant::now();
        self.counters.busy.sleep(before);
        let ready = bell.sleep(sources).map_err(Event::Failed)?;
        let after = Instant::now();
        self.counters.busy.wake(after);
        let asleep = after.duration_since(before);
        self.idle.slept(asleep);
        self.counters.sleeps.add(1);
        self.counters.asleep_nanos.add(asleep.as_nanos() as u64);
        Ok(if asleep < SLEEP { Ready::ANY } else { ready })
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

/// How busy a thread is, by its rounds.
#[derive(Default)]
struct Load {
    /// Rounds with work less rounds without, between 0 and [`BUSY`]. A packet alone is no work: two
    /// threads that one packet wakes up now and then are one too many.
    busy: u32,
    /// Of those with work since it was 0: how many brought something in.
    incoming: u32,
}

impl Load {
    #[inline]
    fn note(&mut self, turn: Turn, incoming: Turn, alone: bool) {
        if turn == Turn::Idle || alone {
            self.busy = self.busy.saturating_sub(1);
            if self.busy == 0 {
                self.incoming = 0;
            }
        } else {
            self.busy = (self.busy + 1).min(BUSY);
            self.incoming += u32::from(incoming != Turn::Idle);
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

/// A sleep shorter than this has not waited.
const SLEEP: Duration = Duration::from_micros(10);

/// Rounds with work, those without taken off, after which a thread counts as busy.
const BUSY: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(rounds: impl IntoIterator<Item = (Turn, Turn)>) -> Load {
        let mut load = Load::default();
        rounds.into_iter().for_each(|(out, r#in)| load.note(out.max(r#in), r#in, false));
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

    #[test]
    fn packets_that_wake_a_thread_one_at_a_time_are_no_load() {
        let mut load = after([(Turn::Bulk, Turn::Worked); BUSY as usize]);
        for _ in 0..BUSY {
            assert!(!load.is_none());
            load.note(Turn::Lone, Turn::Lone, true);
        }
        assert!(load.is_none());
    }
}
