//! What a capture is told of one packet.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::ring::HEADER;
use crate::dataplane::counters::DropReason;

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the TUN device to UDP.
    Egress,
    /// From UDP to the TUN device.
    Ingress,
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Sent, or delivered to the TUN device.
    Carried,
    /// Dropped.
    Dropped(DropReason),
    /// An ICMP error made here, sent back the way from which the packet that it is about came.
    Answer,
}

/// How the bytes of a packet stand to the time to live it came with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ttl {
    /// It is as it came.
    AsRead,
    /// This hop has been taken off.
    Decremented,
}

/// One packet and what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// When its batch was read: nanoseconds of Unix time.
    pub came: u64,
    /// When it left, if it did: nanoseconds of Unix time.
    pub left: u64,
    /// Packets that were lost to the capture just before this one, in the same thread.
    pub lost: u32,
    /// Which way it goes.
    pub direction: Direction,
    /// What became of it.
    pub verdict: Verdict,
    /// How `bytes` stand to the time to live it came with.
    pub ttl: Ttl,
    /// The other host, if it is known.
    pub peer: Option<SocketAddrV4>,
    /// Where this host's UDP socket is bound.
    pub local: SocketAddrV4,
    /// Bytes of the whole packet.
    pub len: u32,
    /// The inner packet, up to the snap length.
    pub bytes: &'a [u8],
}

impl Verdict {
    /// Whether a packet that goes this way is seen at the TUN device, and whether as a datagram.
    pub fn seen_at(self, direction: Direction) -> (bool, bool) {
        match (self, direction) {
            (Self::Carried, _) => (true, true),
            (_, Direction::Egress) => (true, false),
            (_, Direction::Ingress) => (false, true),
        }
    }
}

impl<'a> Record<'a> {
    /// The fixed part as words.
    pub(super) fn encode(&self) -> [u64; HEADER] {
        let verdict = match self.verdict {
            Verdict::Carried => CARRIED,
            Verdict::Answer => ANSWER,
            Verdict::Dropped(reason) => DROPPED + u64::from(reason as u8),
        };
        let bits = bit(self.direction == Direction::Ingress, INGRESS)
            | bit(self.ttl == Ttl::Decremented, DECREMENTED)
            | bit(self.peer.is_some(), HAS_PEER);
        let peer = self.peer.unwrap_or(NOBODY);
        [
            self.came,
            self.left,
            u64::from(self.len) << 32 | u64::from(self.lost),
            address(peer) | verdict << 8 | bits,
            address(self.local),
        ]
    }

    /// The record of these words. Words that [`Record::encode`] never makes become a carried packet.
    pub(super) fn decode(words: [u64; HEADER], bytes: &'a [u8]) -> Self {
        let [came, left, lens, peer, local] = words;
        let verdict = match peer >> 8 & 0xff {
            ANSWER => Verdict::Answer,
            code => (code.checked_sub(DROPPED))
                .and_then(|reason| DropReason::ALL.get(reason as usize))
                .map_or(Verdict::Carried, |&reason| Verdict::Dropped(reason)),
        };
        let ingress = peer & INGRESS != 0;
        Self {
            came,
            left,
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
const ANSWER: u64 = 1;
const DROPPED: u64 = 2;
const INGRESS: u64 = 1;
const DECREMENTED: u64 = 2;
const HAS_PEER: u64 = 4;
const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

const _: () = assert!(DropReason::ALL.len() < 254);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_everything() {
        let verdicts = [Verdict::Carried, Verdict::Answer]
            .into_iter()
            .chain(DropReason::ALL.iter().map(|&reason| Verdict::Dropped(reason)));
        for verdict in verdicts {
            for (direction, ttl) in
                [(Direction::Egress, Ttl::Decremented), (Direction::Ingress, Ttl::AsRead)]
            {
                let record = Record {
                    came: 1_700_000_000_123_456_789,
                    left: 1_700_000_000_123_556_789,
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
