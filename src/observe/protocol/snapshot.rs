//! The state of a running daemon at one moment.
//!
//! It is the answer to `status` and the source of the metrics. A field that is missing in JSON has its
//! default, so that a client and a daemon of different versions understand each other. Durations are
//! in seconds, points in time in seconds of Unix time.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub use super::store_address::StoreAddress;
use crate::confine::Confinement;
use crate::dataplane::counters::ThreadStats;
use crate::dataplane::{FeatureState, OtherTraffic, PeerTraffic, RecentMismatch, Stats};
use crate::observe::warnings::{Warning, WarningKind, send_refused};
use crate::route::Cidr;

/// The daemon at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// When the snapshot was taken.
    pub taken: f64,
    /// The program.
    pub build: Build,
    /// The process.
    pub process: Process,
    /// Whether the daemon carries packets with the routes of all peers, and what is missing.
    pub health: Health,
    /// What needs attention, the oldest first.
    pub warnings: Vec<Warning>,
    /// The interface to the other hosts; `None` until it is chosen.
    pub underlay: Option<Underlay>,
    /// The TUN device; `None` until it is made.
    pub overlay: Option<Overlay>,
    /// The subnet of this host; `None` until it is acquired.
    pub lease: Option<Lease>,
    /// The daemon's settings for the lease store.
    pub store: Option<StoreAddress>,
    /// The lease store; `None` during the first steps of the start.
    pub registry: Option<StoreState>,
    /// State of every kernel feature.
    pub features: Vec<FeatureState>,
    /// Privileges and access that the process has given up.
    pub confinement: Confinement,
    /// The threads that carry packets.
    pub threads: Vec<Thread>,
    /// All counters since the start of the process.
    pub stats: Stats,
    /// Packets that the kernel dropped because the TUN device's queue was full.
    pub tun_queue_drops: u64,
    /// The route table.
    pub routes: Routes,
    /// The other hosts, by subnet.
    pub peers: Vec<Peer>,
    /// Traffic to and from each peer, by address.
    pub traffic: Vec<PeerTraffic>,
    /// Traffic that is attributed to none of the peers.
    pub other_traffic: OtherTraffic,
    /// Senders that failed a check of inner addresses, the latest first.
    pub mismatches: Vec<RecentMismatch>,
}

/// The program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// Its version.
    pub version: String,
    /// Operating system and architecture of the build, such as `linux/x86_64`.
    pub target: String,
    /// Cargo features of the build.
    pub features: Vec<String>,
}

/// The process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Process ID.
    pub pid: u32,
    /// Name of the host.
    pub host: String,
    /// Fingerprint by which the host recognizes its leases, six hexadecimal digits.
    pub instance: String,
    /// When it started.
    pub started: f64,
    /// How long it has been running.
    pub uptime: f64,
    /// The filter of the log.
    pub log_level: String,
    /// Lines of the log that were lost because nobody read them or they could not be written.
    pub log_lines_lost: u64,
}

/// Readiness and liveness of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Everything is set up and every peer has its route.
    pub ready: bool,
    /// What the daemon is waiting for while it is not ready.
    pub missing: Option<String>,
    /// Threads whose heartbeat is overdue.
    pub late: Vec<String>,
}

/// The interface between hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underlay {
    /// Name of the interface.
    pub interface: String,
    /// Its index.
    pub index: u32,
    /// The address that the socket is bound to.
    pub address: Ipv4Addr,
    /// The address that other hosts send to.
    pub public_ip: Ipv4Addr,
    /// UDP port, the same on all hosts.
    pub port: u16,
    /// MTU of the interface.
    pub mtu: u32,
    /// Why this interface was chosen.
    pub reason: String,
}

