//! Where a capture listens to the workers.
//!
//! Each direction of each worker has a probe. While nobody captures it costs one relaxed load a
//! batch. While somebody does, a probe copies what the filter takes into a ring of its own and never
//! waits: what finds the ring full is counted as lost to the capture, and goes its way all the same.

mod filter;
mod probe;
mod record;
mod ring;

use std::fmt;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use filter::{Filter, Reasons};
pub(super) use probe::Probe;
pub use record::{Direction, Record, Ttl, Verdict};
use ring::{HEADER, Reader, Ring};

/// The workers' side of captures; clones are the same tap. It outlives data planes: a capture goes
/// on when one is replaced.
#[derive(Clone, Default)]
pub struct Tap(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Moves when a capture begins or ends.
    generation: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    probes: usize,
    /// The most probes there were at a time.
    most: usize,
    place: Option<Place>,
}

/// What the packets pass between.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Name of the TUN device.
    pub tun: String,
    /// Where the UDP sockets are bound.
    pub local: SocketAddrV4,
}

/// What a capture wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which packets.
    pub filter: Filter,
    /// Bytes of each packet at most.
    pub snap_len: usize,
    /// Whether packets are wanted that were seen at the TUN device.
    pub inner: bool,
    /// Whether packets are wanted that were seen as a datagram.
    pub outer: bool,
}

/// Packets that a capture took or should have taken, since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lost {
    /// That were to be seen at the TUN device.
    pub inner: u64,
    /// That were to be seen as a datagram.
    pub outer: u64,
    /// At either.
    pub packets: u64,
}

/// What all probes of one capture share.
struct Session {
    wanted: Wanted,
    rings: Box<[Arc<Ring>]>,
    lost: LostCounters,
}

#[derive(Default)]
struct LostCounters {
    inner: AtomicU64,
    outer: AtomicU64,
    packets: AtomicU64,
}

impl Tap {
    /// Begins a capture.
    ///
    /// # Errors
    /// [`Busy`]: there is one already.
    pub fn capture(&self, wanted: Wanted) -> Result<Capture, Busy> {
        let mut state = self.0.lock();
        if state.session.is_some() {
            return Err(Busy);
        }
        let probes = state.most.max(MIN_RINGS);
        let bytes = (RING_BYTES / probes).max(MIN_RING_BYTES);
        let rings: Box<[_]> = (0..probes).map(|_| Ring::new(bytes)).collect();
        let readers = rings.iter().map(|ring| Reader::new(Arc::clone(ring))).collect();
        let session = Arc::new(Session { wanted, rings, lost: LostCounters::default() });
        state.session = Some(Arc::clone(&session));
        self.0.generation.fetch_add(1, Ordering::Relaxed);
        drop(state);
        Ok(Capture {
            tap: self.clone(),
            session,
            readers,
            bytes: vec![],
            records: vec![],
            started: Instant::now(),
        })
    }

    /// Says between what the packets pass from now on.
    pub fn set_place(&self, place: Place) {
        self.0.lock().place = Some(place);
    }

    /// Between what the packets pass; `None` before the first data plane.
    pub fn place(&self) -> Option<Place> {
        self.0.lock().place.clone()
    }

    /// A probe for one direction of one worker, whose UDP socket is bound to `local`.
    pub(super) fn probe(&self, direction: Direction, local: SocketAddrV4) -> Probe {
        let mut state = self.0.lock();
        state.probes += 1;
        state.most = state.most.max(state.probes);
        drop(state);
        Probe::new(self.clone(), direction, local)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

/// A running capture; dropping it ends it.
pub struct Capture {
    tap: Tap,
    session: Arc<Session>,
    readers: Vec<Reader>,
    /// Of the records taken out last.
    bytes: Vec<u8>,
    records: Vec<([u64; HEADER], std::ops::Range<usize>)>,
    started: Instant,
}

impl Capture {
    /// Takes records out of the rings, `bytes` bytes of packets or a little more, and returns them in
    /// the order in which the packets came.
    pub fn take(&mut self, bytes: usize) -> impl Iterator<Item = Record<'_>> {
        self.bytes.clear();
        self.records.clear();
        let share = bytes.div_ceil(self.readers.len());
        for (number, reader) in self.readers.iter_mut().enumerate() {
            loop {
                let start = self.bytes.len();
                if start >= share * (number + 1) {
                    break;
                }
                let Some(header) = reader.pop(&mut self.bytes) else { break };
                self.records.push((header, start..self.bytes.len()));
            }
        }
        self.records.sort_by_key(|(header, _)| header[0]);
        self.records
            .iter()
            .map(|(header, range)| Record::decode(*header, &self.bytes[range.clone()]))
    }

    /// What was lost because nobody took it out in time.
    pub fn lost(&self) -> Lost {
        let lost = &self.session.lost;
        Lost {
            inner: lost.inner.load(Ordering::Relaxed),
            outer: lost.outer.load(Ordering::Relaxed),
            packets: lost.packets.load(Ordering::Relaxed),
        }
    }

    /// What it wants.
    pub fn wanted(&self) -> &Wanted {
        &self.session.wanted
    }

    /// When it began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Ends it; what the workers have taken until now can still be taken out.
    pub fn stop(&mut self) {
        let mut state = self.tap.0.lock();
        if state.session.take_if(|session| Arc::ptr_eq(session, &self.session)).is_some() {
            self.tap.0.generation.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Another capture is running.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("another capture is running, and there is one at a time: end it first")]
pub struct Busy;

/// Bytes of all rings of a capture together.
const RING_BYTES: usize = 16 << 20;
/// A ring holds dozens of the longest packets.
const MIN_RING_BYTES: usize = 1 << 20;
/// A capture that begins while there is no data plane is ready for the smallest one.
const MIN_RINGS: usize = 2;

#[cfg(test)]
mod tests;
