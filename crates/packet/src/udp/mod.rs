//! UDP (RFC 768).

mod header;
mod set;

pub use header::Header;

use super::Malformed;
use super::bytes::{u16_at, up_to};
use super::checksum::{self, Sum};

/// A UDP datagram.
///
/// Over bytes that can be changed, such as `&mut [u8]`, the view sets fields as well; a new header is
/// made by [`Header`].
#[derive(Clone, Copy, Debug)]
pub struct Udp<T: AsRef<[u8]>> {
    bytes: T,
    len: u16,
}

impl<T: AsRef<[u8]>> Udp<T> {
    /// Length of the header in bytes.
    pub const HEADER_LEN: usize = 8;

    /// Checks the length field; bytes after the datagram are cut off.
    ///
    /// # Errors
    /// [`Malformed`] where the length field is below 8 or beyond the bytes.
    #[inline]
    pub fn parse(bytes: T) -> Result<Self, Malformed> {
        let raw = bytes.as_ref();
        if raw.len() < Self::HEADER_LEN {
            return Err(Malformed::TooShort);
        }
        let len = u16_at(raw, field::LEN);
        if usize::from(len) < Self::HEADER_LEN || usize::from(len) > raw.len() {
            return Err(Malformed::BadTotalLength);
        }
        Ok(Self { bytes, len })
    }

    /// As [`Udp::parse`], for a datagram of which only the start may be there: in a fragment, quoted
    /// by an ICMP error, or cut to the snap length of a capture. The first 8 bytes must be there.
    ///
    /// [`Udp::total_len`] is then the value in the header, and accessors of bytes give those that are
    /// there.
    ///
    /// # Errors
    /// [`Malformed`] where the length field is below 8.
    pub fn parse_truncated(bytes: T) -> Result<Self, Malformed> {
        let raw = bytes.as_ref();
        if raw.len() < Self::HEADER_LEN {
            return Err(Malformed::TooShort);
        }
        let len = u16_at(raw, field::LEN);
        if usize::from(len) < Self::HEADER_LEN {
            return Err(Malformed::BadTotalLength);
        }
        Ok(Self { bytes, len })
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

    /// Length of header and payload in bytes.
    #[inline(always)]
    pub fn total_len(&self) -> usize {
        usize::from(self.len)
    }

    /// Checksum as it stands; 0 means that there is none.
    #[inline(always)]
    pub fn checksum(&self) -> u16 {
        u16_at(self.bytes.as_ref(), field::CHECKSUM)
    }

    /// What follows the header.
    #[inline(always)]
    pub fn payload(&self) -> &[u8] {
        up_to(self.bytes.as_ref(), Self::HEADER_LEN, self.total_len())
    }

    /// The whole datagram.
    #[inline(always)]
    pub fn as_bytes(&self) -> &[u8] {
        up_to(self.bytes.as_ref(), 0, self.total_len())
    }

    /// Whether the checksum is right for this pseudo-header, or is absent. Over IPv6 an absent one
    /// is an error, which the caller sees by [`Udp::checksum`].
    #[inline]
    pub fn verify_checksum(&self, pseudo_header: Sum) -> bool {
        self.checksum() == 0 || checksum::is_valid(checksum::sum(self.as_bytes(), pseudo_header))
    }
}

/// Offsets of the header's fields.
pub(super) mod field {
    pub(crate) const SOURCE: usize = 0;
    pub(crate) const DESTINATION: usize = 2;
    pub(crate) const LEN: usize = 4;
    pub(crate) const CHECKSUM: usize = 6;
}

#[cfg(test)]
mod tests {
    use super::super::{ipv4::Ipv4, samples};
    use super::*;

    #[test]
    fn reads_every_field() {
        let packet = samples::udp(b"hello");
        let ip = Ipv4::parse(&packet[..]).unwrap();
        let udp = Udp::parse(ip.payload()).unwrap();
        assert_eq!((udp.source_port(), udp.destination_port()), (4000, 53));
        assert_eq!((udp.total_len(), udp.payload()), (13, &b"hello"[..]));
        assert!(udp.verify_checksum(ip.pseudo_header()));
        assert!(!udp.verify_checksum(ip.pseudo_header().add_u16(1)));
    }

    #[test]
    fn refuses_bad_lengths() {
        let bytes = [0, 1, 0, 2, 0, 9, 0, 0, 7];
        assert_eq!(Udp::parse(&bytes[..7]).err(), Some(Malformed::TooShort));
        assert_eq!(Udp::parse(&bytes[..8]).err(), Some(Malformed::BadTotalLength));
        assert!(Udp::parse(bytes).is_ok_and(|udp| udp.verify_checksum(Sum::ZERO)));
        let mut short = bytes;
        short[5] = 7;
        assert_eq!(Udp::parse(short).err(), Some(Malformed::BadTotalLength));
        // A length below the bytes is a datagram with padding.
        let mut padded = bytes;
        padded[5] = 8;
        assert_eq!(Udp::parse(padded).unwrap().payload(), b"");
    }
}
