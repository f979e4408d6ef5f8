//! Packets by direction: what became of them, and how many one system call moved.

use super::samples::*;
use super::{Family, Kind, Value};

pub(super) static PACKETS: &[Family] = &[
    Family {
        name: "flannel_udp_packets",
        kind: Kind::Counter,
        unit: None,
        labels: DIRECTION,
        help: "Inner packets taken in: carried or dropped",
        samples: |s| by_direction(s, |d| Value::Whole(d.packets)),
    },
    Family {
        name: "flannel_udp",
        kind: Kind::Counter,
        unit: Some("bytes"),
        labels: DIRECTION,
        help: "Bytes of the inner packets taken in",
        samples: |s| by_direction(s, |d| Value::Whole(d.bytes)),
    },
    Family {
        name: "flannel_udp_carried_packets",
        kind: Kind::Counter,
        unit: None,
        labels: DIRECTION,
        help: "Inner packets carried: sent to a peer, or delivered to the TUN device",
        samples: |s| by_direction(s, |d| Value::Whole(d.carried_packets)),
    },
    Family {
        name: "flannel_udp_carried",
        kind: Kind::Counter,
        unit: Some("bytes"),
        labels: DIRECTION,
        help: "Bytes of the inner packets carried",
        samples: |s| by_direction(s, |d| Value::Whole(d.carried_bytes)),
    },
    Family {
        name: "flannel_udp_dropped_packets",
        kind: Kind::Counter,
        unit: None,
        labels: &["direction", "reason"],
        help: "Inner packets taken in and not carried, by reason",
        samples: drops,
    },
    Family {
        name: "flannel_udp_kernel_dropped_packets",
        kind: Kind::Counter,
        unit: None,
        labels: &["direction", "queue"],
        help: "Packets that the kernel dropped before the daemon could take them: the queue was full",
        samples: |s| {
            vec![
                sample(["egress", "tun"], Value::Whole(s.tun_queue_drops)),
                sample(["ingress", "socket"], Value::Whole(s.stats.socket_overflows)),
            ]
        },
    },
    Family {
        name: "flannel_udp_source_mismatches",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Packets whose inner source is not in the lease of the host that sent them, dropped or not",
        samples: |s| whole(s.stats.ingress.source_mismatches),
    },
    Family {
        name: "flannel_udp_destination_mismatches",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Packets whose inner destination is not in this host's subnet, dropped or not",
        samples: |s| whole(s.stats.ingress.destination_mismatches),
    },
    Family {
        name: "flannel_udp_source_grace_packets",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Packets carried although their source is in no lease: their host's may be on its way",
        samples: |s| whole(s.stats.ingress.source_grace),
    },
    Family {
        name: "flannel_udp_untold_mismatches",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Mismatches that the log and the status do not name, because there were too many at once",
        samples: |s| whole(s.stats.ingress.mismatches_untold),
    },
    Family {
        name: "flannel_udp_uncut_runs",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Runs of datagrams that the kernel would not cut and that were sent again one by one",
        samples: |s| whole(s.stats.egress.uncut),
    },
    Family {
        name: "flannel_udp_icmp_errors",
        kind: Kind::Counter,
        unit: None,
        labels: DIRECTION,
        help: "ICMP errors sent back to senders of dropped packets",
        samples: |s| by_direction(s, |d| Value::Whole(d.icmp)),
    },
    Family {
        name: "flannel_udp_icmp_errors_limited",
        kind: Kind::Counter,
        unit: None,
        labels: DIRECTION,
        help: "ICMP errors held back by the rate limit",
        samples: |s| by_direction(s, |d| Value::Whole(d.icmp_limited)),
    },
    Family {
        name: "flannel_udp_system_calls",
        kind: Kind::Counter,
        unit: None,
        labels: &["direction", "side"],
        help: "System calls that took packets in and that put packets out",
        samples: |s| by_side(s, |d| [Value::Whole(d.in_calls), Value::Whole(d.out_calls)]),
    },
    Family {
        name: "flannel_udp_batch_packets",
        kind: Kind::Histogram,
        unit: None,
        labels: DIRECTION,
        help: "Inner packets carried in one visit of a thread",
        samples: |s| by_direction(s, |d| Value::Histogram(d.batch.clone())),
    },
    Family {
        name: "flannel_udp_socket_call_packets",
        kind: Kind::Histogram,
        unit: None,
        labels: DIRECTION,
        help: "Inner packets in one system call of the UDP socket: sent (egress) or received (ingress)",
        samples: |s| by_direction(s, |d| Value::Histogram(d.socket_call_packets.clone())),
    },
    Family {
        name: "flannel_udp_unit_packets",
        kind: Kind::Histogram,
        unit: None,
        labels: &["direction", "side"],
        help: "Inner packets in one unit: a packet or super-packet of the TUN device, or a UDP message",
        samples: |s| {
            by_side(s, |d| {
                [&d.in_unit_packets, &d.out_unit_packets].map(|h| Value::Histogram(h.clone()))
            })
        },
    },
];
