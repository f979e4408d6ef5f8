//! The header of an ICMPv6 message by its fields, to be written.

use super::super::bytes::{put, put_u8, put_u16};
use super::super::checksum::{self, Sum};
use super::super::emit::{EmitError, emit};
use super::{Icmpv6, field, kind};

/// The fields of the header of an ICMPv6 message (RFC 4443), from which its bytes are made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// Type of the message ([`kind`]).
    pub kind: u8,
    /// Code, which refines the type.
    pub code: u8,
    /// Checksum.
    pub checksum: u16,
    /// The four bytes whose meaning depends on the type.
    pub rest_of_header: [u8; 4],
}

impl Header {
    /// Length of the header in bytes.
    pub const LEN: usize = 8;

    /// A header without a checksum.
    pub const fn new(kind: u8, code: u8, rest_of_header: [u8; 4]) -> Self {
        Self { kind, code, checksum: 0, rest_of_header }
    }

    /// The header of an echo request, without a checksum.
    pub const fn echo_request(id: u16, sequence: u16) -> Self {
        Self::echo(kind::ECHO_REQUEST, id, sequence)
    }

    /// The header of an echo reply, without a checksum.
    pub const fn echo_reply(id: u16, sequence: u16) -> Self {
        Self::echo(kind::ECHO_REPLY, id, sequence)
    }

    const fn echo(kind: u8, id: u16, sequence: u16) -> Self {
        let ([a, b], [c, d]) = (id.to_be_bytes(), sequence.to_be_bytes());
        Self::new(kind, 0, [a, b, c, d])
    }

    /// This header with the checksum for `pseudo_header` and `payload`.
    #[must_use]
    pub fn with_checksum(self, pseudo_header: Sum, payload: &[u8]) -> Self {
        let sum = checksum::sum(&Self { checksum: 0, ..self }.to_bytes(), pseudo_header);
        Self { checksum: checksum::finish(checksum::sum(payload, sum)), ..self }
    }

    /// The bytes of the header.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        put_u8(&mut bytes, field::KIND, self.kind);
        put_u8(&mut bytes, field::CODE, self.code);
        put_u16(&mut bytes, field::CHECKSUM, self.checksum);
        put(&mut bytes, field::REST, self.rest_of_header);
        bytes
    }

    /// Writes the header to the start of `out` and returns what follows it there.
    ///
    /// # Errors
    /// [`EmitError::BufferTooShort`] below 8 bytes; `out` is then unchanged.
    pub fn emit<'a>(&self, out: &'a mut [u8]) -> Result<&'a mut [u8], EmitError> {
        emit(&self.to_bytes(), out)
    }
}

/// The fields of a message's header.
impl<T: AsRef<[u8]>> From<&Icmpv6<T>> for Header {
    fn from(message: &Icmpv6<T>) -> Self {
        Self {
            kind: message.kind(),
            code: message.code(),
            checksum: message.checksum(),
            rest_of_header: message.rest_of_header(),
        }
    }
}
