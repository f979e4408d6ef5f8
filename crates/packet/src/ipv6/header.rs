//! An IPv6 header by its fields, to be written.

use core::net::Ipv6Addr;

use super::super::bytes::{put, put_u8, put_u16, put_u32};
use super::super::checksum::{self, Sum};
use super::super::emit::{EmitError, emit};
use super::{Ipv6, field};

/// The fields of the fixed IPv6 header (RFC 8200), from which its bytes are made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// Differentiated services (6 bits) and ECN (2 bits).
    pub traffic_class: u8,
    /// Flow label, of which the low 20 bits count.
    pub flow_label: u32,
    /// Length in bytes of what follows this header, extension headers included.
    pub payload_len: u16,
    /// Number of the header that follows ([`protocol`](crate::protocol)).
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Header {
    /// Length of the header in bytes.
    pub const LEN: usize = 40;

    /// A header as a plain socket sends it: no traffic class, no flow label, a hop limit of 64.
    pub const fn new(
        next_header: u8,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        payload_len: u16,
    ) -> Self {
        Self {
            traffic_class: 0,
            flow_label: 0,
            payload_len,
            next_header,
            hop_limit: 64,
            source,
            destination,
        }
    }

    /// The bytes of the header.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & FLOW_LABEL;
        put_u32(&mut bytes, field::VERSION, first);
        put_u16(&mut bytes, field::PAYLOAD_LEN, self.payload_len);
        put_u8(&mut bytes, field::NEXT_HEADER, self.next_header);
        put_u8(&mut bytes, field::HOP_LIMIT, self.hop_limit);
        put(&mut bytes, field::SOURCE, self.source.octets());
        put(&mut bytes, field::DESTINATION, self.destination.octets());
        bytes
    }

    /// Writes the header to the start of `out` and returns what follows it there.
    ///
    /// # Errors
    /// [`EmitError::BufferTooShort`] below 40 bytes; `out` is then unchanged.
    pub fn emit<'a>(&self, out: &'a mut [u8]) -> Result<&'a mut [u8], EmitError> {
        emit(&self.to_bytes(), out)
    }

    /// The pseudo-header's sum for the protocol above, where no extension header lies between.
    pub fn pseudo_header(&self) -> Sum {
        let (source, destination) = (self.source, self.destination);
        checksum::pseudo_v6(source, destination, self.next_header, self.payload_len.into())
    }
}

/// The fields of a packet's fixed header.
impl<T: AsRef<[u8]>> From<&Ipv6<T>> for Header {
    fn from(packet: &Ipv6<T>) -> Self {
        Self {
            traffic_class: packet.traffic_class(),
            flow_label: packet.flow_label(),
            payload_len: packet.payload_len,
            next_header: packet.next_header(),
            hop_limit: packet.hop_limit(),
            source: packet.source(),
            destination: packet.destination(),
        }
    }
}

/// The bits of the flow label in the header's first word.
pub(super) const FLOW_LABEL: u32 = 0x000f_ffff;
