//! IPv4 (RFC 791).

use core::fmt;
use core::net::Ipv4Addr;

use super::bytes::{between, u8_at, u16_at, u32_at};
use super::checksum::{self, Sum};
use super::{Malformed, icmpv4::Icmpv4, protocol, tcp::Tcp, udp::Udp};

/// A whole IPv4 packet or fragment.
///
/// [`Ipv4::parse`] is the only thing that can fail. The header checksum is not part of it: ask
/// [`Ipv4::verify_checksum`].
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<T: AsRef<[u8]>> {
    bytes: T,
    header_len: u8,
    total_len: u16,
}

impl<T: AsRef<[u8]>> Ipv4<T> {
    /// Length in bytes of a header without options.
    pub const MIN_HEADER_LEN: usize = 20;
    /// Length in bytes of the longest header.
    pub const MAX_HEADER_LEN: usize = 60;

    /// Checks version, header length and total length; bytes after the packet are cut off.
    ///
    /// # Errors
    /// [`Malformed`] names the first check that failed.
    #[inline]
    pub fn parse(bytes: T) -> Result<Self, Malformed> {
        let raw = bytes.as_ref();
        if raw.len() < Self::MIN_HEADER_LEN {
            return Err(Malformed::TooShort);
        }
        let first = u8_at(raw, field::VERSION_IHL);
        if first >> 4 != 4 {
            return Err(Malformed::BadVersion);
        }
        let header_len = (first & 0x0f) * 4;
        if usize::from(header_len) < Self::MIN_HEADER_LEN || usize::from(header_len) > raw.len() {
            return Err(Malformed::BadHeaderLength);
        }
        let total_len = u16_at(raw, field::TOTAL_LEN);
        if total_len < u16::from(header_len) || usize::from(total_len) > raw.len() {
            return Err(Malformed::BadTotalLength);
        }
        Ok(Self { bytes, header_len, total_len })
    }

    /// Header length in bytes, options included: 20 to 60.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.header_len)
    }

    /// Length of the packet in bytes.
    #[inline(always)]
    pub fn total_len(&self) -> usize {
        usize::from(self.total_len)
    }

    /// Differentiated services and ECN bits.
    #[inline(always)]
    pub fn tos(&self) -> u8 {
        u8_at(self.raw(), field::TOS)
    }

    /// Identification.
    #[inline(always)]
    pub fn id(&self) -> u16 {
        u16_at(self.raw(), field::ID)
    }

    /// The don't-fragment bit.
    #[inline(always)]
    pub fn dont_fragment(&self) -> bool {
        self.flags_offset() & 0x4000 != 0
    }

    /// The more-fragments bit.
    #[inline(always)]
    pub fn more_fragments(&self) -> bool {
        self.flags_offset() & 0x2000 != 0
    }

    /// Where this fragment's payload belongs, in bytes.
    #[inline(always)]
    pub fn fragment_offset(&self) -> usize {
        usize::from(self.flags_offset() & 0x1fff) * 8
    }

    /// Whether this is a part of a packet only, the first included.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.flags_offset() & 0x3fff != 0
    }

    /// Time to live.
    #[inline(always)]
    pub fn ttl(&self) -> u8 {
        u8_at(self.raw(), field::TTL)
    }

    /// Number of the protocol above ([`protocol`]).
    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        u8_at(self.raw(), field::PROTOCOL)
    }

    /// Header checksum as it stands.
    #[inline(always)]
    pub fn checksum(&self) -> u16 {
        u16_at(self.raw(), field::CHECKSUM)
    }

    /// Source address.
    #[inline(always)]
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32_at(self.raw(), field::SOURCE))
    }

    /// Destination address.
    #[inline(always)]
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32_at(self.raw(), field::DESTINATION))
    }

    /// The options, empty in most packets.
    #[inline]
    pub fn options(&self) -> &[u8] {
        between(self.raw(), Self::MIN_HEADER_LEN, self.header_len())
    }

    /// The header, options included.
    #[inline(always)]
    pub fn header(&self) -> &[u8] {
        between(self.raw(), 0, self.header_len())
    }

    /// What follows the header.
    #[inline(always)]
    pub fn payload(&self) -> &[u8] {
        between(self.raw(), self.header_len(), self.total_len())
    }

    /// The whole packet.
    #[inline(always)]
    pub fn as_bytes(&self) -> &[u8] {
        between(self.raw(), 0, self.total_len())
    }

    /// Whether the header checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        let sum = match self.raw().first_chunk() {
            Some(header) if self.options().is_empty() => checksum::sum_of_20(header),
            _ => checksum::sum(self.header(), Sum::ZERO),
        };
        checksum::is_valid(sum)
    }

    /// The pseudo-header's sum for the protocol above.
    #[inline]
    pub fn pseudo_header(&self) -> Sum {
        let payload_len = self.total_len - u16::from(self.header_len);
        checksum::pseudo_v4(self.source(), self.destination(), self.protocol(), payload_len)
    }

    /// Gives the bytes back.
    pub fn into_inner(self) -> T {
        self.bytes
    }

    #[inline(always)]
    fn raw(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    #[inline(always)]
    fn flags_offset(&self) -> u16 {
        u16_at(self.raw(), field::FLAGS_OFFSET)
    }
}

