//! IPv6 (RFC 8200).

mod extensions;
mod header;
mod set;

use core::net::Ipv6Addr;

pub(crate) use extensions::extension_len;
pub use header::Header;

use super::bytes::{array_at, between, u8_at, u16_at, u32_at, up_to};
use super::checksum::{self, Sum};
use super::{Malformed, ipv4, protocol};
use extensions::Upper;

/// An IPv6 packet or fragment.
///
/// [`Ipv6::parse`] also walks the extension headers, never further than the packet, so that the
/// protocol above is known afterwards. Jumbograms (RFC 2675) are not supported: they parse as
/// packets that end after their extension headers, and are refused if those reach further.
///
/// Over bytes that can be changed, such as `&mut [u8]`, the view sets fields as well; a new header is
/// made by [`Header`].
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<T: AsRef<[u8]>> {
    bytes: T,
    upper: Upper,
    payload_len: u16,
}

impl<T: AsRef<[u8]>> Ipv6<T> {
    /// Length of the fixed header in bytes.
    pub const HEADER_LEN: usize = 40;

    /// Checks version, payload length and extension headers; bytes after the packet are cut off.
    ///
    /// # Errors
    /// [`Malformed`] names the first check that failed.
    #[inline]
    pub fn parse(bytes: T) -> Result<Self, Malformed> {
        let raw = bytes.as_ref();
        if raw.len() < Self::HEADER_LEN {
            return Err(Malformed::TooShort);
        }
        if u8_at(raw, field::VERSION) >> 4 != 6 {
            return Err(Malformed::BadVersion);
        }
        let payload_len = u16_at(raw, field::PAYLOAD_LEN);
        let total_len = Self::HEADER_LEN + usize::from(payload_len);
        if total_len > raw.len() {
            return Err(Malformed::BadTotalLength);
        }
        let upper = Upper::find(between(raw, 0, total_len), u8_at(raw, field::NEXT_HEADER))?;
        Ok(Self { bytes, upper, payload_len })
    }

    /// As [`Ipv6::parse`], for a packet of which only the start may be there: one quoted by an ICMPv6
    /// error, or cut to the snap length of a capture. The first 40 bytes must be there.
    ///
    /// Lengths are then the values in the header, and accessors of bytes give those that are there. Where
    /// an extension header is cut, [`Ipv6::protocol`] is the number of that header.
    ///
    /// # Errors
    /// [`Malformed`] names the first check that failed.
    pub fn parse_truncated(bytes: T) -> Result<Self, Malformed> {
        let raw = bytes.as_ref();
        if raw.len() < Self::HEADER_LEN {
            return Err(Malformed::TooShort);
        }
        if u8_at(raw, field::VERSION) >> 4 != 6 {
            return Err(Malformed::BadVersion);
        }
        let payload_len = u16_at(raw, field::PAYLOAD_LEN);
        let total_len = Self::HEADER_LEN + usize::from(payload_len);
        let packet = up_to(raw, 0, total_len);
        let next = u8_at(raw, field::NEXT_HEADER);
        let upper = if packet.len() < total_len {
            Upper::find_in_truncated(packet, next)
        } else {
            Upper::find(packet, next)?
        };
        Ok(Self { bytes, upper, payload_len })
    }

    /// Whether bytes of the packet are missing at its end, as [`Ipv6::parse_truncated`] allows.
    pub fn is_truncated(&self) -> bool {
        self.raw().len() < self.total_len()
    }

    /// Traffic class: differentiated services and ECN bits.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (u16_at(self.raw(), field::VERSION) >> 4) as u8
    }

    /// Flow label.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        u32_at(self.raw(), field::VERSION) & header::FLOW_LABEL
    }

    /// Length of what follows the fixed header, in bytes.
    #[inline(always)]
    pub fn payload_len(&self) -> usize {
        usize::from(self.payload_len)
    }

    /// Length of the packet in bytes.
    #[inline(always)]
    pub fn total_len(&self) -> usize {
        Self::HEADER_LEN + usize::from(self.payload_len)
    }

    /// What directly follows the fixed header, maybe an extension header.
    #[inline]
    pub fn next_header(&self) -> u8 {
        u8_at(self.raw(), field::NEXT_HEADER)
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        u8_at(self.raw(), field::HOP_LIMIT)
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from(array_at::<16>(self.raw(), field::SOURCE))
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from(array_at::<16>(self.raw(), field::DESTINATION))
    }

    /// Number of the protocol above, behind all extension headers ([`protocol`]).
    ///
    /// Of a fragment that is not the first, the payload is a piece of that protocol.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.upper.protocol
    }

    /// Length of the fixed and all extension headers in bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.upper.offset)
    }

    /// Whether there is a fragment header: a part of a packet only, the first included, or an atomic
    /// fragment, which is the whole packet (RFC 6946). The kernel does not segment behind such a header
    /// (`ipv6_gso_pull_exthdrs`).
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.upper.is_fragment
    }

    /// Whether more fragments follow.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.upper.more_fragments
    }

    /// Where this fragment's payload belongs, in bytes.
    #[inline]
    pub fn fragment_offset(&self) -> usize {
        usize::from(self.upper.fragment_offset)
    }

    /// Length in bytes of what follows all headers of IPv6.
    pub fn upper_len(&self) -> usize {
        self.total_len().saturating_sub(self.header_len())
    }

    /// Source and destination port of TCP or UDP. `None` for other protocols, for a fragment that is
    /// not the first, and where the packet ends before them.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let has_ports = matches!(self.protocol(), protocol::TCP | protocol::UDP);
        (has_ports && self.fragment_offset() == 0).then(|| ipv4::ports(self.payload()))?
    }

    /// What follows all headers of IPv6.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        up_to(self.raw(), self.header_len(), self.total_len())
    }

    /// The whole packet.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        up_to(self.raw(), 0, self.total_len())
    }

    /// The pseudo-header's sum for the protocol above.
    ///
    /// The destination is the one in the fixed header, which is not the final one where a routing
    /// header has segments left.
    #[inline]
    pub fn pseudo_header(&self) -> Sum {
        let len = self.payload().len() as u32;
        checksum::pseudo_v6(self.source(), self.destination(), self.protocol(), len)
    }

    #[inline(always)]
    fn raw(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// Offsets of the header's fields.
pub(super) mod field {
    pub(crate) const VERSION: usize = 0;
    pub(crate) const PAYLOAD_LEN: usize = 4;
    pub(crate) const NEXT_HEADER: usize = 6;
    pub(crate) const HOP_LIMIT: usize = 7;
    pub(crate) const SOURCE: usize = 8;
    pub(crate) const DESTINATION: usize = 24;
}

#[cfg(test)]
mod tests;
