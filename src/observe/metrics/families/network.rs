//! The other hosts, the routes to them, and the lease store.

use super::samples::*;
use super::{Family, Kind, Samples, Value};

pub(super) fn families() -> Vec<Family> {
    vec![
        Family {
            name: "flannel_udp_peers",
            kind: Kind::Gauge,
            unit: None,
            labels: &[],
            help: "Subnets of other hosts",
            samples: Samples::Of(|s| whole(s.peers.len() as u64)),
        },
        Family {
            name: "flannel_udp_peer_packets",
            kind: Kind::Counter,
            unit: None,
            labels: PEER,
            help: "Inner packets carried to a peer (egress) and from it (ingress)",
            samples: Samples::Of(|s| {
                by_peer(s, |t| [t.sent_packets, t.received_packets].map(|n| Some(Value::Whole(n))))
            }),
        },
        Family {
            name: "flannel_udp_peer",
            kind: Kind::Counter,
            unit: Some("bytes"),
            labels: PEER,
            help: "Bytes of the inner packets carried to a peer and from it",
            samples: Samples::Of(|s| {
                by_peer(s, |t| [t.sent_bytes, t.received_bytes].map(|n| Some(Value::Whole(n))))
            }),
        },
        Family {
            name: "flannel_udp_peer_unsent_packets",
            kind: Kind::Counter,
            unit: None,
            labels: &["peer", "subnet"],
            help: "Inner packets for a peer that this host's kernel did not send: drops with a send- reason",
            samples: Samples::Of(|s| {
                let samples = peers(s).into_iter();
                samples.map(|(peer, t)| sample(peer, Value::Whole(t.unsent_packets))).collect()
            }),
        },
        Family {
            name: "flannel_udp_peer_longest_fragment",
            kind: Kind::Gauge,
            unit: Some("bytes"),
            labels: &["peer", "subnet"],
            help: "Longest fragment in which datagrams of a peer arrived in the last minute; absent while they arrive whole",
            samples: Samples::Of(|s| {
                let samples = peers(s).into_iter();
                samples
                    .filter_map(|(peer, t)| {
                        Some(sample(peer, Value::Whole(t.fragments_of?.into())))
                    })
                    .collect()
            }),
        },
        Family {
            name: "flannel_udp_peer_last_packet_age",
            kind: Kind::Gauge,
            unit: Some("seconds"),
            labels: PEER,
            help: "Time since the last packet to a peer and from it, accurate to two seconds; absent before the first",
            samples: Samples::Of(|s| {
                by_peer(s, |t| {
                    [t.last_sent, t.last_received]
                        .map(|ago| ago.map(|ago| Value::Real(ago.as_secs_f64())))
                })
            }),
        },
        Family {
            name: "flannel_udp_routes",
            kind: Kind::Gauge,
            unit: None,
            labels: &[],
            help: "Routes in the table",
            samples: Samples::Of(|s| whole(s.routes.count)),
        },
        Family {
            name: "flannel_udp_route_table_revision",
            kind: Kind::Gauge,
            unit: None,
            labels: &[],
            help: "Changes of the route table since startup",
            samples: Samples::Of(|s| whole(s.routes.revision)),
        },
        Family {
            name: "flannel_udp_registry_connected",
            kind: Kind::Gauge,
            unit: None,
            labels: &[],
            help: "1 while the watch of the lease store is up, else 0",
            samples: Samples::Of(|s| of(&s.registry, |r| Some(Value::Whole(r.connected.into())))),
        },
        Family {
            name: "flannel_udp_registry_last_contact_age",
            kind: Kind::Gauge,
            unit: Some("seconds"),
            labels: &[],
            help: "Time since the last answer of the lease store; absent before the first",
            samples: Samples::Of(|s| of(&s.registry, |r| r.last_contact_ago.map(Value::Real))),
        },
        Family {
            name: "flannel_udp_registry_revision",
            kind: Kind::Gauge,
            unit: None,
            labels: &[],
            help: "Revision of the lease store that the route table reflects; 0 for a store without revisions",
            samples: Samples::Of(|s| of(&s.registry, |r| Some(Value::Real(r.revision as f64)))),
        },
        Family {
            name: "flannel_udp_registry_watch_restarts",
            kind: Kind::Counter,
            unit: None,
            labels: &[],
            help: "Restarts of the watch of the lease store",
            samples: Samples::Of(|s| of(&s.registry, |r| Some(Value::Whole(r.watch_restarts)))),
        },
        Family {
            name: "flannel_udp_registry_skipped_keys",
            kind: Kind::Gauge,
            unit: None,
            labels: &[],
            help: "Entries of the lease store that are not usable as leases",
            samples: Samples::Of(|s| of(&s.registry, |r| Some(Value::Whole(r.skipped_keys)))),
        },
        Family {
            name: "flannel_udp_lease_held",
            kind: Kind::Gauge,
            unit: None,
            labels: &["subnet"],
            help: "1 while this host holds the lease of its subnet, else 0",
            samples: Samples::Of(|s| {
                let lease = s.lease.iter();
                lease.map(|l| sample([l.subnet.to_string()], Value::Whole(l.held.into()))).collect()
            }),
        },
        Family {
            name: "flannel_udp_lease_expiry_timestamp",
            kind: Kind::Gauge,
            unit: Some("seconds"),
            labels: &[],
            help: "When the lease expires unless it is renewed, in Unix time; absent for a reservation",
            samples: Samples::Of(|s| of(&s.lease, |l| l.expires.map(Value::Real))),
        },
        Family {
            name: "flannel_udp_lease_renewals",
            kind: Kind::Counter,
            unit: None,
            labels: &[],
            help: "Renewals of the lease",
            samples: Samples::Of(|s| of(&s.lease, |l| Some(Value::Whole(l.renewals)))),
        },
    ]
}
