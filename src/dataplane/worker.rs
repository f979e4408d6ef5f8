//! The threads of a worker: look, carry, look again, sleep.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::counters::ThreadCounters;
use super::egress::Egress;
use super::idle::Idle;
use super::ingress::Ingress;
use super::plane::{Event, Events as EventSink};

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

/// One thread, for one direction or both.
pub(super) struct Worker {
    egress: Option<Egress>,
    ingress: Option<Ingress>,
    poll: Poll,
    idle: Idle,
    counters: Arc<ThreadCounters>,
    stop: Arc<AtomicBool>,
    events: EventSink,
}

impl Worker {
    /// A thread's state and what wakes it. `fds` are the queue and the socket that it reads.
    pub(super) fn new(
        egress: Option<Egress>,
        ingress: Option<Ingress>,
        fds: &[RawFd],
        idle: Idle,
        counters: Arc<ThreadCounters>,
        stop: Arc<AtomicBool>,
        events: EventSink,
    ) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        for fd in fds {
            poll.registry().register(&mut SourceFd(fd), PACKETS, Interest::READABLE)?;
        }
        let waker = Waker::new(poll.registry(), WAKE)?;
        Ok((Self { egress, ingress, poll, idle, counters, stop, events }, waker))
    }

    /// Carries packets until told to stop or the device is gone.
    pub(super) fn run(mut self) {
        // mio is edge-triggered: a thread sleeps only after each of its sources was seen empty.
        let mut ready = Events::with_capacity(4);
        while !self.stop.load(Ordering::Relaxed) {
            self.counters.rounds.add(1);
            match self.turn() {
                turn @ (Turn::Worked | Turn::Bulk) => self.idle.worked(turn == Turn::Bulk),
                Turn::Lost => return self.events.send(Event::TunLost),
                Turn::Idle if self.idle.look_again() => {
                    self.counters.spins.add(1);
                    thread::yield_now();
                }
                Turn::Idle => {
                    let before = Instant::now();
                    if let Err(error) = self.poll.poll(&mut ready, None)
                        && error.kind() != io::ErrorKind::Interrupted
                    {
                        return self.events.send(Event::Failed(error));
                    }
                    let asleep = before.elapsed();
                    self.idle.slept(asleep);
                    self.counters.sleeps.add(1);
                    self.counters.asleep_nanos.add(asleep.as_nanos() as u64);
                }
            }
        }
    }

    #[inline]
    fn turn(&mut self) -> Turn {
        let egress = self.egress.as_mut().map_or(Turn::Idle, Egress::turn);
        let ingress = self.ingress.as_mut().map_or(Turn::Idle, Ingress::turn);
        egress.max(ingress)
    }
}

/// A batch of so many bytes is bulk: more than a message that somebody waits for, as a rule.
const BULK_BYTES: usize = 32 << 10;
const PACKETS: Token = Token(0);
const WAKE: Token = Token(1);
