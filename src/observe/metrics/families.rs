//! What is told to Prometheus: every family of metrics with its name, its meaning and where its values
//! come from. `docs/monitoring.md` is checked against this list.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::dataplane::counters::{DirectionStats, HistogramStats};
use crate::dataplane::{DropReason, PeerTraffic};
use crate::observe::snapshot::{Snapshot, Thread, unix};

/// A family of metrics.
pub struct Family {
    /// Its name, without the unit and without `_total` or `_info`.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// Its unit, the last part of the name but one.
    pub unit: Option<&'static str>,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
    /// The values.
    pub(super) samples: fn(&Snapshot) -> Vec<Sample>,
}

impl Family {
    /// The name as Prometheus stores it; a histogram's with its three endings.
    pub fn full_name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{unit}")).unwrap_or_default();
        let ending = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge => "",
            Kind::Histogram => "_{bucket,sum,count}",
        };
        format!("{}{unit}{ending}", self.name)
    }
}

/// The kinds of metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows, from the start of the process.
    Counter,
    /// Now.
    Gauge,
    /// How often values of each size were seen.
    Histogram,
    /// Words, as labels of a constant.
    Info,
}

/// One value with its labels.
pub(super) struct Sample {
    pub(super) labels: Vec<Cow<'static, str>>,
    pub(super) value: Value,
}

pub(super) enum Value {
    Whole(u64),
    Real(f64),
    Histogram(HistogramStats),
}

