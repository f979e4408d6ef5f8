//! One direction of one worker, and the capture that watches it, if there is one.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use super::ring::Writer;
use super::{Direction, Record, Session, Tap, Ttl, Verdict};
use crate::dataplane::counters::DropReason;

/// Belongs to one thread.
pub(in crate::dataplane) struct Probe {
    tap: Tap,
    direction: Direction,
    local: SocketAddrV4,
    /// The generation of the tap that was seen last.
    seen: u64,
    live: Option<Live>,
}

/// While there is a capture.
struct Live {
    session: Arc<Session>,
    /// `None` where there are more probes than rings.
    writer: Option<Writer>,
    came: u64,
    left: u64,
    /// Packets lost since the last that was taken.
    lost: u32,
}

impl Probe {
    pub(super) fn new(tap: Tap, direction: Direction, local: SocketAddrV4) -> Self {
        Self { tap, direction, local, seen: 0, live: None }
    }

    /// A batch may begin: looks whether a capture has begun or ended.
    #[inline]
    pub(in crate::dataplane) fn look(&mut self) {
        if self.tap.0.generation.load(Ordering::Relaxed) != self.seen {
            self.attach();
        }
    }

    /// Whether there is a capture: the methods below do nothing while there is none.
    #[inline]
    pub(in crate::dataplane) fn is_on(&self) -> bool {
        self.live.is_some()
    }

    /// The packets of a batch have come.
    #[inline]
    pub(in crate::dataplane) fn came(&mut self) {
        if let Some(live) = &mut self.live {
            live.came = now();
            live.left = live.came;
        }
    }

    /// Packets have left.
    #[inline]
    pub(in crate::dataplane) fn left(&mut self) {
        if let Some(live) = &mut self.live {
            live.left = now();
        }
    }

    /// The packet made of `parts` was carried, to or from `peer`.
    #[inline]
    pub(in crate::dataplane) fn carried(&mut self, peer: SocketAddrV4, parts: [&[u8]; 2]) {
        if self.is_on() {
            self.record(Verdict::Carried, Some(peer), Ttl::Decremented, parts);
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
            self.record(Verdict::Dropped(reason), peer, ttl, parts);
        }
    }

    /// An ICMP error made here was sent: to `peer`, or to this host.
    #[inline]
    pub(in crate::dataplane) fn answered(&mut self, peer: Option<SocketAddrV4>, error: &[u8]) {
        if self.is_on() {
            self.record(Verdict::Answer, peer, Ttl::AsRead, [error, &[]]);
        }
    }

    #[cold]
    fn attach(&mut self) {
        // Whoever holds the lock holds it for a moment: the next batch will do.
        let Ok(state) = self.tap.0.state.try_lock() else { return };
        self.seen = self.tap.0.generation.load(Ordering::Relaxed);
        let session = state.session.clone();
        drop(state);
        self.live = session.map(|session| Live {
            writer: session.rings.iter().find_map(super::Ring::claim),
            session,
            came: 0,
            left: 0,
            lost: 0,
        });
    }

    #[cold]
    fn record(
        &mut self,
        verdict: Verdict,
        peer: Option<SocketAddrV4>,
        ttl: Ttl,
        parts: [&[u8]; 2],
    ) {
        let Some(live) = &mut self.live else { return };
        let wanted = &live.session.wanted;
        let (inner, outer) = verdict.seen_at(self.direction);
        let (inner, outer) = (inner && wanted.inner, outer && wanted.outer);
        let headers = if parts[0].is_empty() { parts[1] } else { parts[0] };
        let ip = peer.map(|peer| *peer.ip());
        if !(inner || outer) || !wanted.filter.takes(self.direction, verdict, ip, headers) {
            return;
        }
        let record = Record {
            came: live.came,
            left: live.left,
            lost: live.lost,
            direction: self.direction,
            verdict,
            ttl,
            peer,
            local: self.local,
            len: (parts[0].len() + parts[1].len()) as u32,
            bytes: &[],
        };
        let first = parts[0].len().min(wanted.snap_len);
        let second = parts[1].len().min(wanted.snap_len - first);
        let parts = [&parts[0][..first], &parts[1][..second]];
        let taken =
            (live.writer.as_mut()).is_some_and(|writer| writer.push(record.encode(), parts));
        if taken {
            live.lost = 0;
        } else {
            live.lost = live.lost.saturating_add(1);
            let lost = &live.session.lost;
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
