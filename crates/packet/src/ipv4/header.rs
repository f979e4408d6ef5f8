//! An IPv4 header by its fields, to be written.

use core::net::Ipv4Addr;

use super::super::bytes::{put, put_u8, put_u16};
use super::super::checksum::{self, Sum};
use super::super::emit::{EmitError, emit};
use super::{Ipv4, field};

/// The fields of an IPv4 header without options (RFC 791), from which its bytes are made.
///
/// ```
/// use flannel_packet::{ipv4, protocol, udp};
///
/// let payload = b"hi";
/// let (source, destination) = ([10, 5, 20, 2].into(), [10, 5, 31, 3].into());
/// let ip = ipv4::Header::new(protocol::UDP, source, destination, 8 + 2);
/// let udp = udp::Header::new(5353, 53, 2).with_checksum(ip.pseudo_header(), payload);
///
/// let mut packet = [0; 30];
/// let rest = ip.emit(&mut packet)?;
/// let rest = udp.emit(rest)?;
/// rest.copy_from_slice(payload);
/// assert!(ipv4::Ipv4::parse(&packet)?.verify_checksum());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// Differentiated services (6 bits) and ECN (2 bits).
    pub tos: u8,
    /// Length of header and payload in bytes.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// The don't-fragment bit.
    pub dont_fragment: bool,
    /// The more-fragments bit.
    pub more_fragments: bool,
    /// Position of this fragment's payload in the whole packet's, in bytes; a multiple of 8, to
    /// which it is rounded down.
    pub fragment_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// Number of the protocol above ([`protocol`](crate::protocol)).
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
}

impl Header {
    /// Length of the header in bytes.
    pub const LEN: usize = 20;

    /// A header as a plain socket sends it: no type of service, no identification, DF, a time to
    /// live of 64. `payload_len`, in bytes, is at most 65,515; a greater one is taken for that.
    pub const fn new(
        protocol: u8,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        payload_len: u16,
    ) -> Self {
        Self {
            tos: 0,
            total_len: payload_len.saturating_add(Self::LEN as u16),
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: 64,
            protocol,
            source,
            destination,
        }
    }

    /// The bytes of the header, checksum included.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let flags = u16::from(self.dont_fragment) << 14 | u16::from(self.more_fragments) << 13;
        put_u8(&mut bytes, field::VERSION_IHL, 0x45);
        put_u8(&mut bytes, field::TOS, self.tos);
        put_u16(&mut bytes, field::TOTAL_LEN, self.total_len);
        put_u16(&mut bytes, field::ID, self.id);
        put_u16(&mut bytes, field::FLAGS_OFFSET, flags | (self.fragment_offset / 8));
        put_u8(&mut bytes, field::TTL, self.ttl);
        put_u8(&mut bytes, field::PROTOCOL, self.protocol);
        put(&mut bytes, field::SOURCE, self.source.octets());
        put(&mut bytes, field::DESTINATION, self.destination.octets());
        let checksum = checksum::finish(checksum::sum_of_20(&bytes));
        put_u16(&mut bytes, field::CHECKSUM, checksum);
        bytes
    }

    /// Writes the header to the start of `out` and returns what follows it there.
    ///
    /// # Errors
    /// [`EmitError::BufferTooShort`] below 20 bytes; `out` is then unchanged.
    pub fn emit<'a>(&self, out: &'a mut [u8]) -> Result<&'a mut [u8], EmitError> {
        emit(&self.to_bytes(), out)
    }

    /// The pseudo-header's sum for the protocol above.
    pub const fn pseudo_header(&self) -> Sum {
        let payload_len = self.total_len.saturating_sub(Self::LEN as u16);
        checksum::pseudo_v4(self.source, self.destination, self.protocol, payload_len)
    }
}

/// The fields of a packet's header; its options are left out, and its total length is less by them.
impl<T: AsRef<[u8]>> From<&Ipv4<T>> for Header {
    fn from(packet: &Ipv4<T>) -> Self {
        Self {
            tos: packet.tos(),
            total_len: packet.total_len - (u16::from(packet.header_len) - Self::LEN as u16),
            id: packet.id(),
            dont_fragment: packet.dont_fragment(),
            more_fragments: packet.more_fragments(),
            fragment_offset: packet.fragment_offset() as u16,
            ttl: packet.ttl(),
            protocol: packet.protocol(),
            source: packet.source(),
            destination: packet.destination(),
        }
    }
}
