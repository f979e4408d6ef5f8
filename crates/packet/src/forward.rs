//! What a router does to a packet that it forwards.

use core::fmt;

use super::bytes::{array_at, put};
use super::checksum;
use super::ipv4::field::TTL;

/// The time to live is used up: the packet must be dropped, and its sender may be told
/// ([`super::icmp`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Expired;

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("time to live exceeded")
    }
}

impl core::error::Error for Expired {}

/// Takes one hop off an IPv4 packet's time to live and patches its header checksum (RFC 1624);
/// returns what is left, at least 1.
///
/// `packet` must have passed [`super::ipv4::Ipv4::parse`]. A checksum that was wrong stays wrong.
///
/// # Errors
/// [`Expired`] where the time to live was 1 or 0; the packet is then unchanged.
#[inline]
pub fn decrement_ttl(packet: &mut [u8]) -> Result<u8, Expired> {
    let [ttl, protocol, c, d, e, f, g, h] = array_at::<8>(packet, TTL);
    if ttl <= 1 {
        return Err(Expired);
    }
    let old = u16::from_be_bytes([ttl, protocol]);
    let [c, d] = checksum::update(u16::from_be_bytes([c, d]), old, old - 0x0100).to_be_bytes();
    // One store of the width that sums load: a narrower one would stall the next load of the
    // header until it has reached the cache.
    put(packet, TTL, [ttl - 1, protocol, c, d, e, f, g, h]);
    Ok(ttl - 1)
}

#[cfg(test)]
mod tests {
    use super::super::bytes::{put_u16, u16_at};
    use super::super::ipv4::{Ipv4, field::CHECKSUM};
    use super::super::samples;
    use super::*;

    /// Every time to live beside every value of the rest of the header's sum.
    #[test]
    #[cfg_attr(miri, ignore = "2^24 cases")]
    fn checksum_stays_right_for_all_headers() {
        let mut packet = *b"\x45\0\0\x14\0\0\x40\0\0\x11\0\0\x0a\0\0\x01\x0a\0\0\x02";
        let rest = !samples::reference_checksum(&packet);
        let whole = |ttl: u8, id: u16| {
            let sum = u32::from(rest) + u32::from(id) + (u32::from(ttl) << 8);
            let sum = (sum & 0xffff) + (sum >> 16);
            !((sum & 0xffff) + (sum >> 16)) as u16
        };
        for ttl in 0..=255u8 {
            for id in 0..=0xffffu16 {
                packet[8] = ttl;
                put_u16(&mut packet, 4, id);
                put_u16(&mut packet, CHECKSUM, whole(ttl, id));
                let left = decrement_ttl(&mut packet);
                if ttl <= 1 {
                    assert_eq!((left, packet[8]), (Err(Expired), ttl));
                } else {
                    assert_eq!((left, packet[8]), (Ok(ttl - 1), ttl - 1));
                    assert_eq!(u16_at(&packet, CHECKSUM), whole(ttl - 1, id), "{ttl} {id}");
                }
            }
        }
        put_u16(&mut packet, CHECKSUM, 0);
        assert_eq!(whole(254, 0xffff), samples::reference_checksum(&packet));
    }

    #[test]
    fn wrong_checksum_stays_wrong() {
        let mut packet = samples::udp(b"x");
        packet[10] ^= 0x40;
        assert_eq!(decrement_ttl(&mut packet), Ok(63));
        assert!(!Ipv4::parse(&packet[..]).unwrap().verify_checksum());
    }
}
