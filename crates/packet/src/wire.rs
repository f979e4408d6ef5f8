//! The wire of flannel's `udp` backend: a datagram's payload is one inner IPv4 packet and nothing
//! else, at most as long as the overlay's MTU.

use core::fmt;

use super::{Malformed, ipv4::Ipv4};

/// UDP port that flannel uses unless the network config names another.
pub const DEFAULT_PORT: u16 = 8285;

/// Outer bytes on each packet: IPv4 and UDP headers. The overlay's MTU is the underlay's less this.
pub const OVERHEAD: usize = 28;

/// Why a packet must not cross the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WireError {
    /// Shorter than an IPv4 header.
    TooShort,
    /// Not IPv4.
    BadVersion,
    /// The header length is below 20 or beyond the packet.
    BadHeaderLength,
    /// The total length is beyond the datagram, or below the header's length.
    Truncated,
    /// Longer than the overlay's MTU.
    LongerThanMtu,
}

/// The inner packet of a datagram that came off the wire.
///
/// Bytes behind the inner packet are cut off. The header checksum is not looked at: whoever
/// receives the packet does that, as behind any router that patches it (RFC 1624).
///
/// # Errors
/// [`WireError`] says why the datagram must be dropped.
#[inline]
pub fn check_inner(datagram: &[u8], mtu: usize) -> Result<Ipv4<&[u8]>, WireError> {
    let packet = Ipv4::parse(datagram)?;
    if packet.total_len() > mtu {
        return Err(WireError::LongerThanMtu);
    }
    Ok(packet)
}

/// A packet that is to go onto the wire; `longest` is the length of the longest piece that it
/// will be sent in, which is its own length unless it is going to be segmented.
///
/// # Errors
/// [`WireError`] says why it must be dropped.
#[inline]
pub fn check_outgoing(packet: &[u8], longest: usize, mtu: usize) -> Result<Ipv4<&[u8]>, WireError> {
    let view = Ipv4::parse(packet)?;
    if longest > mtu {
        return Err(WireError::LongerThanMtu);
    }
    Ok(view)
}

impl From<Malformed> for WireError {
    #[inline]
    fn from(error: Malformed) -> Self {
        match error {
            Malformed::TooShort => Self::TooShort,
            Malformed::BadVersion => Self::BadVersion,
            Malformed::BadHeaderLength => Self::BadHeaderLength,
            Malformed::BadTotalLength | Malformed::BadExtension => Self::Truncated,
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "shorter than an IPv4 header",
            Self::BadVersion => "not IPv4",
            Self::BadHeaderLength => "header length out of bounds",
            Self::Truncated => "total length beyond the datagram or below the header's",
            Self::LongerThanMtu => "longer than the overlay's MTU",
        })
    }
}

impl core::error::Error for WireError {}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn takes_exactly_one_packet() {
        let mut datagram = samples::udp(b"hello");
        let len = datagram.len();
        assert_eq!(check_inner(&datagram, len).unwrap().as_bytes(), &datagram[..]);
        assert_eq!(check_inner(&datagram, len - 1).err(), Some(WireError::LongerThanMtu));
        assert_eq!(check_inner(&datagram[..len - 1], 1472).err(), Some(WireError::Truncated));
        datagram.push(0xff);
        assert_eq!(check_inner(&datagram, len).unwrap().total_len(), len);
    }

    #[test]
    fn names_what_is_wrong() {
        let good = samples::udp(b"hello");
        let with = |at: usize, value: u8| {
            let mut bad = good.clone();
            bad[at] = value;
            check_inner(&bad, 1472).err()
        };
        assert_eq!(check_inner(&good[..19], 1472).err(), Some(WireError::TooShort));
        assert_eq!(check_inner(&[0xff; 20], 1472).err(), Some(WireError::BadVersion));
        assert_eq!(with(0, 0x65), Some(WireError::BadVersion));
        assert_eq!(with(0, 0x44), Some(WireError::BadHeaderLength));
        assert_eq!(with(0, 0x4f), Some(WireError::BadHeaderLength));
        assert_eq!(with(2, 0x01), Some(WireError::Truncated));
        assert_eq!(with(3, 0x13), Some(WireError::Truncated));
        assert_eq!(with(3, 0x14), None);
    }

    #[test]
    fn outgoing_is_judged_by_its_pieces() {
        let packet = samples::udp(&[0; 3000]);
        assert_eq!(check_outgoing(&packet, 1472, 1472).unwrap().total_len(), 3028);
        let whole = check_outgoing(&packet, packet.len(), 1472);
        assert_eq!(whole.err(), Some(WireError::LongerThanMtu));
    }
}