/// The TUN device and the overlay network behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Name of the device.
    pub device: String,
    /// Its address, the network address of the subnet.
    pub address: Ipv4Addr,
    /// The whole overlay network.
    pub network: Cidr,
    /// MTU of the device: length of the longest inner packet, in bytes.
    pub mtu: u16,
    /// Whether packets are being carried. False while the device is being made again.
    pub carrying: bool,
    /// Mode of the check of inner sources.
    pub source_check: String,
    /// Mode of the check of inner destinations.
    pub destination_check: String,
    /// Whether traffic that leaves the overlay is masqueraded.
    pub masquerade: bool,
}

/// The subnet of this host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// The subnet.
    pub subnet: Cidr,
    /// Whether this host holds the lease. False while it is contested or being acquired again.
    pub held: bool,
    /// When the lease expires unless it is renewed; `None` for a reservation.
    pub expires: Option<f64>,
    /// Number of renewals.
    pub renewals: u64,
}

/// The lease store, and how recent the daemon's copy of it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreState {
    /// Description of the store.
    pub store: String,
    /// Whether the watch is up.
    pub connected: bool,
    /// Whether a full list of peers has reached the route table.
    pub synced: bool,
    /// Time since the store's last answer; `None` if it never answered.
    pub last_contact_ago: Option<f64>,
    /// Revision of the store that the route table has; 0 for a store without revisions.
    pub revision: i64,
    /// Number of times that the watch was restarted.
    pub watch_restarts: u64,
    /// Number of entries that are currently not usable as leases.
    pub skipped_keys: u64,
    /// The latest error, even if it is long over.
    pub last_error: Option<String>,
}

/// A thread that carries packets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// Time awake: carrying packets, or polling for more before it sleeps.
    pub busy: f64,
    /// The part of `busy` that was spent polling without finding a packet.
    pub spinning: f64,
    /// Age of the thread.
    pub lifetime: f64,
    /// Counters of its sleeps, polls and handoffs.
    #[serde(flatten)]
    pub counters: ThreadStats,
    /// Packets taken in, both directions.
    pub packets: u64,
}

/// The route table as the threads read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Routes {
    /// Number of routes.
    pub count: u64,
    /// Number of changes since the start.
    pub revision: u64,
}

/// Another host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its subnet.
    pub subnet: Cidr,
    /// Underlay address that packets for the peer are sent to.
    pub public_ip: Ipv4Addr,
    /// The next hop, `address:port`, that the route table gives for the first address of the subnet.
    pub next_hop: Option<String>,
    /// The last component of its key in the store.
    pub key: String,
    /// Whether its lease is a reservation, which never expires.
    pub reservation: bool,
}

impl Snapshot {
    /// Whether a firewall of this host refuses the datagrams to the host with this address.
    pub fn is_send_refused(&self, peer: Ipv4Addr) -> bool {
        let refused = WarningKind::SendRefused.name();
        let mut warnings = self.warnings.iter().filter(|warning| warning.kind == refused);
        warnings.any(|warning| warning.text == send_refused(peer))
    }

    /// Senders that failed a check of inner addresses in the last ten minutes, the latest first.
    pub fn recent_mismatches(&self) -> impl Iterator<Item = &RecentMismatch> {
        self.mismatches.iter().filter(|mismatch| mismatch.last_ago < RECENT)
    }
}

impl Build {
    /// This program.
    pub fn current() -> Self {
        let features = [("harden", cfg!(feature = "harden")), ("top", cfg!(feature = "top"))];
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            target: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
            features: features
                .into_iter()
                .filter(|(_, on)| *on)
                .map(|(name, _)| name.into())
                .collect(),
        }
    }
}

/// A point in time, in seconds of Unix time.
pub fn unix(time: SystemTime) -> f64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}

