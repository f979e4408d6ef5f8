//! IPv4 (RFC 791).

mod header;
mod set;

use core::net::Ipv4Addr;

pub use header::Header;

use super::bytes::{between, u8_at, u16_at, u32_at, up_to};
use super::checksum::{self, Sum};
use super::{Malformed, protocol};

/// An IPv4 packet or fragment.
///
/// [`Ipv4::parse`] is the only thing that can fail. The header checksum is not part of it: ask
/// [`Ipv4::verify_checksum`]. Over bytes that can be changed, such as `&mut [u8]`, the view sets
/// fields as well; a new header is made by [`Header`].
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

    /// As [`Ipv4::parse`], for a packet of which only the start may be there: one quoted by an ICMP
    /// error, or cut to the snap length of a capture. The first 20 bytes must be there.
    ///
    /// [`Ipv4::header_len`] and [`Ipv4::total_len`] are then the values in the header; accessors of bytes
    /// give those that are there, and checksums over the rest cannot be verified.
    ///
    /// # Errors
    /// [`Malformed`] names the first check that failed.
    pub fn parse_truncated(bytes: T) -> Result<Self, Malformed> {
        let raw = bytes.as_ref();
        if raw.len() < Self::MIN_HEADER_LEN {
            return Err(Malformed::TooShort);
        }
        let first = u8_at(raw, field::VERSION_IHL);
        if first >> 4 != 4 {
            return Err(Malformed::BadVersion);
        }
        let header_len = (first & 0x0f) * 4;
        if usize::from(header_len) < Self::MIN_HEADER_LEN {
            return Err(Malformed::BadHeaderLength);
        }
        let total_len = u16_at(raw, field::TOTAL_LEN);
        if total_len < u16::from(header_len) {
            return Err(Malformed::BadTotalLength);
        }
        Ok(Self { bytes, header_len, total_len })
    }

    /// Whether bytes of the packet are missing at its end, as [`Ipv4::parse_truncated`] allows.
    pub fn is_truncated(&self) -> bool {
        self.raw().len() < self.total_len()
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

    /// Length in bytes of what follows the header.
    #[inline(always)]
    pub fn payload_len(&self) -> usize {
        usize::from(self.total_len - u16::from(self.header_len))
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

    /// Source and destination port of TCP or UDP. `None` for other protocols, for a fragment that is
    /// not the first, and where the packet ends before them.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let has_ports = matches!(self.protocol(), protocol::TCP | protocol::UDP);
        (has_ports && self.fragment_offset() == 0).then(|| ports(self.payload()))?
    }

    /// The options, empty in most packets.
    #[inline]
    pub fn options(&self) -> &[u8] {
        up_to(self.raw(), Self::MIN_HEADER_LEN, self.header_len())
    }

    /// The header, options included.
    #[inline(always)]
    pub fn header(&self) -> &[u8] {
        up_to(self.raw(), 0, self.header_len())
    }

    /// What follows the header.
    #[inline(always)]
    pub fn payload(&self) -> &[u8] {
        up_to(self.raw(), self.header_len(), self.total_len())
    }

    /// As [`Ipv4::payload`] for a packet that is not truncated, in fewer instructions; empty for one
    /// that is.
    #[inline(always)]
    pub(super) fn whole_payload(&self) -> &[u8] {
        between(self.raw(), self.header_len(), self.total_len())
    }

    /// The whole packet.
    #[inline(always)]
    pub fn as_bytes(&self) -> &[u8] {
        up_to(self.raw(), 0, self.total_len())
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
        up_to(self.bytes, 0, self.total_len())
    }
}

/// The ports at the start of a TCP or UDP header.
pub(super) fn ports(transport: &[u8]) -> Option<(u16, u16)> {
    let &[a, b, c, d] = transport.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
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
