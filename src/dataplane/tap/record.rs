//! The record that a capture has of one packet.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::ring::HEADER;
use crate::dataplane::counters::DropReason;

/// The direction of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the TUN device to UDP.
    Egress,
    /// From UDP to the TUN device.
    Ingress,
}

/// What happened to a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CaptureVerdict {
    /// Sent, or written to the TUN device.
    Carried,
    /// Dropped.
    Dropped(DropReason),
    /// Not a packet of a host but an ICMP error of this daemon, sent back to where the packet in error
    /// came from.
    IcmpError,
}

/// Whether the recorded bytes have the TTL with which the packet arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ttl {
    /// The TTL with which the packet arrived.
    AsRead,
    /// One less: this hop has decremented it.
    Decremented,
}

/// One packet and what happened to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// When its batch was read, in nanoseconds of Unix time.
    pub read_time: u64,
    /// When it was sent or written, in nanoseconds of Unix time; of a dropped packet, as `read_time`.
    pub sent_time: u64,
    /// Number of packets of the same thread that were lost to the capture since its previous record.
    pub lost: u32,
    /// Direction of the packet.
    pub direction: Direction,
    /// What happened to it.
    pub verdict: CaptureVerdict,
    /// Whether `bytes` has the TTL with which the packet arrived.
    pub ttl: Ttl,
    /// The other host, if known.
    pub peer: Option<SocketAddrV4>,
    /// Local address of this host's UDP socket.
    pub local: SocketAddrV4,
    /// Length of the whole packet, in bytes.
    pub len: u32,
    /// The inner packet, up to the snap length.
    pub bytes: &'a [u8],
}

impl CaptureVerdict {
    /// Whether a packet in this direction appears at the TUN device, and whether it appears as a datagram.
    pub fn seen_at(self, direction: Direction) -> (bool, bool) {
        match (self, direction) {
            (Self::Carried, _) => (true, true),
            (_, Direction::Egress) => (true, false),
            (_, Direction::Ingress) => (false, true),
        }
    }
}

impl<'a> Record<'a> {
    /// The fixed part of the record as words of the ring.
    pub(super) fn encode(&self) -> [u64; HEADER] {
        let verdict = match self.verdict {
            CaptureVerdict::Carried => CARRIED,
            CaptureVerdict::IcmpError => ICMP_ERROR,
            CaptureVerdict::Dropped(reason) => DROPPED + u64::from(reason as u8),
        };
        let bits = bit(self.direction == Direction::Ingress, INGRESS)
            | bit(self.ttl == Ttl::Decremented, DECREMENTED)
            | bit(self.peer.is_some(), HAS_PEER);
        let peer = self.peer.unwrap_or(NO_PEER);
        [
            self.read_time,
            self.sent_time,
            u64::from(self.len) << 32 | u64::from(self.lost),
            address(peer) | verdict << 8 | bits,
            address(self.local),
        ]
    }

    /// The record with this fixed part. Words that [`Record::encode`] never produces decode as a carried
    /// packet.
    pub(super) fn decode(words: [u64; HEADER], bytes: &'a [u8]) -> Self {
        let [read_time, sent_time, lens, peer, local] = words;
        let verdict = match peer >> 8 & 0xff {
            ICMP_ERROR => CaptureVerdict::IcmpError,
            code => (code.checked_sub(DROPPED))
                .and_then(|reason| DropReason::ALL.get(reason as usize))
                .map_or(CaptureVerdict::Carried, |&reason| CaptureVerdict::Dropped(reason)),
        };
        let ingress = peer & INGRESS != 0;
        Self {
            read_time,
            sent_time,
            lost: lens as u32,
            direction: if ingress { Direction::Ingress } else { Direction::Egress },
            verdict,
            ttl: if peer & DECREMENTED != 0 { Ttl::Decremented } else { Ttl::AsRead },
            peer: (peer & HAS_PEER != 0).then(|| socket(peer)),
            local: socket(local),
            len: (lens >> 32) as u32,
            bytes,
        }
    }
}

fn bit(set: bool, bit: u64) -> u64 {
    if set { bit } else { 0 }
}

/// An address and port in the upper 48 bits.
fn address(address: SocketAddrV4) -> u64 {
    u64::from(address.ip().to_bits()) << 32 | u64::from(address.port()) << 16
}

fn socket(word: u64) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits((word >> 32) as u32), (word >> 16) as u16)
}

const CARRIED: u64 = 0;
const ICMP_ERROR: u64 = 1;
const DROPPED: u64 = 2;
const INGRESS: u64 = 1;
const DECREMENTED: u64 = 2;
const HAS_PEER: u64 = 4;
const NO_PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

const _: () = assert!(DropReason::ALL.len() < 254);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_everything() {
        let verdicts = [CaptureVerdict::Carried, CaptureVerdict::IcmpError]
            .into_iter()
            .chain(DropReason::ALL.iter().map(|&reason| CaptureVerdict::Dropped(reason)));
        for verdict in verdicts {
            for (direction, ttl) in
                [(Direction::Egress, Ttl::Decremented), (Direction::Ingress, Ttl::AsRead)]
            {
                let record = Record {
                    read_time: 1_700_000_000_123_456_789,
                    sent_time: 1_700_000_000_123_556_789,
                    lost: u32::MAX,
                    direction,
                    verdict,
                    ttl,
                    peer: (ttl == Ttl::AsRead).then(|| "255.1.2.3:65535".parse().unwrap()),
                    local: "10.211.55.1:8285".parse().unwrap(),
                    len: 65_535,
                    bytes: b"packet",
                };
                assert_eq!(Record::decode(record.encode(), record.bytes), record);
            }
        }
    }
}
