//! A peer, the traffic to and from it, and the state of the path to it.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::host_names::HostNames;
use crate::cli::samples::Samples;
use crate::dataplane::PeerTraffic;
use crate::humanize;
use crate::observe::protocol::snapshot::{Peer, Snapshot};

/// One lease of a peer. Traffic is counted per host: each lease of a host shows all of the host's traffic.
pub(super) struct PeerRow<'a> {
    pub(super) peer: &'a Peer,
    pub(super) traffic: Option<&'a PeerTraffic>,
    pub(super) rates: Option<Rates>,
    /// The name of the host, if it has one and it may be looked up.
    pub(super) name: Option<&'a str>,
    /// Whether a firewall of this host refuses the datagrams.
    refused: bool,
}

/// Traffic per second.
#[derive(Clone, Copy)]
pub(super) struct Rates {
    pub(super) sent_packets: f64,
    pub(super) sent_bytes: f64,
    pub(super) received_packets: f64,
    pub(super) received_bytes: f64,
    pub(super) unsent_packets: f64,
}

/// The state of the path to a peer, as far as the counters show it. The tunnel has no protocol of its own, so
/// loss beyond this host is only visible as silence; `doctor` sends probes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cli) enum PathState {
    /// Packets are received from the peer.
    Talking,
    /// A firewall of this host refuses the datagrams.
    Refused,
    /// Packets are sent, and none was received for some time.
    Silent,
    /// No packets are sent.
    Idle,
}

impl PathState {
    /// The state of the path to the host with this traffic.
    pub(in crate::cli) fn of(traffic: &PeerTraffic) -> Self {
        let recent = |ago: Option<Duration>| ago.is_some_and(|ago| ago < RECENT);
        match (recent(traffic.last_sent), recent(traffic.last_received)) {
            (_, true) => Self::Talking,
            (true, false) => Self::Silent,
            (false, false) => Self::Idle,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Talking => "talking",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Idle => "idle",
        }
    }

    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Talking => "talking",
            Self::Refused => "REFUSED: this host's own firewall drops the datagrams",
            Self::Silent => "SILENT: packets are sent, none are received",
            Self::Idle => "idle",
        }
    }
}

/// The peers of the second snapshot, by subnet.
pub(super) fn rows<'a>(samples: &'a Samples, names: &'a HostNames) -> Vec<PeerRow<'a>> {
    let by_address = |snapshot: &'_ Snapshot| -> HashMap<Ipv4Addr, usize> {
        snapshot.traffic.iter().enumerate().map(|(at, traffic)| (traffic.address, at)).collect()
    };
    let now = by_address(&samples.now);
    let earlier = samples.before.as_ref().map(|before| (before, by_address(before)));
    let rows = samples.now.peers.iter().map(|peer| {
        let traffic = now.get(&peer.public_ip).map(|&at| &samples.now.traffic[at]);
        let before = earlier.as_ref().and_then(|(snapshot, index)| {
            index.get(&peer.public_ip).map(|&at| &snapshot.traffic[at])
        });
        let rates = traffic.zip(samples.seconds()).map(|(traffic, seconds)| {
            let rate = |counter: fn(&PeerTraffic) -> u64| {
                let before = before.map_or(0, counter);
                counter(traffic).saturating_sub(before) as f64 / seconds
            };
            Rates {
                sent_packets: rate(|t| t.sent_packets),
                sent_bytes: rate(|t| t.sent_bytes),
                received_packets: rate(|t| t.received_packets),
                received_bytes: rate(|t| t.received_bytes),
                unsent_packets: rate(|t| t.unsent_packets),
            }
        });
        let refused = samples.now.is_send_refused(peer.public_ip);
        PeerRow { peer, traffic, rates, name: names.name(peer.public_ip), refused }
    });
    rows.collect()
}

impl PeerRow<'_> {
    pub(super) fn state(&self) -> PathState {
        if self.refused {
            return PathState::Refused;
        }
        self.traffic.map_or(PathState::Idle, PathState::of)
    }

    /// Packets that the kernel did not send, and their share of all packets to the peer.
    pub(super) fn unsent(&self) -> String {
        let Some(traffic) = self.traffic.filter(|traffic| traffic.unsent_packets > 0) else {
            return "0".into();
        };
        let percent = 100.0 * traffic.send_loss().unwrap_or_default();
        format!("{} ({percent:.1} %)", humanize::count(traffic.unsent_packets))
    }

    pub(super) fn json(&self) -> Value {
        let rates = self.rates.map(|rates| {
            json!({
                "sent_packets": rates.sent_packets,
                "sent_bytes": rates.sent_bytes,
                "received_packets": rates.received_packets,
                "received_bytes": rates.received_bytes,
                "unsent_packets": rates.unsent_packets,
            })
        });
        json!({
            "subnet": self.peer.subnet,
            "public_ip": self.peer.public_ip,
            "name": self.name,
            "key": self.peer.key,
            "reservation": self.peer.reservation,
            "state": self.state().name(),
            "traffic": self.traffic,
            "send_loss": self.traffic.and_then(PeerTraffic::send_loss),
            "rates": rates,
        })
    }
}

/// Age up to which a packet counts as recent: longer than the first retransmissions of TCP take (RFC 6298: 1, 2,
/// 4 s).
pub(in crate::cli) const RECENT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::protocol::snapshot::Process;

    fn snapshot(uptime: f64, sent: u64, last_received: Option<u64>) -> Snapshot {
        Snapshot {
            process: Process { uptime, ..Process::default() },
            peers: vec![Peer {
                subnet: "10.0.8.0/24".parse().unwrap(),
                public_ip: [10, 9, 0, 2].into(),
                next_hop: None,
                key: "10.0.8.0-24".into(),
                reservation: false,
            }],
            traffic: vec![PeerTraffic {
                address: [10, 9, 0, 2].into(),
                sent_packets: sent,
                sent_bytes: 100 * sent,
                received_packets: 0,
                received_bytes: 0,
                unsent_packets: sent / 3,
                fragments_of: None,
                last_sent: Some(Duration::ZERO),
                last_received: last_received.map(Duration::from_secs),
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn rates_come_from_two_samples_and_the_state_from_the_last() {
        let names = HostNames::disabled();
        for (last_received, state) in [
            (None, PathState::Silent),
            (Some(60), PathState::Silent),
            (Some(1), PathState::Talking),
        ] {
            let samples = Samples {
                before: Some(snapshot(10.0, 50, None)),
                now: snapshot(12.0, 150, last_received),
            };
            let rows = rows(&samples, &names);
            assert_eq!(rows[0].rates.unwrap().sent_packets, 50.0);
            assert_eq!(rows[0].rates.unwrap().sent_bytes, 5000.0);
            assert_eq!(rows[0].state(), state);
            let json = rows[0].json();
            assert_eq!(json["rates"]["received_packets"], 0.0);
            assert_eq!(
                (&json["rates"]["unsent_packets"], &json["send_loss"]),
                (&17.0.into(), &0.25.into())
            );
            assert_eq!(rows[0].unsent(), "50 (25.0 %)");
        }
        let samples = Samples { before: None, now: snapshot(12.0, 150, None) };
        assert!(rows(&samples, &names)[0].rates.is_none());
    }
}
