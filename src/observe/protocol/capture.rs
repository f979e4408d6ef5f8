//! The arguments of `capture`, and the comment that each packet of its stream has.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Serialize};

use crate::route::Cidr;

/// The arguments of the command `capture`. All may be missing: then every packet is captured, whole,
/// until the client closes the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaptureRequest {
    /// Only packets to or from the host with this underlay address.
    pub peer: Option<Ipv4Addr>,
    /// Only inner packets to or from an address in each of these prefixes.
    pub hosts: Vec<Cidr>,
    /// Only inner packets to or from one of these ports.
    pub ports: Vec<u16>,
    /// Only inner packets of this protocol.
    pub protocol: Option<u8>,
    /// Only one direction.
    pub direction: Option<DirectionFilter>,
    /// Only packets with one of these verdicts; empty means any.
    pub verdicts: Vec<Verdict>,
    /// Only packets that were dropped.
    pub drops: Option<DropFilter>,
    /// Only as seen at the TUN device, not as datagrams.
    pub inner_only: bool,
    /// Only as datagrams, not as seen at the TUN device.
    pub outer_only: bool,
    /// Bytes that are kept of each packet at most.
    pub snap_len: Option<u32>,
    /// Number of packets after which the capture ends.
    pub count: Option<u64>,
    /// Milliseconds after which the capture ends.
    pub milliseconds: Option<u64>,
    /// Bytes of the stream after which the capture ends.
    pub bytes: Option<u64>,
}

/// A direction of packets, as seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DirectionFilter {
    /// From the other hosts.
    In,
    /// To the other hosts.
    Out,
}

/// What happened to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was sent, or delivered to this host.
    Carried,
    /// It was dropped.
    Dropped,
    /// It is the daemon's own ICMP error, sent back to the sender of a dropped packet.
    IcmpError,
}

/// Drop reasons of the packets that are captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DropFilter(
    /// Names of reasons; empty means every reason.
    pub Vec<String>,
);

/// What happened to a captured packet: the comment that it has in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketOutcome<'a> {
    /// What happened to it.
    pub verdict: Verdict,
    /// Name of the reason for which it was dropped; empty for another verdict.
    pub reason: &'a str,
    /// The other host, if known.
    pub peer: Option<SocketAddrV4>,
}

impl<'a> PacketOutcome<'a> {
    /// Parses a comment; `None` if a daemon of another version has written something else.
    pub fn parse(comment: &'a str) -> Option<Self> {
        let (text, peer) = match comment.split_once(PEER) {
            Some((text, peer)) => (text, Some(peer.parse().ok()?)),
            None => (comment, None),
        };
        let (verdict, reason) = match text {
            CARRIED => (Verdict::Carried, ""),
            ICMP_ERROR => (Verdict::IcmpError, ""),
            _ => (Verdict::Dropped, text.strip_prefix(DROPPED)?),
        };
        Some(Self { verdict, reason, peer })
    }
}

impl fmt::Display for PacketOutcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verdict {
            Verdict::Carried => f.write_str(CARRIED),
            Verdict::IcmpError => f.write_str(ICMP_ERROR),
            Verdict::Dropped => write!(f, "{DROPPED}{}", self.reason),
        }?;
        self.peer.map_or(Ok(()), |peer| write!(f, "{PEER}{peer}"))
    }
}

const CARRIED: &str = "carried";
const DROPPED: &str = "dropped: ";
const ICMP_ERROR: &str = "ICMP error made here";
const PEER: &str = ", peer ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_round_trip() {
        let peer = Some("10.211.55.2:8285".parse().unwrap());
        for (verdict, reason, peer, text) in [
            (Verdict::Carried, "", peer, "carried, peer 10.211.55.2:8285"),
            (Verdict::Dropped, "no-route", None, "dropped: no-route"),
            (Verdict::Dropped, "ttl-expired", peer, "dropped: ttl-expired, peer 10.211.55.2:8285"),
            (Verdict::IcmpError, "", None, "ICMP error made here"),
        ] {
            let outcome = PacketOutcome { verdict, reason, peer };
            assert_eq!(outcome.to_string(), text);
            assert_eq!(PacketOutcome::parse(text), Some(outcome));
        }
        for other in ["", "delayed", "carried, peer nobody"] {
            assert_eq!(PacketOutcome::parse(other), None, "{other}");
        }
    }
}
