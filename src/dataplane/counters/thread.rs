//! Counters of one thread.

use super::by_peer::PeerCounters;
use super::declare::counters;
use super::metric::{Metric, Unit};
use super::{BusyClock, Counter, DirectionCounters};

counters! {
    /// Counters of one thread.
    pub struct ThreadCounters, summed in ThreadStats {
        /// Times that the thread went to sleep.
        sleeps: Counter => Metric::of_threads(
            "flannel_udp_thread_sleeps",
            "Times that a thread went to sleep",
        ),
        /// Nanoseconds asleep.
        asleep_nanos: Counter,
        /// Rounds that found no packet, after which the thread polled again instead of going to sleep.
        spins: Counter => Metric::of_threads(
            "flannel_udp_thread_spins",
            "Times that a thread found no packet and polled again before it slept",
        ),
        /// Nanoseconds spent in such rounds.
        spinning_nanos: Counter => Metric::of_threads(
            "flannel_udp_thread_spinning",
            "Part of a thread's busy time that it spent polling without finding a packet",
        ).unit(Unit::Seconds),
        /// Times that the thread handed the ingress half of its worker to the other thread.
        handoffs: Counter => Metric::of_process(
            "flannel_udp_handoffs",
            "Handoffs of the ingress half between the two threads of a worker",
        ),
    }
    and {
        /// From the TUN device to UDP.
        pub egress: DirectionCounters,
        /// From UDP to the TUN device.
        pub ingress: DirectionCounters,
        /// Rounds of the thread's loop. After a wake-up the number grows, or the thread is stuck.
        pub rounds: Counter,
        /// Time awake.
        pub busy: BusyClock,
    }
}

impl ThreadCounters {
    /// Counters of a thread that works in these directions; in the other direction nothing is counted
    /// per peer.
    pub(in crate::dataplane) fn new(egress: bool, ingress: bool) -> Self {
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
