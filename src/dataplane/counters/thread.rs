//! What is counted of one thread.

use super::by_peer::PeerCounters;
use super::declare::counters;
use super::metric::{Metric, Unit};
use super::{BusyClock, Counter, DirectionCounters};

counters! {
    /// Counters of one thread.
    pub struct ThreadCounters, summed in ThreadStats {
        /// Times the thread went to sleep.
        sleeps: Counter => Metric::of_threads(
            "flannel_udp_thread_sleeps",
            "Times that a thread went to sleep",
        ),
        /// Nanoseconds asleep.
        asleep_nanos: Counter,
        /// Rounds that found nothing and looked again instead of going to sleep.
        spins: Counter => Metric::of_threads(
            "flannel_udp_thread_spins",
            "Times that a thread found nothing and looked again before it slept",
        ),
        /// Nanoseconds between such rounds.
        spinning_nanos: Counter => Metric::of_threads(
            "flannel_udp_thread_spinning",
            "What of that a thread looked for packets before it slept and found none",
        ).unit(Unit::Seconds),
        /// Times the thread handed the ingress half of its worker to the other thread.
        hand_overs: Counter => Metric::of_process(
            "flannel_udp_hand_overs",
            "Times that what comes in changed hands between the threads of a worker",
        ),
    }
    and {
        /// From the TUN device to UDP.
        pub egress: DirectionCounters,
        /// From UDP to the TUN device.
        pub ingress: DirectionCounters,
        /// Rounds of the thread's loop: it lives while this moves after a wake-up.
        pub rounds: Counter,
        /// Time awake.
        pub busy: BusyClock,
    }
}

impl ThreadCounters {
    /// Counters of a thread that works in these directions; what it carries in the other has no
    /// room for peers.
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
