//! The probe of one direction of one worker.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use super::ring::RingWriter;
use super::{CaptureSession, CaptureVerdict, Direction, Record, Tap, Ttl};
use crate::dataplane::counters::DropReason;

/// Records the packets of one direction in one thread, while a capture runs.
pub(in crate::dataplane) struct Probe {
    tap: Tap,
    direction: Direction,
    local: SocketAddrV4,
    /// The generation of the tap at the last check.
    seen: u64,
    active: Option<ActiveCapture>,
}

/// The capture that the probe records for.
struct ActiveCapture {
    session: Arc<CaptureSession>,
    /// `None` if there are more probes than rings.
    writer: Option<RingWriter>,
    read_time: u64,
    sent_time: u64,
    /// Number of packets lost since the last record.
    lost: u32,
}

impl Probe {
    pub(super) fn new(tap: Tap, direction: Direction, local: SocketAddrV4) -> Self {
        Self { tap, direction, local, seen: 0, active: None }
    }

    /// Checks whether a capture has begun or ended. To be called before each batch.
    #[inline]
    pub(in crate::dataplane) fn check_capture(&mut self) {
        if self.tap.0.generation.load(Ordering::Relaxed) != self.seen {
            self.attach();
        }
    }

    /// Whether a capture runs; the methods below do nothing otherwise.
    #[inline]
    pub(in crate::dataplane) fn is_on(&self) -> bool {
        self.active.is_some()
    }

    /// A batch of packets was read.
    #[inline]
    pub(in crate::dataplane) fn batch_read(&mut self) {
        if let Some(active) = &mut self.active {
            active.read_time = now();
            active.sent_time = active.read_time;
        }
    }

    /// Packets were sent or written.
    #[inline]
    pub(in crate::dataplane) fn batch_sent(&mut self) {
        if let Some(active) = &mut self.active {
            active.sent_time = now();
        }
    }

    /// The packet made of `parts` was carried, to or from `peer`.
    #[inline]
    pub(in crate::dataplane) fn carried(&mut self, peer: SocketAddrV4, parts: [&[u8]; 2]) {
        if self.is_on() {
            self.record(CaptureVerdict::Carried, Some(peer), Ttl::Decremented, parts);
        }
    }

    /// The packet made of `parts` was dropped.
    #[inline]
    pub(in crate::dataplane) fn dropped(
        &mut self,
        reason: DropReason,
        peer: Option<SocketAddrV4>,
        ttl: Ttl,
        parts: [&[u8]; 2],
    ) {
        if self.is_on() {
            self.record(CaptureVerdict::Dropped(reason), peer, ttl, parts);
        }
    }

    /// An ICMP error of this daemon was sent: to `peer`, or to this host.
    #[inline]
    pub(in crate::dataplane) fn icmp_sent(&mut self, peer: Option<SocketAddrV4>, error: &[u8]) {
        if self.is_on() {
            self.record(CaptureVerdict::IcmpError, peer, Ttl::AsRead, [error, &[]]);
        }
    }

    #[cold]
    fn attach(&mut self) {
        // If the lock is held, for a moment, the next batch tries again.
        let Ok(state) = self.tap.0.state.try_lock() else { return };
        self.seen = self.tap.0.generation.load(Ordering::Relaxed);
        let session = state.session.clone();
        drop(state);
        self.active = session.map(|session| ActiveCapture {
            writer: session.rings.iter().find_map(super::Ring::claim),
            session,
            read_time: 0,
            sent_time: 0,
            lost: 0,
        });
    }

    #[cold]
    fn record(
        &mut self,
        verdict: CaptureVerdict,
        peer: Option<SocketAddrV4>,
        ttl: Ttl,
        parts: [&[u8]; 2],
    ) {
        let Some(active) = &mut self.active else { return };
        let spec = &active.session.spec;
        let (inner, outer) = verdict.seen_at(self.direction);
        let (inner, outer) = (inner && spec.inner, outer && spec.outer);
        let headers = if parts[0].is_empty() { parts[1] } else { parts[0] };
        let ip = peer.map(|peer| *peer.ip());
        if !(inner || outer) || !spec.filter.selects(self.direction, verdict, ip, headers) {
            return;
        }
        let record = Record {
            read_time: active.read_time,
            sent_time: active.sent_time,
            lost: active.lost,
            direction: self.direction,
            verdict,
            ttl,
            peer,
            local: self.local,
            len: (parts[0].len() + parts[1].len()) as u32,
            bytes: &[],
        };
        let first = parts[0].len().min(spec.snap_len);
        let second = parts[1].len().min(spec.snap_len - first);
        let parts = [&parts[0][..first], &parts[1][..second]];
        let taken =
            (active.writer.as_mut()).is_some_and(|writer| writer.push(record.encode(), parts));
        if taken {
            active.lost = 0;
        } else {
            active.lost = active.lost.saturating_add(1);
            let lost = &active.session.lost;
            lost.inner.fetch_add(inner.into(), Ordering::Relaxed);
            lost.outer.fetch_add(outer.into(), Ordering::Relaxed);
            lost.packets.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.tap.0.lock().probes -= 1;
    }
}

/// Nanoseconds of Unix time.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}
