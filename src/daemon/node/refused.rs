//! Peers that a firewall of this host keeps the daemon from sending to.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::dataplane::PeerTraffic;
use crate::observe::warnings::{Condition, send_refused};

/// Finds the peers in samples of the counters: what the kernel refuses is counted by reason and by peer, not by
/// both.
#[derive(Debug, Default)]
pub(super) struct RefusedPeers {
    /// Datagrams refused, as of the last sample.
    refused: u64,
    /// Packets not sent, as of the last sample.
    unsent: HashMap<Ipv4Addr, u64>,
    /// When the last datagram to a peer was refused.
    last: BTreeMap<Ipv4Addr, Instant>,
}

impl RefusedPeers {
    /// Takes a sample: how many datagrams were refused so far, and the traffic of every peer. Returns what is
    /// wrong now.
    pub(super) fn sample(
        &mut self,
        refused: u64,
        traffic: &[PeerTraffic],
        now: Instant,
    ) -> Vec<Condition> {
        if refused > self.refused {
            let more = |t: &&PeerTraffic| {
                t.unsent_packets > self.unsent.get(&t.address).copied().unwrap_or_default()
            };
            self.last.extend(traffic.iter().filter(more).map(|t| (t.address, now)));
        }
        self.refused = refused;
        let unsent = traffic.iter().filter(|t| t.unsent_packets > 0);
        self.unsent = unsent.map(|t| (t.address, t.unsent_packets)).collect();
        self.last.retain(|_, last| now.duration_since(*last) < HOLD);
        let named = self.last.keys().take(MAX_NAMED).map(|peer| Condition {
            text: send_refused(*peer),
            remedy: Some("`flannel-udp doctor` names the rule".into()),
        });
        named.collect()
    }
}

/// How long a peer counts as refused after its last refused datagram: longer than the first retransmissions of
/// TCP take (RFC 6298: 1, 2, 4 s).
const HOLD: Duration = Duration::from_secs(10);
/// Largest number of peers that are named.
const MAX_NAMED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn unsent(n: u8, unsent_packets: u64) -> PeerTraffic {
        PeerTraffic {
            address: Ipv4Addr::new(192, 168, 0, n),
            sent_packets: 0,
            sent_bytes: 0,
            received_packets: 0,
            received_bytes: 0,
            unsent_packets,
            fragments_of: None,
            last_sent: None,
            last_received: None,
        }
    }

    #[test]
    fn a_peer_is_named_while_its_datagrams_are_refused() {
        let mut refused = RefusedPeers::default();
        let begun = Instant::now();
        let mut sample = |count, traffic: &[PeerTraffic], seconds| {
            let now = begun + Duration::from_secs(seconds);
            refused.sample(count, traffic, now).into_iter().map(|c| c.text).collect::<Vec<_>>()
        };
        let named = [send_refused(Ipv4Addr::new(192, 168, 0, 2))];
        // Packets of the first peer were lost for another reason.
        assert_eq!(sample(0, &[unsent(1, 7), unsent(2, 0)], 0), [""; 0]);
        assert_eq!(sample(3, &[unsent(1, 7), unsent(2, 3)], 2), named);
        assert_eq!(sample(3, &[unsent(1, 9), unsent(2, 3)], 4), named);
        assert_eq!(sample(3, &[unsent(1, 9), unsent(2, 3)], 12), [""; 0]);
    }
}