/// All families, in the order in which they are told.
pub static FAMILIES: &[Family] = &[
    Family {
        name: "flannel_udp_build",
        kind: Kind::Info,
        unit: None,
        labels: &["version", "target", "features"],
        help: "The program: version, what it was built for, optional parts",
        samples: |s| {
            let labels =
                [s.build.version.clone(), s.build.target.clone(), s.build.features.join(",")];
            vec![sample(labels, Value::Whole(1))]
        },
    },
    Family {
        name: "flannel_udp_start_timestamp",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        labels: &[],
        help: "When the daemon started, in Unix time",
        samples: |s| real(s.process.started),
    },
    Family {
        name: "flannel_udp_ready",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "1 once packets are carried with the routes of all peers, else 0",
        samples: |s| whole(s.health.ready.into()),
    },
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
    Family {
        name: "flannel_udp_feature_enabled",
        kind: Kind::Gauge,
        unit: None,
        labels: FEATURE,
        help: "1 while a feature of the kernel is in use, else 0",
        samples: |s| by_feature(s, |on, _| on),
    },
    Family {
        name: "flannel_udp_feature_lost",
        kind: Kind::Gauge,
        unit: None,
        labels: FEATURE,
        help: "1 if the kernel refused a feature that was wanted, at the start or later, else 0",
        samples: |s| by_feature(s, |on, why| !on && why != Some("switched off")),
    },
    Family {
        name: "flannel_udp_feature_lost_timestamp",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        labels: FEATURE,
        help: "When the kernel refused a feature, in Unix time; absent for one in use or switched off",
        samples: |s| {
            let lost = s.features.iter().filter_map(|f| Some((f.name.clone(), f.lost?)));
            lost.map(|(name, lost)| sample([name], Value::Real(unix(lost)))).collect()
        },
    },
    Family {
        name: "flannel_udp_thread_busy",
        kind: Kind::Counter,
        unit: Some("seconds"),
        labels: THREAD,
        help: "Time that a thread was awake, carrying packets or looking for them: its rate is from 0 to 1",
        samples: |s| by_thread(s, |t| Value::Real(t.busy)),
    },
    Family {
        name: "flannel_udp_thread_spinning",
        kind: Kind::Counter,
        unit: Some("seconds"),
        labels: THREAD,
        help: "What of that a thread looked for packets before it slept and found none",
        samples: |s| by_thread(s, |t| Value::Real(t.spinning)),
    },
    Family {
        name: "flannel_udp_thread_sleeps",
        kind: Kind::Counter,
        unit: None,
        labels: THREAD,
        help: "Times that a thread went to sleep",
        samples: |s| by_thread(s, |t| Value::Whole(t.sleeps)),
    },
    Family {
        name: "flannel_udp_hand_overs",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "Times that what comes in changed hands between the threads of a worker",
        samples: |s| whole(s.stats.hand_overs),
    },
    Family {
        name: "flannel_udp_thread_spins",
        kind: Kind::Counter,
        unit: None,
        labels: THREAD,
        help: "Times that a thread found nothing and looked again before it slept",
        samples: |s| by_thread(s, |t| Value::Whole(t.spins)),
    },
    Family {
        name: "flannel_udp_peers",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Subnets of other hosts",
        samples: |s| whole(s.peers.len() as u64),
    },
    Family {
        name: "flannel_udp_peer_packets",
        kind: Kind::Counter,
        unit: None,
        labels: PEER,
        help: "Inner packets carried to a peer (egress) and from it (ingress)",
        samples: |s| {
            by_peer(s, |t| [t.sent_packets, t.received_packets].map(|n| Some(Value::Whole(n))))
        },
    },
    Family {
        name: "flannel_udp_peer",
        kind: Kind::Counter,
        unit: Some("bytes"),
        labels: PEER,
        help: "Bytes of the inner packets carried to a peer and from it",
        samples: |s| {
            by_peer(s, |t| [t.sent_bytes, t.received_bytes].map(|n| Some(Value::Whole(n))))
        },
    },
    Family {
        name: "flannel_udp_peer_unsent_packets",
        kind: Kind::Counter,
        unit: None,
        labels: &["peer", "subnet"],
        help: "Inner packets for a peer that this host's kernel did not send: drops for a send- reason",
        samples: |s| {
            let samples = peers(s).into_iter();
            samples.map(|(peer, t)| sample(peer, Value::Whole(t.unsent_packets))).collect()
        },
    },
    Family {
        name: "flannel_udp_peer_last_packet_age",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        labels: PEER,
        help: "Time since the last packet to a peer and from it, to two seconds; absent if none yet",
        samples: |s| {
            by_peer(s, |t| {
                [t.last_sent, t.last_received]
                    .map(|ago| ago.map(|ago| Value::Real(ago.as_secs_f64())))
            })
        },
    },
    Family {
        name: "flannel_udp_routes",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Routes in the table",
        samples: |s| whole(s.routes.count),
    },
    Family {
        name: "flannel_udp_route_table_revision",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Changes that the route table has seen",
        samples: |s| whole(s.routes.revision),
    },
    Family {
        name: "flannel_udp_registry_connected",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "1 while the watch of the lease store is up, else 0",
        samples: |s| of(&s.registry, |r| Some(Value::Whole(r.connected.into()))),
    },
    Family {
        name: "flannel_udp_registry_last_contact_age",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        labels: &[],
        help: "Time since the lease store was last heard of; absent if never",
        samples: |s| of(&s.registry, |r| r.last_contact_ago.map(Value::Real)),
    },
    Family {
        name: "flannel_udp_registry_revision",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Revision of the lease store that is in the route table; 0 where it has none",
        samples: |s| of(&s.registry, |r| Some(Value::Real(r.revision as f64))),
    },
    Family {
        name: "flannel_udp_registry_watch_restarts",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "How often the watch of the lease store had to begin anew",
        samples: |s| of(&s.registry, |r| Some(Value::Whole(r.watch_restarts))),
    },
    Family {
        name: "flannel_udp_registry_skipped_keys",
        kind: Kind::Gauge,
        unit: None,
        labels: &[],
        help: "Entries of the lease store that are no usable leases",
        samples: |s| of(&s.registry, |r| Some(Value::Whole(r.skipped_keys))),
    },
    Family {
        name: "flannel_udp_lease_held",
        kind: Kind::Gauge,
        unit: None,
        labels: &["subnet"],
        help: "1 while the lease of this host's subnet is known to be its own, else 0",
        samples: |s| {
            let lease = s.lease.iter();
            lease.map(|l| sample([l.subnet.to_string()], Value::Whole(l.held.into()))).collect()
        },
    },
    Family {
        name: "flannel_udp_lease_expiry_timestamp",
        kind: Kind::Gauge,
        unit: Some("seconds"),
        labels: &[],
        help: "When the lease expires if it is not renewed, in Unix time; absent for a reservation",
        samples: |s| of(&s.lease, |l| l.expires.map(Value::Real)),
    },
    Family {
        name: "flannel_udp_lease_renewals",
        kind: Kind::Counter,
        unit: None,
        labels: &[],
        help: "How often the lease has been renewed",
        samples: |s| of(&s.lease, |l| Some(Value::Whole(l.renewals))),
    },
];

