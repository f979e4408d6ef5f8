//! TCP (RFC 9293).

mod flags;
mod header;
mod options;
mod set;

pub use flags::Flags;
pub use header::Header;
pub use options::{Options, TcpOption};

use super::Malformed;
use super::bytes::{from, u8_at, u16_at, u32_at, up_to};
use super::checksum::{self, Sum};

/// A TCP segment.
///
/// Over bytes that can be changed, such as `&mut [u8]`, the view sets fields as well; a new header is
/// made by [`Header`].
#[derive(Clone, Copy, Debug)]
pub struct Tcp<T: AsRef<[u8]>> {
    bytes: T,
    header_len: u8,
}

impl<T: AsRef<[u8]>> Tcp<T> {
    /// Length in bytes of a header without options.
    pub const MIN_HEADER_LEN: usize = 20;
    /// Length in bytes of the longest header.
    pub const MAX_HEADER_LEN: usize = 60;

    /// Checks the header length.
    ///
    /// # Errors
    /// [`Malformed`] where the header length is below 20 or beyond the bytes.
    #[inline]
    pub fn parse(bytes: T) -> Result<Self, Malformed> {
        let raw = bytes.as_ref();
        if raw.len() < Self::MIN_HEADER_LEN {
            return Err(Malformed::TooShort);
        }
        let header_len = (u8_at(raw, field::DATA_OFFSET) >> 4) * 4;
        if usize::from(header_len) < Self::MIN_HEADER_LEN || usize::from(header_len) > raw.len() {
            return Err(Malformed::BadHeaderLength);
        }
        Ok(Self { bytes, header_len })
    }

    /// As [`Tcp::parse`], for a segment of which only the start may be there, as in a capture. The first
    /// 20 bytes must be there.
    ///
    /// [`Tcp::header_len`] is then the value in the header, and accessors of bytes give those that are
    /// there.
    ///
    /// # Errors
    /// [`Malformed`] where the header length is below 20.
    pub fn parse_truncated(bytes: T) -> Result<Self, Malformed> {
        let raw = bytes.as_ref();
        if raw.len() < Self::MIN_HEADER_LEN {
            return Err(Malformed::TooShort);
        }
        let header_len = (u8_at(raw, field::DATA_OFFSET) >> 4) * 4;
        if usize::from(header_len) < Self::MIN_HEADER_LEN {
            return Err(Malformed::BadHeaderLength);
        }
        Ok(Self { bytes, header_len })
    }

    /// Source port.
    #[inline(always)]
    pub fn source_port(&self) -> u16 {
        u16_at(self.bytes.as_ref(), field::SOURCE)
    }

    /// Destination port.
    #[inline(always)]
    pub fn destination_port(&self) -> u16 {
        u16_at(self.bytes.as_ref(), field::DESTINATION)
    }

    /// Sequence number.
    #[inline(always)]
    pub fn sequence(&self) -> u32 {
        u32_at(self.bytes.as_ref(), field::SEQUENCE)
    }

    /// Acknowledgment number.
    #[inline(always)]
    pub fn acknowledgment(&self) -> u32 {
        u32_at(self.bytes.as_ref(), field::ACKNOWLEDGMENT)
    }

    /// Header length in bytes, options included: 20 to 60.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.header_len)
    }

    /// Control bits.
    #[inline(always)]
    pub fn flags(&self) -> Flags {
        Flags(u8_at(self.bytes.as_ref(), field::FLAGS))
    }

    /// The four reserved bits beside the header length; accurate ECN uses the lowest.
    #[inline(always)]
    pub fn reserved(&self) -> u8 {
        u8_at(self.bytes.as_ref(), field::DATA_OFFSET) & 0x0f
    }

    /// Window, not scaled.
    #[inline(always)]
    pub fn window(&self) -> u16 {
        u16_at(self.bytes.as_ref(), field::WINDOW)
    }

    /// Checksum as it stands.
    #[inline(always)]
    pub fn checksum(&self) -> u16 {
        u16_at(self.bytes.as_ref(), field::CHECKSUM)
    }

    /// Urgent pointer.
    #[inline(always)]
    pub fn urgent_pointer(&self) -> u16 {
        u16_at(self.bytes.as_ref(), field::URGENT_POINTER)
    }

    /// The options, one after the other.
    #[inline]
    pub fn options(&self) -> Options<'_> {
        Options::new(self.option_bytes())
    }

    /// The options as they stand, padding included.
    #[inline(always)]
    pub fn option_bytes(&self) -> &[u8] {
        up_to(self.bytes.as_ref(), Self::MIN_HEADER_LEN, self.header_len())
    }

    /// What follows the header.
    #[inline(always)]
    pub fn payload(&self) -> &[u8] {
        from(self.bytes.as_ref(), self.header_len())
    }

    /// Whether the checksum is right for this pseudo-header.
    #[inline]
    pub fn verify_checksum(&self, pseudo_header: Sum) -> bool {
        checksum::is_valid(checksum::sum(self.bytes.as_ref(), pseudo_header))
    }
}

/// Offsets of the header's fields.
pub(super) mod field {
    pub(crate) const SOURCE: usize = 0;
    pub(crate) const DESTINATION: usize = 2;
    pub(crate) const SEQUENCE: usize = 4;
    pub(crate) const ACKNOWLEDGMENT: usize = 8;
    pub(crate) const DATA_OFFSET: usize = 12;
    pub(crate) const FLAGS: usize = 13;
    pub(crate) const WINDOW: usize = 14;
    pub(crate) const CHECKSUM: usize = 16;
    pub(crate) const URGENT_POINTER: usize = 18;
}

#[cfg(test)]
mod tests;
