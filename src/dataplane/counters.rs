//! Counters: one block a thread, on cache lines of its own, summed by whoever reads.
//!
//! Conservation: in each direction `received = carried + Σ dropped`, in inner packets as they stand
//! on the wire; a super-packet counts as its segments.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::peers::PeerCounters;
use crate::packet::Malformed;
use crate::route::PeerIndex;

/// A counter with one writer.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may: it is a load and a store, not an atomic addition.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How much of its life a thread has been awake. One word that the thread writes when it falls asleep
/// and when it wakes up, so that a reader is right in between as well.
#[derive(Debug)]
pub struct BusyClock {
    born: Instant,
    /// Bit 0: asleep. Above it, in nanoseconds: the time awake so far while asleep, the time asleep
    /// so far while awake.
    word: AtomicU64,
}

impl Default for BusyClock {
    fn default() -> Self {
        Self { born: Instant::now(), word: AtomicU64::new(0) }
    }
}

impl BusyClock {
    /// The owning thread goes to sleep.
    #[inline]
    pub(super) fn sleep(&self, now: Instant) {
        let asleep = self.word.load(Ordering::Relaxed) >> 1;
        self.word.store((self.life(now).saturating_sub(asleep)) << 1 | 1, Ordering::Relaxed);
    }

    /// It woke up.
    #[inline]
    pub(super) fn wake(&self, now: Instant) {
        let awake = self.word.load(Ordering::Relaxed) >> 1;
        self.word.store((self.life(now).saturating_sub(awake)) << 1, Ordering::Relaxed);
    }

    /// Time awake and time since the thread was made.
    pub fn read(&self) -> (Duration, Duration) {
        let (life, word) = (self.life(Instant::now()), self.word.load(Ordering::Relaxed));
        let awake = if word & 1 == 1 { word >> 1 } else { life.saturating_sub(word >> 1) };
        (Duration::from_nanos(awake), Duration::from_nanos(life))
    }

    fn life(&self, now: Instant) -> u64 {
        now.duration_since(self.born).as_nanos() as u64
    }
}

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a packet was not carried.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $variant,)* }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in statistics.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

drop_reasons! {
    /// Fewer than the 20 bytes of an IPv4 header.
    TooShort = "too-short",
    /// The version is not 4.
    NotIpv4 = "not-ipv4",
    /// The header length is below 20 or beyond the packet.
    BadHeaderLength = "bad-header-length",
    /// The total length is below the header's or beyond the packet.
    Truncated = "truncated",
    /// Longer than the overlay MTU.
    OverMtu = "over-mtu",
    /// The TTL ran out here.
    TtlExpired = "ttl-expired",
    /// No lease holds the destination.
    NoRoute = "no-route",
    /// The `virtio_net_hdr` of the TUN contradicts its packet.
    BadVnetHeader = "bad-vnet-header",
    /// The UDP socket stayed full.
    SendQueueFull = "send-queue-full",
    /// The kernel had no buffer for the send (`ENOBUFS`, `ENOMEM`).
    SendNoBuffers = "send-no-buffers",
    /// The kernel has no way to the next hop (`ENETUNREACH`, `EHOSTUNREACH`, `ENETDOWN`).
    SendUnreachable = "send-unreachable",
    /// A firewall of this host refused the send (`EPERM`, `EACCES`).
    SendRefused = "send-refused",
    /// The next hop cannot be sent so long a datagram (`EMSGSIZE`).
    SendTooBig = "send-too-big",
    /// The send failed otherwise.
    SendFailed = "send-failed",
    /// The inner source does not belong to the lease of the outer sender.
    SourceMismatch = "source-mismatch",
    /// The inner destination is not in the own subnet.
    DestinationMismatch = "destination-mismatch",
    /// The TUN device was down (`EIO`).
    TunDown = "tun-down",
    /// The TUN device had no room (`EAGAIN`, `ENOBUFS`, `ENOMEM`).
    TunFull = "tun-full",
    /// The kernel refused the packet at the TUN device.
    TunRefused = "tun-refused",
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::TooShort => Self::TooShort,
            Malformed::BadVersion => Self::NotIpv4,
            Malformed::BadHeaderLength => Self::BadHeaderLength,
            Malformed::BadTotalLength | Malformed::BadExtension => Self::Truncated,
        }
    }
}

