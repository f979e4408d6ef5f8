//! ICMP for IPv6 (RFC 4443).

mod header;

pub use header::Header;

use super::Malformed;
use super::bytes::{array_at, from, put_u16, u8_at, u16_at};
use super::checksum::{self, Sum};

/// An ICMPv6 message.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv6<T: AsRef<[u8]>> {
    bytes: T,
}

/// Types of messages that this library names.
pub mod kind {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Multicast listener query (RFC 2710, RFC 3810).
    pub const LISTENER_QUERY: u8 = 130;
    /// Multicast listener report (RFC 2710).
    pub const LISTENER_REPORT: u8 = 131;
    /// Multicast listener done (RFC 2710).
    pub const LISTENER_DONE: u8 = 132;
    /// Router solicitation (RFC 4861).
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement (RFC 4861).
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation (RFC 4861).
    pub const NEIGHBOR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement (RFC 4861).
    pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
    /// Redirect (RFC 4861).
    pub const REDIRECT: u8 = 137;
    /// Multicast listener report of version 2 (RFC 3810).
    pub const LISTENER_REPORT_V2: u8 = 143;
}

impl<T: AsRef<[u8]>> Icmpv6<T> {
    /// Length in bytes of the header and of the shortest body that any type has.
    pub const HEADER_LEN: usize = 8;

    /// Checks the length.
    ///
    /// # Errors
    /// [`Malformed::TooShort`] below 8 bytes.
    #[inline]
    pub fn parse(bytes: T) -> Result<Self, Malformed> {
        if bytes.as_ref().len() < Self::HEADER_LEN {
            return Err(Malformed::TooShort);
        }
        Ok(Self { bytes })
    }

    /// Type of the message ([`kind`]).
    #[inline]
    pub fn kind(&self) -> u8 {
        u8_at(self.bytes.as_ref(), field::KIND)
    }

    /// Code, which refines the type.
    #[inline]
    pub fn code(&self) -> u8 {
        u8_at(self.bytes.as_ref(), field::CODE)
    }

    /// Checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.bytes.as_ref(), field::CHECKSUM)
    }

    /// The four bytes whose meaning depends on the type.
    #[inline]
    pub fn rest_of_header(&self) -> [u8; 4] {
        array_at(self.bytes.as_ref(), field::REST)
    }

    /// Identifier and sequence number, of an echo request or reply.
    pub fn echo(&self) -> Option<(u16, u16)> {
        matches!(self.kind(), kind::ECHO_REQUEST | kind::ECHO_REPLY).then(|| {
            (u16_at(self.bytes.as_ref(), field::REST), u16_at(self.bytes.as_ref(), field::REST + 2))
        })
    }

    /// Whether the message reports an error: types below 128 (RFC 4443 §2.1).
    pub fn is_error(&self) -> bool {
        self.kind() < 128
    }

    /// What follows the first eight bytes.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        from(self.bytes.as_ref(), Self::HEADER_LEN)
    }

    /// Whether the checksum is right for this pseudo-header.
    pub fn verify_checksum(&self, pseudo_header: Sum) -> bool {
        checksum::is_valid(checksum::sum(self.bytes.as_ref(), pseudo_header))
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Icmpv6<T> {
    /// Computes the checksum anew for this pseudo-header.
    pub fn fill_checksum(&mut self, pseudo_header: Sum) {
        put_u16(self.bytes.as_mut(), field::CHECKSUM, 0);
        let checksum = checksum::finish(checksum::sum(self.bytes.as_ref(), pseudo_header));
        put_u16(self.bytes.as_mut(), field::CHECKSUM, checksum);
    }

    /// What follows the first eight bytes, to be changed; the checksum is not adjusted.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        self.bytes.as_mut().get_mut(Self::HEADER_LEN..).unwrap_or_default()
    }
}

/// Offsets of the header's fields.
pub(super) mod field {
    pub(crate) const KIND: usize = 0;
    pub(crate) const CODE: usize = 1;
    pub(crate) const CHECKSUM: usize = 2;
    pub(crate) const REST: usize = 4;
}