/// Seconds for which a sender that failed a check is recent.
const RECENT: f64 = 600.0;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use serde_json::Value;

    use super::*;

    #[test]
    fn a_field_of_another_version_has_its_default() {
        let snapshot: Snapshot = serde_json::from_str(
            r#"{"build":{"version":"9"},"stats":{"egress":{"packets":3}},"threads":[{"name":"x"}],
                "brand":"new"}"#,
        )
        .unwrap();
        assert_eq!(snapshot.build.version, "9");
        assert_eq!(snapshot.stats.egress.packets, 3);
        assert_eq!(snapshot.peers, []);
    }

    /// Appends the path of every field below `value`, such as `threads[].name`.
    fn paths(value: &Value, path: &str, all: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                paths(value, &path, all);
                all.insert(path);
            }),
            Value::Array(values) => {
                values.iter().for_each(|value| paths(value, &format!("{path}[]"), all));
            }
            _ => {}
        }
    }

    /// Scripts of users depend on these names: a field may be added, none may be renamed.
    #[test]
    fn published_names_stay() {
        let json = |value: &str| serde_json::from_str::<Value>(value).unwrap();
        let prefix = "10.0.7.0/24";
        let snapshot = Snapshot {
            underlay: Some(Underlay {
                interface: "eth0".into(),
                index: 2,
                address: [192, 0, 2, 1].into(),
                public_ip: [192, 0, 2, 1].into(),
                port: 8285,
                mtu: 1500,
                reason: "default route".into(),
            }),
            overlay: Some(Overlay {
                device: "flannel0".into(),
                address: [10, 0, 7, 0].into(),
                network: prefix.parse().unwrap(),
                mtu: 1472,
                carrying: true,
                source_check: "off".into(),
                destination_check: "off".into(),
                masquerade: false,
            }),
            lease: Some(Lease {
                subnet: prefix.parse().unwrap(),
                held: true,
                expires: None,
                renewals: 0,
            }),
            registry: Some(StoreState::default()),
            store: Some(StoreAddress::default()),
            features: serde_json::from_value(json(
                r#"[{"name":"gso","on":true,"why":null,"lost":null}]"#,
            ))
            .unwrap(),
            confinement: serde_json::from_value(json(
                r#"{"layers":[{"name":"seccomp","on":true,"note":""}]}"#,
            ))
            .unwrap(),
            warnings: serde_json::from_value(json(
                r#"[{"kind":"route-conflict","text":"","remedy":null,"not_ready":false,"since":0}]"#,
            ))
            .unwrap(),
            threads: vec![Thread::default()],
            peers: vec![Peer {
                subnet: prefix.parse().unwrap(),
                public_ip: [192, 0, 2, 2].into(),
                next_hop: None,
                key: String::new(),
                reservation: false,
            }],
            traffic: serde_json::from_value(json(
                r#"[{"address":"192.0.2.2","sent_packets":0,"sent_bytes":0,"received_packets":0,
                     "received_bytes":0,"last_sent":null,"last_received":null}]"#,
            ))
            .unwrap(),
            mismatches: serde_json::from_value(json(
                r#"[{"check":"source","source":"10.0.9.2","destination":"10.0.7.2",
                     "sender":"192.0.2.2:8285","holder":null,"dropped":true,"reports":1,
                     "last_ago":0.5}]"#,
            ))
            .unwrap(),
            ..Snapshot::default()
        };
        let mut names = BTreeSet::new();
        paths(&serde_json::to_value(&snapshot).unwrap(), "", &mut names);
        for name in include_str!("../../../tests/data/status-fields.txt").lines() {
            assert!(names.contains(name), "the field {name} is missing");
        }
    }

    #[test]
    fn snapshots_round_trip_through_json() {
        // Read without serde_json's `float_roundtrip`, one of eight moments comes back as the
        // floating-point number beside it.
        for step in 0..1000 {
            let now = SystemTime::UNIX_EPOCH + Duration::new(1_795_000_000, step * 999_983);
            let snapshot = Snapshot {
                build: Build::current(),
                lease: Some(Lease {
                    subnet: "10.0.7.0/24".parse().unwrap(),
                    held: true,
                    expires: Some(unix(now)),
                    renewals: 1,
                }),
                ..Snapshot::default()
            };
            let text = serde_json::to_string(&snapshot).unwrap();
            assert!(text.contains(r#""subnet":"10.0.7.0/24""#), "{text}");
            assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), snapshot);
        }
    }
}