const REASONS: usize = DropReason::ALL.len();

/// Counts of a value by powers of two: bucket *i* holds values up to 2^*i*.
#[derive(Default, Debug)]
pub struct Histogram {
    buckets: [Counter; Self::BUCKETS],
    sum: Counter,
}

impl Histogram {
    /// Number of buckets; the last holds everything larger as well.
    pub const BUCKETS: usize = 12;

    /// Counts `value`.
    #[inline]
    pub fn record(&self, value: u64) {
        let bucket = value.max(1).next_power_of_two().trailing_zeros() as usize;
        self.buckets[bucket.min(Self::BUCKETS - 1)].add(1);
        self.sum.add(value);
    }
}

/// Counters of one direction in one thread.
#[derive(Default, Debug)]
#[repr(align(128))]
pub struct DirectionCounters {
    /// Packets taken in.
    pub packets: Counter,
    /// Bytes of those packets.
    pub bytes: Counter,
    /// Packets carried: sent, or delivered to the TUN device.
    pub carried_packets: Counter,
    /// Bytes of those packets.
    pub carried_bytes: Counter,
    /// System calls that took packets in.
    pub in_calls: Counter,
    /// System calls that put packets out.
    pub out_calls: Counter,
    /// Units taken in: TUN packets or UDP messages, each of one or more inner packets.
    pub in_units: Counter,
    /// Units put out: UDP messages or TUN packets.
    pub out_units: Counter,
    /// Runs of datagrams that the kernel would not cut and that were sent again one by one.
    pub uncut: Counter,
    /// ICMP errors generated.
    pub icmp: Counter,
    /// ICMP errors held back by the rate limit.
    pub icmp_limited: Counter,
    /// Packets whose inner source failed the check, dropped or not.
    pub source_mismatches: Counter,
    /// Packets whose inner source is in nobody's lease yet, carried during their sender's grace.
    pub source_grace: Counter,
    /// Packets whose inner destination failed the check, dropped or not.
    pub destination_mismatches: Counter,
    /// Failed checks that were not told to control, because it had not yet read of others.
    pub mismatches_untold: Counter,
    /// Inner packets a batch.
    pub batch: Histogram,
    /// Inner packets a system call of the UDP socket: one that sends, or one that receives.
    pub socket_call_packets: Histogram,
    /// Inner packets a unit taken in.
    pub in_unit_packets: Histogram,
    /// Inner packets a unit put out.
    pub out_unit_packets: Histogram,
    /// What of `carried_packets` and `carried_bytes` belongs to which peer, and of what was not sent.
    pub(super) peers: PeerCounters,
    drops: [Counter; REASONS],
}

impl DirectionCounters {
    /// Counts packets to or from `peer` as carried.
    #[inline]
    pub(super) fn carry(&self, peer: PeerIndex, packets: u64, bytes: u64) {
        self.carried_packets.add(packets);
        self.carried_bytes.add(bytes);
        self.peers.add(peer, packets, bytes);
    }

    /// Counts `packets` packets as dropped.
    #[inline]
    pub fn drop(&self, reason: DropReason, packets: u64) {
        self.drops[reason as usize].add(packets);
    }

    /// Counts packets to `peer` that the kernel did not send.
    #[cold]
    pub(super) fn unsent(&self, reason: DropReason, peer: PeerIndex, packets: u64) {
        self.drop(reason, packets);
        self.peers.add_unsent(peer, packets);
    }

    /// Counts packets that were taken in and dropped.
    pub(super) fn lose(&self, reason: DropReason, packets: usize, bytes: usize) {
        self.packets.add(packets as u64);
        self.bytes.add(bytes as u64);
        self.drop(reason, packets as u64);
    }
}

