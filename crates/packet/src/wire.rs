//! The wire of flannel's `udp` backend: a datagram's payload is one inner IPv4 packet and nothing
//! else.

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

/// The inner packet of a datagram that was received, whatever its length: that it has come is proof
/// that its path carries it, and the host that receives it fragments it or answers, as any router.
///
/// Bytes behind the inner packet are cut off. The header checksum is not verified: the host that
/// receives the packet does that, as behind any router that updates it (RFC 1624).
///
/// # Errors
/// [`Malformed`] says why the datagram must be dropped.
#[inline]
pub fn parse<T: AsRef<[u8]>>(datagram: T) -> Result<Ipv4<T>, Malformed> {
    Ipv4::parse(datagram)
}

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
        assert_eq!(parse(&datagram).unwrap().as_bytes(), &datagram[..]);
        let cut = parse(&datagram[..len - 1]);
        assert_eq!(cut.err(), Some(Malformed::BadTotalLength));
        datagram.push(0xff);
        assert_eq!(parse(&datagram).unwrap().total_len(), len);
    }

    #[test]
    fn names_what_is_wrong() {
        let good = samples::udp(b"hello");
        let with = |at: usize, value: u8| {
            let mut bad = good.clone();
            bad[at] = value;
            parse(&bad).err()
        };
        assert_eq!(parse(&good[..19]).err(), Some(Malformed::TooShort));
        assert_eq!(parse(&[0xff; 20]).err(), Some(Malformed::BadVersion));
        assert_eq!(with(0, 0x65), Some(Malformed::BadVersion));
        assert_eq!(with(0, 0x44), Some(Malformed::BadHeaderLength));
        assert_eq!(with(0, 0x4f), Some(Malformed::BadHeaderLength));
        assert_eq!(with(2, 0x01), Some(Malformed::BadTotalLength));
        assert_eq!(with(3, 0x13), Some(Malformed::BadTotalLength));
        assert_eq!(with(3, 0x14), None);
    }

    #[test]
    fn the_longest_packet_fills_a_datagram() {
        assert_eq!(MAX_PACKET + OVERHEAD, usize::from(u16::MAX));
    }
}
