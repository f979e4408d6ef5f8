use super::*;
use crate::dataplane::counters::ThreadStats;
use crate::dataplane::{DropReason, FeatureState, PeerTraffic, Stats};
use crate::observe::protocol::snapshot::{Build, Lease, Peer, StoreState as Store, Thread};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

fn snapshot() -> Snapshot {
    let mut stats = Stats { socket_overflows: 7, ..Stats::default() };
    stats.egress.packets = 12;
    stats.egress.drops.insert("no-route".into(), 3);
    stats.ingress.batch.buckets = [1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 4];
    stats.ingress.batch.sum = 5000;
    Snapshot {
        build: Build::current(),
        stats,
        features: vec![
            FeatureState {
                name: "gso".into(),
                on: false,
                why: Some("EIO".into()),
                lost: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
            },
            FeatureState {
                name: "gro".into(),
                on: false,
                why: Some("switched off".into()),
                lost: None,
            },
        ],
        threads: vec![Thread {
            name: "egress-0".into(),
            busy: 1.5,
            counters: ThreadStats { spinning_nanos: 500_000_000, ..ThreadStats::default() },
            ..Thread::default()
        }],
        lease: Some(Lease {
            subnet: "10.0.7.0/24".parse().unwrap(),
            held: true,
            expires: Some(1_800_000_000.5),
            renewals: 2,
        }),
        peers: ["10.0.8.0/24", "10.0.9.0/24"]
            .map(|subnet| Peer {
                subnet: subnet.parse().unwrap(),
                public_ip: [10, 9, 0, 2].into(),
                next_hop: None,
                key: String::new(),
                reservation: false,
            })
            .into(),
        traffic: vec![PeerTraffic {
            address: [10, 9, 0, 2].into(),
            sent_packets: 5,
            sent_bytes: 500,
            received_packets: 0,
            received_bytes: 0,
            unsent_packets: 3,
            fragments_of: Some(1_396),
            last_sent: Some(Duration::from_millis(1500)),
            last_received: None,
        }],
        registry: Some(Store { last_contact_ago: Some(0.25), ..Store::default() }),
        ..Snapshot::default()
    }
}

fn text(snapshot: Snapshot) -> String {
    String::from_utf8(encode(snapshot).into()).unwrap()
}

#[test]
fn a_scrape_reads_as_openmetrics() {
    let text = text(snapshot());
    for line in [
        "# TYPE flannel_udp_packets counter",
        "flannel_udp_packets_total{direction=\"egress\"} 12",
        "# UNIT flannel_udp_bytes bytes",
        "flannel_udp_bytes_total{direction=\"ingress\"} 0",
        "flannel_udp_dropped_packets_total{direction=\"egress\",reason=\"no-route\"} 3",
        "flannel_udp_kernel_dropped_packets_total{direction=\"ingress\",queue=\"socket\"} 7",
        "flannel_udp_batch_packets_bucket{le=\"4.0\",direction=\"ingress\"} 3",
        "flannel_udp_batch_packets_bucket{le=\"+Inf\",direction=\"ingress\"} 7",
        "flannel_udp_batch_packets_sum{direction=\"ingress\"} 5000.0",
        "flannel_udp_batch_packets_count{direction=\"ingress\"} 7",
        "flannel_udp_peer_packets_total{peer=\"10.9.0.2\",subnet=\"10.0.8.0/24,10.0.9.0/24\",\
         direction=\"egress\"} 5",
        "flannel_udp_peer_last_packet_age_seconds{peer=\"10.9.0.2\",\
         subnet=\"10.0.8.0/24,10.0.9.0/24\",direction=\"egress\"} 1.5",
        "flannel_udp_peer_unsent_packets_total{peer=\"10.9.0.2\",\
         subnet=\"10.0.8.0/24,10.0.9.0/24\"} 3",
        "flannel_udp_peer_longest_fragment_bytes{peer=\"10.9.0.2\",\
         subnet=\"10.0.8.0/24,10.0.9.0/24\"} 1396",
        "flannel_udp_feature_lost{feature=\"gso\"} 1",
        "flannel_udp_feature_lost{feature=\"gro\"} 0",
        "flannel_udp_feature_lost_timestamp_seconds{feature=\"gso\"} 1700000000.0",
        "flannel_udp_thread_spinning_seconds_total{thread=\"egress-0\"} 0.5",
        "flannel_udp_thread_busy_seconds_total{thread=\"egress-0\"} 1.5",
        "flannel_udp_lease_expiry_timestamp_seconds 1800000000.5",
        "flannel_udp_registry_last_contact_age_seconds 0.25",
        "flannel_udp_lease_held{subnet=\"10.0.7.0/24\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    }
    assert!(text.contains("flannel_udp_build_info{version=\""), "{text}");
    assert!(!text.contains("lost_timestamp_seconds{feature=\"gro\"}"), "{text}");
    let none = "flannel_udp_peer_last_packet_age_seconds{peer=\"10.9.0.2\"";
    assert_eq!(text.lines().filter(|l| l.starts_with(none)).count(), 1, "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn every_drop_reason_is_exported_from_the_start() {
    let text = text(Snapshot::default());
    for reason in DropReason::ALL {
        for direction in ["egress", "ingress"] {
            let line = format!(
                "flannel_udp_dropped_packets_total{{direction=\"{direction}\",reason=\"{}\"}} 0",
                reason.name()
            );
            assert!(text.lines().any(|l| l == line), "no {line}");
        }
    }
}

#[test]
fn names_follow_the_rules() {
    let mut seen = BTreeSet::new();
    for family in families() {
        let name = family.full_name();
        assert!(name.starts_with("flannel_udp_"), "{name}");
        assert!(seen.insert(name.clone()), "{name} twice");
        assert!(!family.name.ends_with("_total") && !family.help.ends_with('.'), "{name}");
    }
}

/// Dashboards and alerts of users depend on these names: a family may be added, none may be renamed.
#[test]
fn published_names_stay() {
    let names: BTreeSet<_> = families().map(Family::full_name).collect();
    for name in include_str!("../../../tests/data/metric-names.txt").lines() {
        assert!(names.contains(name), "the metric {name} is missing");
    }
}

/// The table of `docs/monitoring.md` is the list of families.
#[test]
fn the_document_lists_every_metric() {
    let document = include_str!("../../../docs/monitoring.md");
    let mut table = "| metric | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for family in families() {
        let kind = format!("{:?}", family.kind).to_ascii_lowercase();
        let labels = family.labels.join(", ");
        let _ =
            writeln!(table, "| `{}` | {kind} | {labels} | {} |", family.full_name(), family.help);
    }
    assert!(document.contains(&table), "docs/monitoring.md should have this table:\n{table}");
}