/// Counters of one thread.
#[derive(Default, Debug)]
#[repr(align(128))]
pub struct ThreadCounters {
    /// From the TUN device to UDP.
    pub egress: DirectionCounters,
    /// From UDP to the TUN device.
    pub ingress: DirectionCounters,
    /// Times the thread went to sleep.
    pub sleeps: Counter,
    /// Nanoseconds asleep.
    pub asleep_nanos: Counter,
    /// Rounds that found nothing and looked again instead of going to sleep.
    pub spins: Counter,
    /// Nanoseconds between such rounds.
    pub spinning_nanos: Counter,
    /// Times the thread handed the ingress half of its worker to the other thread.
    pub hand_overs: Counter,
    /// Rounds of the thread's loop: it lives while this moves after a wake-up.
    pub rounds: Counter,
    /// Time awake.
    pub busy: BusyClock,
}

impl ThreadCounters {
    /// Counters of a thread that works in these directions; what it carries in the other has no
    /// room for peers.
    pub(super) fn new(egress: bool, ingress: bool) -> Self {
        let mut counters = Self::default();
        if egress {
            counters.egress.peers = PeerCounters::sending();
        }
        if ingress {
            counters.ingress.peers = PeerCounters::receiving();
        }
        counters
    }
}

/// The sum of all threads at one moment.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// From the TUN device to UDP.
    pub egress: DirectionStats,
    /// From UDP to the TUN device.
    pub ingress: DirectionStats,
    /// Times a thread went to sleep.
    pub sleeps: u64,
    /// Nanoseconds asleep, all threads.
    pub asleep_nanos: u64,
    /// Rounds that found nothing and looked again.
    pub spins: u64,
    /// Nanoseconds between such rounds, all threads.
    pub spinning_nanos: u64,
    /// Times what comes in changed hands between the threads of a worker.
    pub hand_overs: u64,
    /// Datagrams that the kernel dropped because a socket's buffer was full.
    pub socket_overflows: u64,
}

/// One direction of [`Stats`]; the fields are those of [`DirectionCounters`].
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "documented at DirectionCounters")]
pub struct DirectionStats {
    pub packets: u64,
    pub bytes: u64,
    pub carried_packets: u64,
    pub carried_bytes: u64,
    pub in_calls: u64,
    pub out_calls: u64,
    pub in_units: u64,
    pub out_units: u64,
    pub uncut: u64,
    pub icmp: u64,
    pub icmp_limited: u64,
    pub source_mismatches: u64,
    pub source_grace: u64,
    pub destination_mismatches: u64,
    pub mismatches_untold: u64,
    pub batch: HistogramStats,
    pub socket_call_packets: HistogramStats,
    pub in_unit_packets: HistogramStats,
    pub out_unit_packets: HistogramStats,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<Cow<'static, str>, u64>,
}

/// A [`Histogram`] at one moment.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HistogramStats {
    /// Counts by bucket.
    pub buckets: [u64; Histogram::BUCKETS],
    /// Sum of the values.
    pub sum: u64,
}

impl Stats {
    /// The sum of `threads`.
    pub fn sum<'a>(threads: impl IntoIterator<Item = &'a ThreadCounters>) -> Self {
        let mut sum = Self::default();
        for thread in threads {
            sum.egress += &DirectionStats::from(&thread.egress);
            sum.ingress += &DirectionStats::from(&thread.ingress);
            sum.sleeps += thread.sleeps.get();
            sum.asleep_nanos += thread.asleep_nanos.get();
            sum.spins += thread.spins.get();
            sum.spinning_nanos += thread.spinning_nanos.get();
            sum.hand_overs += thread.hand_overs.get();
        }
        sum
    }
}

impl AddAssign<&Self> for Stats {
    fn add_assign(&mut self, other: &Self) {
        self.egress += &other.egress;
        self.ingress += &other.ingress;
        self.sleeps += other.sleeps;
        self.asleep_nanos += other.asleep_nanos;
        self.spins += other.spins;
        self.spinning_nanos += other.spinning_nanos;
        self.hand_overs += other.hand_overs;
        self.socket_overflows += other.socket_overflows;
    }
}

