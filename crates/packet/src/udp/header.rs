//! A UDP header by its fields, to be written.

use super::super::bytes::put_u16;
use super::super::checksum::{self, Sum};
use super::super::emit::{EmitError, emit};
use super::{Udp, field};

/// The fields of a UDP header (RFC 768), from which its bytes are made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Length of header and payload in bytes.
    pub total_len: u16,
    /// Checksum; 0 means that there is none, which IPv6 does not allow.
    pub checksum: u16,
}

impl Header {
    /// Length of the header in bytes.
    pub const LEN: usize = 8;

    /// A header without a checksum. `payload_len`, in bytes, is at most 65,527; a greater one is
    /// taken for that.
    pub const fn new(source_port: u16, destination_port: u16, payload_len: u16) -> Self {
        let total_len = payload_len.saturating_add(Self::LEN as u16);
        Self { source_port, destination_port, total_len, checksum: 0 }
    }

    /// This header with the checksum for `pseudo_header` and `payload`.
    #[must_use]
    pub fn with_checksum(self, pseudo_header: Sum, payload: &[u8]) -> Self {
        let sum = checksum::sum(&Self { checksum: 0, ..self }.to_bytes(), pseudo_header);
        Self { checksum: checksum::finish_udp(checksum::sum(payload, sum)), ..self }
    }

    /// The bytes of the header.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        put_u16(&mut bytes, field::SOURCE, self.source_port);
        put_u16(&mut bytes, field::DESTINATION, self.destination_port);
        put_u16(&mut bytes, field::LEN, self.total_len);
        put_u16(&mut bytes, field::CHECKSUM, self.checksum);
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

/// The fields of a datagram's header.
impl<T: AsRef<[u8]>> From<&Udp<T>> for Header {
    fn from(datagram: &Udp<T>) -> Self {
        Self {
            source_port: datagram.source_port(),
            destination_port: datagram.destination_port(),
            total_len: datagram.len,
            checksum: datagram.checksum(),
        }
    }
}
