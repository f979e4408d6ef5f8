//! The wire of flannel's `udp` backend: a datagram's payload is one inner IPv4 packet and nothing
//! else, at most as long as the overlay's MTU.

use core::fmt;

use super::{Malformed, ipv4::Ipv4};

/// UDP port that flannel uses unless the network config names another.
pub const DEFAULT_PORT: u16 = 8285;

/// Bytes of the outer headers of each packet, IPv4 and UDP. The overlay's MTU is the underlay's less
/// this.
pub const OVERHEAD: usize = 28;

/// Longest inner packet in bytes: a UDP payload over IPv4, 65,535 less [`OVERHEAD`].
pub const MAX_PACKET: usize = 65_507;

/// The MTU of an overlay, in bytes, whose packets cross links of this MTU.
pub const fn overlay_mtu(underlay_mtu: u32) -> u16 {
    let mtu = (underlay_mtu as usize).saturating_sub(OVERHEAD);
    if mtu > MAX_PACKET { MAX_PACKET as u16 } else { mtu as u16 }
}

/// Why a packet must not cross the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WireError {
    /// It is not a whole IPv4 packet.
    Malformed(Malformed),
    /// It is longer than the overlay's MTU.
    OverMtu {
        /// Its length in bytes.
        len: usize,
    },
}

/// The inner packet of a datagram that was received, at most `mtu` bytes long.
///
/// Bytes behind the inner packet are cut off. The header checksum is not verified: the host that
/// receives the packet does that, as behind any router that updates it (RFC 1624).
///
/// # Errors
/// [`WireError`] says why the datagram must be dropped.
#[inline]
pub fn parse<T: AsRef<[u8]>>(datagram: T, mtu: usize) -> Result<Ipv4<T>, WireError> {
    let packet = Ipv4::parse(datagram).map_err(WireError::Malformed)?;
    check_len(packet.total_len(), mtu)?;
    Ok(packet)
}

/// Checks the length of a packet that is to be sent: its own, or that of the longest of its
/// segments.
///
/// # Errors
/// [`WireError::OverMtu`].
#[inline]
pub fn check_len(len: usize, mtu: usize) -> Result<(), WireError> {
    if len > mtu { Err(WireError::OverMtu { len }) } else { Ok(()) }
}

impl From<Malformed> for WireError {
    #[inline]
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::OverMtu { len } => write!(f, "{len} bytes, longer than the overlay's MTU"),
        }
    }
}

impl core::error::Error for WireError {}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn an_overlay_gets_what_the_outer_headers_leave() {
        assert_eq!(
            [0, 28, 1_500, 65_535, u32::MAX].map(overlay_mtu),
            [0, 0, 1_472, 65_507, 65_507]
        );
    }

    #[test]
    fn takes_exactly_one_packet() {
        let mut datagram = samples::udp(b"hello");
        let len = datagram.len();
        assert_eq!(parse(&datagram, len).unwrap().as_bytes(), &datagram[..]);
        assert_eq!(parse(&datagram, len - 1).err(), Some(WireError::OverMtu { len }));
        let cut = parse(&datagram[..len - 1], 1472);
        assert_eq!(cut.err(), Some(WireError::Malformed(Malformed::BadTotalLength)));
        datagram.push(0xff);
        assert_eq!(parse(&datagram, len).unwrap().total_len(), len);
    }

    #[test]
    fn names_what_is_wrong() {
        let good = samples::udp(b"hello");
        let with = |at: usize, value: u8| {
            let mut bad = good.clone();
            bad[at] = value;
            parse(&bad, 1472).err()
        };
        let malformed = |error| Some(WireError::Malformed(error));
        assert_eq!(parse(&good[..19], 1472).err(), malformed(Malformed::TooShort));
        assert_eq!(parse(&[0xff; 20], 1472).err(), malformed(Malformed::BadVersion));
        assert_eq!(with(0, 0x65), malformed(Malformed::BadVersion));
        assert_eq!(with(0, 0x44), malformed(Malformed::BadHeaderLength));
        assert_eq!(with(0, 0x4f), malformed(Malformed::BadHeaderLength));
        assert_eq!(with(2, 0x01), malformed(Malformed::BadTotalLength));
        assert_eq!(with(3, 0x13), malformed(Malformed::BadTotalLength));
        assert_eq!(with(3, 0x14), None);
    }

    #[test]
    fn the_longest_packet_fills_a_datagram() {
        assert_eq!(MAX_PACKET + OVERHEAD, usize::from(u16::MAX));
        assert_eq!(check_len(MAX_PACKET, MAX_PACKET), Ok(()));
    }
}
