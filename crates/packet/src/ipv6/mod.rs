//! IPv6 (RFC 8200).

mod extensions;

use core::fmt;
use core::net::Ipv6Addr;

use super::bytes::{array_at, between, u8_at, u16_at, u32_at};
use super::checksum::{self, Sum};
use super::{Malformed, icmpv6::Icmpv6, protocol, tcp::Tcp, udp::Udp};
use extensions::Upper;

/// A whole IPv6 packet or fragment.
///
/// [`Ipv6::parse`] also walks the extension headers, never further than the packet, so that the
/// protocol above is known afterwards. Jumbograms (RFC 2675) are not understood: they look like
/// packets that end after their extension headers, and are refused if those reach further.
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

    /// Traffic class: differentiated services and ECN bits.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (u16_at(self.raw(), field::VERSION) >> 4) as u8
    }

    /// Flow label.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        u32_at(self.raw(), field::VERSION) & 0x000f_ffff
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

    /// Whether this is a part of a packet only, the first included.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.upper.more_fragments || self.upper.fragment_offset != 0
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

    /// What follows all headers of IPv6.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        between(self.raw(), self.header_len(), self.total_len())
    }

    /// The whole packet.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        between(self.raw(), 0, self.total_len())
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

/// As tcpdump prints it, with numbers for names (`-n`) and absolute sequence numbers (`-S`).
impl<T: AsRef<[u8]>> fmt::Display for Ipv6<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination, payload) = (self.source(), self.destination(), self.payload());
        if self.is_fragment() {
            let (offset, len) = (self.fragment_offset(), payload.len());
            write!(f, "IP6 {source} > {destination}: frag ({offset}|{len})")?;
            return match Icmpv6::parse(payload) {
                Ok(icmp) if offset == 0 && self.protocol() == protocol::ICMPV6 => {
                    write!(f, " {icmp}")
                }
                _ => Ok(()),
            };
        }
        match self.protocol() {
            protocol::TCP => match Tcp::parse(payload) {
                Ok(tcp) => {
                    let (from, to) = (tcp.source_port(), tcp.destination_port());
                    write!(f, "IP6 {source}.{from} > {destination}.{to}: {tcp}")
                }
                Err(error) => write!(f, "IP6 {source} > {destination}: [|tcp] ({error})"),
            },
            protocol::UDP => match Udp::parse(payload) {
                Ok(udp) => {
                    let (from, to) = (udp.source_port(), udp.destination_port());
                    write!(f, "IP6 {source}.{from} > {destination}.{to}: {udp}")
                }
                Err(error) => write!(f, "IP6 {source} > {destination}: [|udp] ({error})"),
            },
            protocol::ICMPV6 => match Icmpv6::parse(payload) {
                Ok(icmp) => write!(f, "IP6 {source} > {destination}: {icmp}"),
                Err(error) => write!(f, "IP6 {source} > {destination}: [|icmp6] ({error})"),
            },
            protocol::NO_NEXT_HEADER => write!(f, "IP6 {source} > {destination}: no next header"),
            number => {
                let (name, len) = (protocol::Name(number), payload.len());
                write!(f, "IP6 {source} > {destination}: {name} {len}")
            }
        }
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
