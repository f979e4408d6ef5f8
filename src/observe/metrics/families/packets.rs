//! Packets that the kernel dropped before the daemon could read them.

use super::samples::*;
use super::{Family, Kind, Samples, Value};

pub(super) fn families() -> Vec<Family> {
    vec![Family {
        name: "flannel_udp_kernel_dropped_packets",
        kind: Kind::Counter,
        unit: None,
        labels: &["direction", "queue"],
        help: "Packets that the kernel dropped before the daemon could read them, because a queue was full",
        samples: Samples::Of(|s| {
            vec![
                sample(["egress", "tun"], Value::Whole(s.tun_queue_drops)),
                sample(["ingress", "socket"], Value::Whole(s.stats.socket_overflows)),
            ]
        }),
    }]
}
