//! Counters of one direction.

use super::by_peer::PeerCounters;
use super::declare::counters;
use super::metric::{Metric, Unit};
use super::{Counter, DropCounters, DropReason, Histogram};
use crate::route::PeerIndex;

counters! {
    /// Counters of one direction in one thread.
    pub struct DirectionCounters, summed in DirectionStats {
        /// Packets read.
        packets: Counter => Metric::of_directions(
            "flannel_udp_packets",
            "Inner packets read, carried or dropped",
        ),
        /// Bytes of those packets.
        bytes: Counter => Metric::of_directions(
            "flannel_udp",
            "Bytes of the inner packets read",
        ).unit(Unit::Bytes),
        /// Packets carried: sent, or written to the TUN device.
        carried_packets: Counter => Metric::of_directions(
            "flannel_udp_carried_packets",
            "Inner packets carried: sent to a peer, or written to the TUN device",
        ),
        /// Bytes of those packets.
        carried_bytes: Counter => Metric::of_directions(
            "flannel_udp_carried",
            "Bytes of the inner packets carried",
        ).unit(Unit::Bytes),
        /// System calls that read packets.
        in_calls: Counter => SYSTEM_CALLS.side("in"),
        /// System calls that sent or wrote packets.
        out_calls: Counter => SYSTEM_CALLS.side("out"),
        /// Units read: TUN packets or UDP messages, each of one or more inner packets.
        in_units: Counter,
        /// Units sent or written: UDP messages or TUN packets.
        out_units: Counter,
        /// Trains of datagrams that the kernel refused to segment (UDP GSO) and that were sent again one by one.
        gso_refused: Counter => Metric::of_egress(
            "flannel_udp_gso_refused_trains",
            "Trains of datagrams that the kernel refused to segment and that were resent one by one",
        ),
        /// ICMP errors generated.
        icmp: Counter => Metric::of_directions(
            "flannel_udp_icmp_errors",
            "ICMP errors sent back to senders of packets that were dropped or are longer than the MTU",
        ),
        /// ICMP errors suppressed by the rate limit.
        icmp_limited: Counter => Metric::of_directions(
            "flannel_udp_icmp_errors_limited",
            "ICMP errors suppressed by the rate limit",
        ),
        /// Packets whose inner source failed the check, dropped or not.
        source_mismatches: Counter => Metric::of_ingress(
            "flannel_udp_source_mismatches",
            "Packets whose inner source is not in the lease of the host that sent them, dropped or not",
        ),
        /// Packets carried during the grace period of their sender: their inner source is in no lease yet.
        source_grace: Counter => Metric::of_ingress(
            "flannel_udp_source_grace_packets",
            "Packets carried although their source is in no lease: the lease of their sender may arrive soon",
        ),
        /// Packets whose inner destination failed the check, dropped or not.
        destination_mismatches: Counter => Metric::of_ingress(
            "flannel_udp_destination_mismatches",
            "Packets whose inner destination is not in this host's subnet, dropped or not",
        ),
        /// Failed checks that were not reported to the control thread, because its queue was full.
        mismatches_unreported: Counter => Metric::of_ingress(
            "flannel_udp_unreported_mismatches",
            "Mismatches that the log and status do not show, because there were too many at once",
        ),
        /// Inner packets per batch.
        batch: Histogram => Metric::of_directions(
            "flannel_udp_batch_packets",
            "Inner packets per batch",
        ),
        /// Inner packets per system call of the UDP socket: one that sends, or one that receives.
        socket_call_packets: Histogram => Metric::of_directions(
            "flannel_udp_socket_call_packets",
            "Inner packets per system call of the UDP socket: sent (egress) or received (ingress)",
        ),
        /// Inner packets per unit read.
        in_unit_packets: Histogram => UNIT_PACKETS.side("in"),
        /// Inner packets per unit sent or written.
        out_unit_packets: Histogram => UNIT_PACKETS.side("out"),
        /// Packets dropped, by reason.
        drops: DropCounters => Metric::of_directions(
            "flannel_udp_dropped_packets",
            "Inner packets read and not carried, by reason",
        ),
    }
    and {
        /// The parts of the carried packets, of their bytes and of the packets not sent that belong to each peer.
        pub(in crate::dataplane) peers: PeerCounters,
    }
}

const SYSTEM_CALLS: Metric = Metric::of_directions(
    "flannel_udp_system_calls",
    "System calls that read packets (in) and that sent or wrote packets (out)",
);

const UNIT_PACKETS: Metric = Metric::of_directions(
    "flannel_udp_unit_packets",
    "Inner packets per unit: a packet or super-packet of the TUN device, or a UDP message",
);

impl DirectionCounters {
    /// Counts packets to or from `peer` as carried.
    #[inline]
    pub(in crate::dataplane) fn carry(&self, peer: PeerIndex, packets: u64, bytes: u64) {
        self.carried_packets.add(packets);
        self.carried_bytes.add(bytes);
        self.peers.add(peer, packets, bytes);
    }

    /// Counts `packets` packets as dropped.
    #[inline]
    pub fn drop(&self, reason: DropReason, packets: u64) {
        self.drops.add(reason, packets);
    }

    /// Counts packets to `peer` that the kernel did not send.
    #[cold]
    pub(in crate::dataplane) fn unsent(&self, reason: DropReason, peer: PeerIndex, packets: u64) {
        self.drop(reason, packets);
        self.peers.add_unsent(peer, packets);
    }

    /// Counts packets that were read and dropped.
    pub(in crate::dataplane) fn record_dropped(
        &self,
        reason: DropReason,
        packets: usize,
        bytes: usize,
    ) {
        self.packets.add(packets as u64);
        self.bytes.add(bytes as u64);
        self.drop(reason, packets as u64);
    }
}

impl DirectionStats {
    /// Packets dropped, for any reason.
    pub fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }
}
