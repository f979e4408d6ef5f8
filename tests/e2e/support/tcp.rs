//! The part of TCP that a test needs to talk to the kernel's TCP through the tunnel.

use super::peer::PlainPeer;
use super::raw::{self, Ip};

/// A TCP segment.
#[derive(Debug, Clone)]
pub struct Segment {
    pub ports: (u16, u16),
    pub sequence: u32,
    pub acknowledged: u32,
    pub flags: u8,
    pub payload: Vec<u8>,
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

impl Segment {
    /// Parses layer-4 bytes.
    pub fn parse(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        Self {
            ports: ((word(0) >> 16) as u16, word(0) as u16),
            sequence: word(4),
            acknowledged: word(8),
            flags: bytes[13],
            payload: bytes[usize::from(bytes[12] >> 4) * 4..].to_vec(),
        }
    }

    /// The whole packet with correct checksums. A SYN has the options MSS and window scale.
    pub fn packet(&self, ip: &Ip) -> Vec<u8> {
        let options: &[u8] = match self.flags & SYN {
            0 => &[],
            _ => &[2, 4, 0x05, 0x98, 1, 3, 3, 7], // MSS 1432; no-op, scale 7
        };
        let mut bytes = Vec::new();
        bytes.extend(self.ports.0.to_be_bytes());
        bytes.extend(self.ports.1.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledged.to_be_bytes());
        bytes.extend([((20 + options.len()) * 4) as u8, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(options);
        bytes.extend(&self.payload);
        ip.sealed(bytes, 16)
    }

    /// The sequence number after this segment: SYN and FIN count as one byte each.
    pub fn next(&self) -> u32 {
        let phantom = u32::from(self.flags & (SYN | FIN) != 0);
        self.sequence.wrapping_add(self.payload.len() as u32).wrapping_add(phantom)
    }
}

/// Receives the next TCP segment and its packet, which must be whole; skips other protocols.
pub fn receive(peer: &PlainPeer) -> Option<(Vec<u8>, Segment)> {
    loop {
        let packet = peer.try_receive()?;
        let bytes = raw::whole(&packet).expect("one whole packet");
        if packet[9] == 6 {
            let segment = Segment::parse(bytes);
            return Some((packet, segment));
        }
    }
}
