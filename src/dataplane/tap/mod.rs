//! Captures of the packets that the workers handle.
//!
//! Each direction of each worker has a probe. Without a capture a probe costs one relaxed load per
//! batch. During a capture it copies the packets that the filter selects into a ring of its own and
//! never waits: a packet that finds the ring full is carried all the same and counted as lost to the
//! capture.

mod filter;
mod probe;
mod record;
mod ring;

use std::fmt;
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use filter::{Filter, Verdicts};
pub(super) use probe::Probe;
pub use record::{CaptureVerdict, Direction, Record, Ttl};
use ring::{HEADER, Ring, RingReader};

/// The connection between captures and workers; clones are the same tap. It outlives data planes: a
/// capture continues when the data plane is replaced.
#[derive(Clone, Default)]
pub struct Tap(Arc<TapShared>);

#[derive(Default)]
struct TapShared {
    /// Incremented when a capture begins or ends.
    generation: AtomicU64,
    state: Mutex<TapState>,
}

#[derive(Default)]
struct TapState {
    session: Option<Arc<CaptureSession>>,
    probes: usize,
    /// Largest number of probes at a time.
    max_probes: usize,
    interfaces: Option<TapInterfaces>,
}

/// The two interfaces between which packets pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TapInterfaces {
    /// Name of the TUN device.
    pub tun: String,
    /// Local address of the UDP sockets.
    pub local: SocketAddrV4,
}

/// The packets that a capture records.
#[derive(Clone, Debug)]
pub struct CaptureSpec {
    /// Selects packets.
    pub filter: Filter,
    /// Longest recorded part of a packet, in bytes.
    pub snap_len: usize,
    /// Whether packets at the TUN device are recorded.
    pub inner: bool,
    /// Whether packets are recorded as datagrams.
    pub outer: bool,
}

/// Packets that the filter selected and that were lost because a ring was full, since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LostPackets {
    /// Packets at the TUN device.
    pub inner: u64,
    /// Packets as datagrams.
    pub outer: u64,
    /// Packets, each counted once.
    pub packets: u64,
}

/// The state that all probes of one capture share.
struct CaptureSession {
    spec: CaptureSpec,
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
    /// [`CaptureRunning`]: another capture runs already.
    pub fn capture(&self, spec: CaptureSpec) -> Result<Capture, CaptureRunning> {
        let mut state = self.0.lock();
        if state.session.is_some() {
            return Err(CaptureRunning);
        }
        let probes = state.max_probes.max(MIN_RINGS);
        let bytes = (RING_BYTES / probes).max(MIN_RING_BYTES);
        let rings: Box<[_]> = (0..probes).map(|_| Ring::new(bytes)).collect();
        let readers = rings.iter().map(|ring| RingReader::new(Arc::clone(ring))).collect();
        let session = Arc::new(CaptureSession { spec, rings, lost: LostCounters::default() });
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

    /// Sets the interfaces between which packets pass from now on.
    pub fn set_interfaces(&self, interfaces: TapInterfaces) {
        self.0.lock().interfaces = Some(interfaces);
    }

    /// The interfaces between which packets pass; `None` before the first data plane.
    pub fn interfaces(&self) -> Option<TapInterfaces> {
        self.0.lock().interfaces.clone()
    }

    /// A probe for one direction of one worker, whose UDP socket is bound to `local`.
    pub(super) fn probe(&self, direction: Direction, local: SocketAddrV4) -> Probe {
        let mut state = self.0.lock();
        state.probes += 1;
        state.max_probes = state.max_probes.max(state.probes);
        drop(state);
        Probe::new(self.clone(), direction, local)
    }
}

impl TapShared {
    fn lock(&self) -> MutexGuard<'_, TapState> {
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
    session: Arc<CaptureSession>,
    readers: Vec<RingReader>,
    /// Packets of the records that were taken last.
    bytes: Vec<u8>,
    records: Vec<([u64; HEADER], std::ops::Range<usize>)>,
    started: Instant,
}

impl Capture {
    /// Takes records with at least `bytes` bytes of packets out of the rings, or all of them, and returns
    /// them in the order in which their batches were read.
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

    /// The packets that were lost because [`Self::take`] was not called in time.
    pub fn lost(&self) -> LostPackets {
        let lost = &self.session.lost;
        LostPackets {
            inner: lost.inner.load(Ordering::Relaxed),
            outer: lost.outer.load(Ordering::Relaxed),
            packets: lost.packets.load(Ordering::Relaxed),
        }
    }

    /// The packets that it records.
    pub fn spec(&self) -> &CaptureSpec {
        &self.session.spec
    }

    /// Start of the capture.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Ends the capture. Records that the workers have written before can still be taken.
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

/// Another capture runs, and there is one at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("another capture is running; only one can run at a time: end it first")]
pub struct CaptureRunning;

/// Size of all rings of a capture together, in bytes.
const RING_BYTES: usize = 16 << 20;
/// Smallest size of a ring, in bytes: it holds dozens of the longest packets.
const MIN_RING_BYTES: usize = 1 << 20;
/// Smallest number of rings: a capture that begins while no data plane runs has one ring per direction.
const MIN_RINGS: usize = 2;

#[cfg(test)]
mod tests;
