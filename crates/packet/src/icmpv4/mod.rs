//! ICMP for IPv4 (RFC 792).

mod header;

pub use header::Header;

use super::Malformed;
use super::bytes::{array_at, from, put_u16, u8_at, u16_at};
use super::checksum::{self, Sum};

/// An ICMP message.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv4<T: AsRef<[u8]>> {
    bytes: T,
}

/// Types of messages that this library names.
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Source quench (deprecated by RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

impl<T: AsRef<[u8]>> Icmpv4<T> {
    /// Length of the header in bytes.
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

    /// Whether the message reports an error, to which no error may be sent (RFC 1812 §4.3.2.7).
    /// Types that IANA has not assigned count as errors.
    pub fn is_error(&self) -> bool {
        !matches!(self.kind(), kind::ECHO_REPLY | kind::ECHO_REQUEST | 9 | 10 | 13..=18 | 42 | 43)
    }

    /// What follows the header: of an error, the head of the offending packet.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        from(self.bytes.as_ref(), Self::HEADER_LEN)
    }

    /// Whether the checksum is right.
    pub fn verify_checksum(&self) -> bool {
        checksum::is_valid(checksum::sum(self.bytes.as_ref(), Sum::ZERO))
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Icmpv4<T> {
    /// Computes the checksum anew.
    pub fn fill_checksum(&mut self) {
        put_u16(self.bytes.as_mut(), field::CHECKSUM, 0);
        let checksum = checksum::finish(checksum::sum(self.bytes.as_ref(), Sum::ZERO));
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
