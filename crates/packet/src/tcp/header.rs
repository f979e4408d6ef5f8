//! A TCP header by its fields, to be written.

use super::super::bytes::{put_u8, put_u16, put_u32};
use super::super::checksum::{self, Sum};
use super::super::emit::{EmitError, emit};
use super::{Flags, Tcp, field};

/// The fields of a TCP header (RFC 9293), from which its bytes are made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Header<'a> {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// The reserved bits beside the header length, of which the low four count.
    pub reserved: u8,
    /// Control bits.
    pub flags: Flags,
    /// Window, not scaled.
    pub window: u16,
    /// Checksum.
    pub checksum: u16,
    /// Urgent pointer.
    pub urgent_pointer: u16,
    /// The options as they stand in the header, at most 40 bytes. The header is padded with zeros
    /// to a multiple of four bytes.
    pub options: &'a [u8],
}

impl Header<'_> {
    /// Length of the header in bytes, options and padding included.
    pub const fn header_len(&self) -> usize {
        Tcp::<&[u8]>::MIN_HEADER_LEN + self.options.len().div_ceil(4) * 4
    }

    /// This header with the checksum for `pseudo_header` and `payload`. Options longer than 40 bytes
    /// leave it without one, for [`Header::emit`] refuses them.
    #[must_use]
    pub fn with_checksum(self, pseudo_header: Sum, payload: &[u8]) -> Self {
        let mut bytes = [0; Tcp::<&[u8]>::MAX_HEADER_LEN];
        match (Self { checksum: 0, ..self }).write(&mut bytes) {
            Ok(header) => {
                let sum = checksum::sum(header, pseudo_header);
                Self { checksum: checksum::finish(checksum::sum(payload, sum)), ..self }
            }
            Err(_) => self,
        }
    }

    /// Writes the header to the start of `out` and returns what follows it there.
    ///
    /// # Errors
    /// [`EmitError`] where `out` is shorter than the header or the options are too long; `out` is
    /// then unchanged.
    pub fn emit<'b>(&self, out: &'b mut [u8]) -> Result<&'b mut [u8], EmitError> {
        let mut bytes = [0; Tcp::<&[u8]>::MAX_HEADER_LEN];
        emit(self.write(&mut bytes)?, out)
    }

    /// The bytes of the header, at the start of `bytes`, which is all zeros.
    fn write<'b>(
        &self,
        bytes: &'b mut [u8; Tcp::<&[u8]>::MAX_HEADER_LEN],
    ) -> Result<&'b [u8], EmitError> {
        let len = self.header_len();
        let bytes = bytes.get_mut(..len).ok_or(EmitError::OptionsTooLong)?;
        put_u16(bytes, field::SOURCE, self.source_port);
        put_u16(bytes, field::DESTINATION, self.destination_port);
        put_u32(bytes, field::SEQUENCE, self.sequence);
        put_u32(bytes, field::ACKNOWLEDGMENT, self.acknowledgment);
        put_u8(bytes, field::DATA_OFFSET, ((len / 4) as u8) << 4 | self.reserved & 0x0f);
        put_u8(bytes, field::FLAGS, self.flags.0);
        put_u16(bytes, field::WINDOW, self.window);
        put_u16(bytes, field::CHECKSUM, self.checksum);
        put_u16(bytes, field::URGENT_POINTER, self.urgent_pointer);
        let start = Tcp::<&[u8]>::MIN_HEADER_LEN;
        if let Some(options) = bytes.get_mut(start..start + self.options.len()) {
            options.copy_from_slice(self.options);
        }
        Ok(bytes)
    }
}

/// The fields of a segment's header.
impl<'a> From<&Tcp<&'a [u8]>> for Header<'a> {
    fn from(segment: &Tcp<&'a [u8]>) -> Self {
        let options = segment.bytes.get(Tcp::<&[u8]>::MIN_HEADER_LEN..segment.header_len());
        Self {
            source_port: segment.source_port(),
            destination_port: segment.destination_port(),
            sequence: segment.sequence(),
            acknowledgment: segment.acknowledgment(),
            reserved: segment.reserved(),
            flags: segment.flags(),
            window: segment.window(),
            checksum: segment.checksum(),
            urgent_pointer: segment.urgent_pointer(),
            options: options.unwrap_or_default(),
        }
    }
}
