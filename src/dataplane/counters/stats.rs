//! Counters of all threads at one moment, summed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::{Counter, DirectionCounters, DropReason, Histogram, ThreadCounters};

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