impl AddAssign<&Self> for DirectionStats {
    fn add_assign(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.carried_packets += other.carried_packets;
        self.carried_bytes += other.carried_bytes;
        self.in_calls += other.in_calls;
        self.out_calls += other.out_calls;
        self.in_units += other.in_units;
        self.out_units += other.out_units;
        self.uncut += other.uncut;
        self.icmp += other.icmp;
        self.icmp_limited += other.icmp_limited;
        self.source_mismatches += other.source_mismatches;
        self.source_grace += other.source_grace;
        self.destination_mismatches += other.destination_mismatches;
        self.mismatches_untold += other.mismatches_untold;
        self.batch += &other.batch;
        self.socket_call_packets += &other.socket_call_packets;
        self.in_unit_packets += &other.in_unit_packets;
        self.out_unit_packets += &other.out_unit_packets;
        for (reason, count) in &other.drops {
            *self.drops.entry(reason.clone()).or_default() += count;
        }
    }
}

impl AddAssign<&Self> for HistogramStats {
    fn add_assign(&mut self, other: &Self) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += bucket;
        }
        self.sum += other.sum;
    }
}

impl DirectionStats {
    /// Packets dropped, for any reason.
    pub fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }
}

impl From<&DirectionCounters> for DirectionStats {
    fn from(counters: &DirectionCounters) -> Self {
        Self {
            packets: counters.packets.get(),
            bytes: counters.bytes.get(),
            carried_packets: counters.carried_packets.get(),
            carried_bytes: counters.carried_bytes.get(),
            in_calls: counters.in_calls.get(),
            out_calls: counters.out_calls.get(),
            in_units: counters.in_units.get(),
            out_units: counters.out_units.get(),
            uncut: counters.uncut.get(),
            icmp: counters.icmp.get(),
            icmp_limited: counters.icmp_limited.get(),
            source_mismatches: counters.source_mismatches.get(),
            source_grace: counters.source_grace.get(),
            destination_mismatches: counters.destination_mismatches.get(),
            mismatches_untold: counters.mismatches_untold.get(),
            batch: (&counters.batch).into(),
            socket_call_packets: (&counters.socket_call_packets).into(),
            in_unit_packets: (&counters.in_unit_packets).into(),
            out_unit_packets: (&counters.out_unit_packets).into(),
            drops: DropReason::ALL
                .iter()
                .zip(&counters.drops)
                .map(|(reason, count)| (reason.name().into(), count.get()))
                .collect(),
        }
    }
}

impl From<&Histogram> for HistogramStats {
    fn from(histogram: &Histogram) -> Self {
        Self { buckets: histogram.buckets.each_ref().map(Counter::get), sum: histogram.sum.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_summed() {
        let threads = [ThreadCounters::default(), ThreadCounters::default()];
        threads[0].egress.packets.add(3);
        threads[1].egress.packets.add(4);
        threads[1].egress.drop(DropReason::NoRoute, 2);
        threads[1].ingress.batch.record(5);
        let stats = Stats::sum(&threads);
        assert_eq!(stats.egress.packets, 7);
        assert_eq!(stats.egress.drops["no-route"], 2);
        assert_eq!(stats.egress.dropped(), 2);
        assert_eq!(stats.ingress.batch.buckets[3], 1);
    }

    #[test]
    fn a_busy_clock_is_right_asleep_and_awake() {
        let clock = BusyClock::default();
        let at = |millis| clock.born + Duration::from_millis(millis);
        let word = || (clock.word.load(Ordering::Relaxed) >> 1) / 1_000_000;
        clock.sleep(at(10));
        assert_eq!(word(), 10, "awake");
        assert_eq!(clock.read().0, Duration::from_millis(10), "asleep, it stands still");
        clock.wake(at(40));
        assert_eq!(word(), 30, "asleep");
        clock.sleep(at(45));
        assert_eq!(word(), 15, "awake");
        clock.wake(at(45));
        assert_eq!(word(), 30, "asleep");
    }

    #[test]
    fn values_fall_into_the_bucket_of_the_next_power() {
        let histogram = Histogram::default();
        for value in [0, 1, 2, 3, 4, 5, 1 << 40] {
            histogram.record(value);
        }
        let stats = HistogramStats::from(&histogram);
        assert_eq!(stats.buckets[..4], [2, 1, 2, 1]);
        assert_eq!(stats.buckets[Histogram::BUCKETS - 1], 1);
    }
}
