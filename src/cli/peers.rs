//! `peers`: the other hosts, and the traffic to and from each.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::samples::{IntervalArgs, Samples};
use super::table::{self, Layout};
use crate::args::QueryArgs;
use crate::dataplane::PeerTraffic;
use crate::exit::Exit;
use crate::humanize;
use crate::observe::protocol::snapshot::{Peer, Snapshot};
use crate::observe::warnings::WarningKind;

/// Arguments of `peers`.
#[derive(Clone, Debug, Args)]
pub struct PeersArgs {
    /// Which daemon is queried, and the form of the output.
    #[command(flatten)]
    pub query: QueryArgs,
    /// Over how long rates are measured.
    #[command(flatten)]
    pub interval: IntervalArgs,
}

/// Prints a table, or JSON.
pub(super) fn run(args: &PeersArgs) -> Result<(), Exit> {
    let samples = Samples::take(&args.query.client(), args.interval)?;
    let rows = rows(&samples);
    if args.query.json {
        let peers: Vec<_> = rows.iter().map(PeerRow::json).collect();
        let seconds = samples.seconds();
        println!("{:#}", json!({ "version": 1, "rate_seconds": seconds, "peers": peers }));
        return Ok(());
    }
    if rows.is_empty() {
        println!("no other hosts");
    } else {
        print!("{}", in_words(&rows));
    }
    let withheld = WarningKind::WithheldLease.name();
    for warning in samples.now.warnings.iter().filter(|warning| warning.kind == withheld) {
        println!("! {}", warning.sentence());
    }
    Ok(())
}

fn in_words(rows: &[PeerRow<'_>]) -> String {
    let mut table = table::new([
        ("SUBNET", Layout::Key),
        ("HOST", Layout::Key),
        ("OUT pkt/s", Layout::Number),
        ("OUT", Layout::Number),
        ("IN pkt/s", Layout::Number),
        ("IN", Layout::Number),
        ("LAST OUT", Layout::Number),
        ("LAST IN", Layout::Number),
        ("UNSENT", Layout::Number),
        ("STATE", Layout::Text),
    ]);
    for row in rows {
        let last = |ago: Option<Duration>| {
            ago.map_or_else(|| "never".into(), |ago| humanize::seconds(ago.as_secs_f64().floor()))
        };
        let rate = |rate: Option<f64>, text: fn(f64) -> String| rate.map_or("-".into(), text);
        table.add_row([
            row.peer.subnet.to_string(),
            row.peer.public_ip.to_string(),
            rate(row.rates.map(|r| r.sent_packets), humanize::rate),
            rate(row.rates.map(|r| r.sent_bytes), humanize::bits),
            rate(row.rates.map(|r| r.received_packets), humanize::rate),
            rate(row.rates.map(|r| r.received_bytes), humanize::bits),
            last(row.traffic.and_then(|t| t.last_sent)),
            last(row.traffic.and_then(|t| t.last_received)),
            row.unsent(),
            row.state().description().to_owned(),
        ]);
    }
    table::text(&table)
}

/// One lease of a peer. Traffic is counted per host: each lease of a host shows all of the host's traffic.
struct PeerRow<'a> {
    peer: &'a Peer,
    traffic: Option<&'a PeerTraffic>,
    rates: Option<Rates>,
    /// Whether a firewall of this host refuses the datagrams.
    refused: bool,
}

/// Traffic per second.
#[derive(Clone, Copy)]
struct Rates {
    sent_packets: f64,
    sent_bytes: f64,
    received_packets: f64,
    received_bytes: f64,
    unsent_packets: f64,
}

/// The state of the path to a peer, as far as the counters show it. The tunnel has no protocol of its own, so
/// loss beyond this host is only visible as silence; `doctor` sends probes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PathState {
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
    pub(super) fn of(traffic: &PeerTraffic) -> Self {
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

    fn description(self) -> &'static str {
        match self {
            Self::Talking => "talking",
            Self::Refused => "REFUSED: this host's own firewall drops the datagrams",
            Self::Silent => "SILENT: packets are sent, none are received",
            Self::Idle => "idle",
        }
    }
}

fn rows(samples: &Samples) -> Vec<PeerRow<'_>> {
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
        PeerRow { peer, traffic, rates, refused }
    });
    rows.collect()
}

impl PeerRow<'_> {
    fn state(&self) -> PathState {
        if self.refused {
            return PathState::Refused;
        }
        self.traffic.map_or(PathState::Idle, PathState::of)
    }

    /// Packets that the kernel did not send, and their share of all packets to the peer.
    fn unsent(&self) -> String {
        let Some(traffic) = self.traffic.filter(|traffic| traffic.unsent_packets > 0) else {
            return "0".into();
        };
        let percent = 100.0 * traffic.send_loss().unwrap_or_default();
        format!("{} ({percent:.1} %)", humanize::count(traffic.unsent_packets))
    }

    fn json(&self) -> Value {
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
pub(super) const RECENT: Duration = Duration::from_secs(10);

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
        for (last_received, state) in [
            (None, PathState::Silent),
            (Some(60), PathState::Silent),
            (Some(1), PathState::Talking),
        ] {
            let samples = Samples {
                before: Some(snapshot(10.0, 50, None)),
                now: snapshot(12.0, 150, last_received),
            };
            let rows = rows(&samples);
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
        assert!(rows(&samples)[0].rates.is_none());
    }
}
