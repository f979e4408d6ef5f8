//! Counters by peer of one thread.

use std::fmt;
use std::sync::atomic::{AtomicU16, Ordering};

use serde::{Deserialize, Serialize};

use crate::dataplane::counters::Counter;
use crate::route::PeerIndex;

/// Packets and bytes by peer, of one direction in one thread: 256 KiB, allocated before the thread
/// starts. Peer indexes are assigned from the lowest on, so the slots in use are adjacent.
#[derive(Default)]
pub(in crate::dataplane) struct PeerCounters {
    carried: Box<[PeerSlot]>,
    /// Packets not sent, 128 KiB, apart from the slots that each packet touches. Empty in a thread that
    /// only receives.
    unsent: Box<[Counter]>,
    /// Bytes of the longest fragment received since control looked, 32 KiB. Empty in a thread that only sends.
    fragments: Box<[AtomicU16]>,
}

#[derive(Default)]
struct PeerSlot {
    packets: Counter,
    bytes: Counter,
}

impl PeerCounters {
    /// A slot for every peer index, for a thread that receives.
    pub(in crate::dataplane) fn receiving() -> Self {
        let carried = (0..PeerIndex::COUNT).map(|_| PeerSlot::default()).collect();
        let fragments = (0..PeerIndex::COUNT).map(|_| AtomicU16::default()).collect();
        Self { carried, fragments, unsent: Box::default() }
    }

    /// A slot for every peer index, for a thread that sends.
    pub(in crate::dataplane) fn sending() -> Self {
        let unsent = (0..PeerIndex::COUNT).map(|_| Counter::default()).collect();
        Self { unsent, fragments: Box::default(), ..Self::receiving() }
    }

    /// Counts packets of `peer`. Only the owning thread may call this.
    #[inline]
    pub(in crate::dataplane) fn add(&self, peer: PeerIndex, packets: u64, bytes: u64) {
        if let Some(slot) = self.carried.get(peer.get()) {
            slot.packets.add(packets);
            slot.bytes.add(bytes);
        }
    }

    /// Counts packets to `peer` that the kernel did not send. Only the owning thread may call this.
    #[cold]
    pub(in crate::dataplane) fn add_unsent(&self, peer: PeerIndex, packets: u64) {
        if let Some(unsent) = self.unsent.get(peer.get()) {
            unsent.add(packets);
        }
    }

    /// Records that a datagram of `peer` came in fragments of up to `len` bytes.
    #[cold]
    pub(in crate::dataplane) fn record_fragment(&self, peer: PeerIndex, len: u16) {
        if let Some(longest) = self.fragments.get(peer.get()) {
            longest.fetch_max(len, Ordering::Relaxed);
        }
    }

    /// Bytes of the longest fragment of `peer` since the last call; 0 if there was none.
    pub(super) fn take_fragment(&self, peer: PeerIndex) -> u16 {
        let longest = self.fragments.get(peer.get());
        let longest = longest.filter(|longest| longest.load(Ordering::Relaxed) > 0);
        longest.map_or(0, |longest| longest.swap(0, Ordering::Relaxed))
    }

    /// Packets and bytes of `peer`.
    pub(super) fn get(&self, peer: PeerIndex) -> (u64, u64) {
        let slot = self.carried.get(peer.get());
        slot.map_or((0, 0), |slot| (slot.packets.get(), slot.bytes.get()))
    }

    /// Packets to `peer` that the kernel did not send.
    pub(super) fn unsent(&self, peer: PeerIndex) -> u64 {
        self.unsent.get(peer.get()).map_or(0, Counter::get)
    }
}

impl fmt::Debug for PeerCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerCounters({})", self.carried.len())
    }
}

/// Packets and bytes in both directions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "documented at PeerTraffic")]
pub struct Traffic {
    pub sent_packets: u64,
    pub sent_bytes: u64,
    pub received_packets: u64,
    pub received_bytes: u64,
    #[serde(default)]
    pub unsent_packets: u64,
}

impl Traffic {
    pub(super) fn new(sent: (u64, u64), received: (u64, u64), unsent_packets: u64) -> Self {
        Self {
            unsent_packets,
            sent_packets: sent.0,
            sent_bytes: sent.1,
            received_packets: received.0,
            received_bytes: received.1,
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        self.zip(other, u64::wrapping_add)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        self.zip(other, u64::wrapping_sub)
    }

    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            sent_packets: f(self.sent_packets, other.sent_packets),
            sent_bytes: f(self.sent_bytes, other.sent_bytes),
            received_packets: f(self.received_packets, other.received_packets),
            received_bytes: f(self.received_bytes, other.received_bytes),
            unsent_packets: f(self.unsent_packets, other.unsent_packets),
        }
    }
}

/// A duration in JSON: seconds, with millisecond resolution.
pub(super) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_millis() as f64 / 1e3).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(deserializer)?;
        let time = seconds.map(Duration::try_from_secs_f64).transpose();
        time.map_err(serde::de::Error::custom)
    }
}