const DIRECTION: &[&str] = &["direction"];
/// A peer's address and its subnets; most have one.
const PEER: &[&str] = &["peer", "subnet", "direction"];
const FEATURE: &[&str] = &["feature"];
const THREAD: &[&str] = &["thread"];

fn sample<L: Into<Cow<'static, str>>>(labels: impl IntoIterator<Item = L>, value: Value) -> Sample {
    Sample { labels: labels.into_iter().map(Into::into).collect(), value }
}

fn bare(value: Value) -> Vec<Sample> {
    vec![Sample { labels: vec![], value }]
}

fn whole(value: u64) -> Vec<Sample> {
    bare(Value::Whole(value))
}

fn real(value: f64) -> Vec<Sample> {
    bare(Value::Real(value))
}

/// The value of a part that may not be there yet.
fn of<T>(part: &Option<T>, value: fn(&T) -> Option<Value>) -> Vec<Sample> {
    part.as_ref().and_then(value).map(bare).unwrap_or_default()
}

fn directions(snapshot: &Snapshot) -> [(&'static str, &DirectionStats); 2] {
    [("egress", &snapshot.stats.egress), ("ingress", &snapshot.stats.ingress)]
}

fn by_direction(snapshot: &Snapshot, value: fn(&DirectionStats) -> Value) -> Vec<Sample> {
    directions(snapshot).into_iter().map(|(name, stats)| sample([name], value(stats))).collect()
}

/// The side where packets come in, and the one where they go out.
fn by_side(snapshot: &Snapshot, values: fn(&DirectionStats) -> [Value; 2]) -> Vec<Sample> {
    let samples = directions(snapshot).into_iter().flat_map(|(name, stats)| {
        ["in", "out"].into_iter().zip(values(stats)).map(move |(side, v)| sample([name, side], v))
    });
    samples.collect()
}

/// Every reason, whether it has occurred or not, so that a rate is there from the first time on.
fn drops(snapshot: &Snapshot) -> Vec<Sample> {
    let samples = directions(snapshot).into_iter().flat_map(|(direction, stats)| {
        let known: BTreeMap<_, _> = DropReason::ALL.iter().map(|r| (r.name(), 0)).collect();
        let counted = stats.drops.iter().map(|(name, count)| (name.as_ref(), *count));
        let all: BTreeMap<&str, u64> = known.into_iter().chain(counted).collect();
        let samples = all.into_iter().map(|(reason, count)| {
            sample([direction.to_owned(), reason.to_owned()], Value::Whole(count))
        });
        samples.collect::<Vec<_>>()
    });
    samples.collect()
}

fn by_feature(snapshot: &Snapshot, value: fn(bool, Option<&str>) -> bool) -> Vec<Sample> {
    let samples = snapshot.features.iter().map(|feature| {
        let value = value(feature.on, feature.why.as_deref());
        sample([feature.name.clone()], Value::Whole(value.into()))
    });
    samples.collect()
}

fn by_thread(snapshot: &Snapshot, value: fn(&Thread) -> Value) -> Vec<Sample> {
    snapshot.threads.iter().map(|t| sample([t.name.clone()], value(t))).collect()
}

/// Of each peer, to it and from it.
fn by_peer(snapshot: &Snapshot, values: fn(&PeerTraffic) -> [Option<Value>; 2]) -> Vec<Sample> {
    let samples = peers(snapshot).into_iter().flat_map(|([address, subnet], traffic)| {
        let directions = ["egress", "ingress"].into_iter().zip(values(traffic));
        directions.filter_map(move |(direction, value)| {
            Some(sample([address.clone(), subnet.clone(), direction.to_owned()], value?))
        })
    });
    samples.collect()
}

/// Each peer with its address and its subnets.
fn peers(snapshot: &Snapshot) -> Vec<([String; 2], &PeerTraffic)> {
    let mut subnets: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
    for peer in &snapshot.peers {
        let list = subnets.entry(peer.public_ip).or_default();
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&peer.subnet.to_string());
    }
    let labels = |traffic: &PeerTraffic| {
        let subnet = subnets.get(&traffic.address).cloned().unwrap_or_default();
        [traffic.address.to_string(), subnet]
    };
    snapshot.traffic.iter().map(|traffic| (labels(traffic), traffic)).collect()
}