impl<'a> Ipv4<&'a [u8]> {
    /// As [`Ipv4::as_bytes`], borrowed for as long as the bytes themselves.
    #[inline(always)]
    pub fn bytes(&self) -> &'a [u8] {
        between(self.bytes, 0, self.total_len())
    }
}

/// As tcpdump prints it, with numbers for names (`-n`) and absolute sequence numbers (`-S`).
impl<T: AsRef<[u8]>> fmt::Display for Ipv4<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination, payload) = (self.source(), self.destination(), self.payload());
        if self.fragment_offset() != 0 {
            return write!(f, "IP {source} > {destination}: ip-proto-{}", self.protocol());
        }
        match self.protocol() {
            protocol::TCP => match Tcp::parse(payload) {
                Ok(tcp) => {
                    let (from, to) = (tcp.source_port(), tcp.destination_port());
                    write!(f, "IP {source}.{from} > {destination}.{to}: {tcp}")
                }
                Err(error) => write!(f, "IP {source} > {destination}: [|tcp] ({error})"),
            },
            protocol::UDP => match Udp::parse(payload) {
                Ok(udp) => {
                    let (from, to) = (udp.source_port(), udp.destination_port());
                    write!(f, "IP {source}.{from} > {destination}.{to}: {udp}")
                }
                Err(_) if self.more_fragments() && payload.len() >= 8 => {
                    let (from, to, len) =
                        (u16_at(payload, 0), u16_at(payload, 2), u16_at(payload, 4));
                    let len = len.saturating_sub(8);
                    write!(f, "IP {source}.{from} > {destination}.{to}: UDP, length {len}")
                }
                Err(error) => write!(f, "IP {source} > {destination}: [|udp] ({error})"),
            },
            protocol::ICMP => match Icmpv4::parse(payload) {
                Ok(icmp) => write!(f, "IP {source} > {destination}: {icmp}"),
                Err(error) => write!(f, "IP {source} > {destination}: [|icmp] ({error})"),
            },
            number => {
                let (name, len) = (protocol::Name(number), payload.len());
                write!(f, "IP {source} > {destination}: {name} {len}")
            }
        }
    }
}

/// Offsets of the header's fields.
pub(super) mod field {
    pub(crate) const VERSION_IHL: usize = 0;
    pub(crate) const TOS: usize = 1;
    pub(crate) const TOTAL_LEN: usize = 2;
    pub(crate) const ID: usize = 4;
    pub(crate) const FLAGS_OFFSET: usize = 6;
    pub(crate) const TTL: usize = 8;
    pub(crate) const PROTOCOL: usize = 9;
    pub(crate) const CHECKSUM: usize = 10;
    pub(crate) const SOURCE: usize = 12;
    pub(crate) const DESTINATION: usize = 16;
}

#[cfg(test)]
mod tests;
