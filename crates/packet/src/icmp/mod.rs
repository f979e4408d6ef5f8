//! ICMP errors that a router sends about packets that it cannot forward (RFC 792, RFC 1812 §4.3).

use core::net::Ipv4Addr;

use super::icmpv4::{self, Icmpv4, kind};
use super::ipv4::{self, Ipv4};
use super::protocol;

/// Why the router could not forward the packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorKind {
    /// No route: destination unreachable, network unreachable.
    NetUnreachable,
    /// The time to live is used up: time exceeded in transit.
    TimeExceeded,
    /// The packet is too long for the next link: fragmentation needed and DF set (RFC 1191 §4).
    FragmentationNeeded {
        /// MTU of that link, in bytes.
        mtu: u16,
    },
}

/// Length in bytes of the longest message that [`error`] writes.
pub const MAX_LEN: usize = HEADERS + Ipv4::<&[u8]>::MAX_HEADER_LEN + QUOTED_PAYLOAD;

/// Writes to `out` the ICMP error for the sender of `offender`, with `source` as the error's source
/// address; returns the packet's length in bytes.
///
/// It quotes the offender's header and eight bytes after it, as flannel does. `offender` is the
/// packet as it came, its time to live not yet decremented; of its payload, the first eight bytes are
/// enough.
///
/// `None` where RFC 1812 §4.3.2.7 forbids a message: about an ICMP error, a fragment that is not
/// the first, a packet to a broadcast or multicast address, one whose source is not a single host
/// (unspecified, loopback, multicast, reserved, broadcast), one whose header is not valid. `None`
/// also if `out` is shorter than the message; [`MAX_LEN`] is always enough.
pub fn error(kind: ErrorKind, offender: &[u8], source: Ipv4Addr, out: &mut [u8]) -> Option<usize> {
    let offender = Ipv4::parse_truncated(offender).ok()?;
    let enough = offender.total_len().min(offender.header_len() + QUOTED_PAYLOAD);
    let quoted = offender.as_bytes().get(..enough)?;
    if !may_be_answered(&offender) {
        return None;
    }
    let len = HEADERS + quoted.len();
    let out = out.get_mut(..len)?;
    let (ttl, icmp_type, code, mtu) = match kind {
        ErrorKind::NetUnreachable => (FLANNEL_TTL, kind::UNREACHABLE, 0, 0),
        ErrorKind::TimeExceeded => (DEFAULT_TTL, kind::TIME_EXCEEDED, 0, 0),
        ErrorKind::FragmentationNeeded { mtu } => {
            (DEFAULT_TTL, kind::UNREACHABLE, FRAGMENTATION_NEEDED, mtu)
        }
    };
    let message_len = (len - ipv4::Header::LEN) as u16;
    let ip = ipv4::Header {
        dont_fragment: false,
        ttl,
        ..ipv4::Header::new(protocol::ICMP, source, offender.source(), message_len)
    };
    let [high, low] = mtu.to_be_bytes();
    let message = icmpv4::Header::new(icmp_type, code, [0, 0, high, low]).with_checksum(quoted);
    let rest = message.emit(ip.emit(out).ok()?).ok()?;
    rest.copy_from_slice(quoted);
    Some(len)
}

/// RFC 1812 §4.3.2.7, as far as a packet shows it.
fn may_be_answered(offender: &Ipv4<&[u8]>) -> bool {
    let (source, destination) = (offender.source(), offender.destination());
    let is_icmp_error = || {
        // An ICMP message too short to show its type is no better than an error.
        Icmpv4::parse(offender.payload()).map_or(true, |message| message.is_error())
    };
    let from_one_host = !(source.octets()[0] == 0
        || source.is_loopback()
        || source.is_multicast()
        || is_reserved(source));
    let to_one_host = !(destination.is_multicast() || destination.is_broadcast());
    from_one_host
        && to_one_host
        && offender.fragment_offset() == 0
        && offender.verify_checksum()
        && !(offender.protocol() == protocol::ICMP && is_icmp_error())
}

/// 240.0.0.0/4, the limited broadcast address included.
fn is_reserved(address: Ipv4Addr) -> bool {
    address.to_bits() >> 28 == 0xf
}

/// flannel's choice.
const FLANNEL_TTL: u8 = 8;
/// RFC 1700's.
const DEFAULT_TTL: u8 = 64;
/// The code of a destination unreachable message, RFC 792.
const FRAGMENTATION_NEEDED: u8 = 4;
const HEADERS: usize = ipv4::Header::LEN + icmpv4::Header::LEN;
/// RFC 792: the offender's header and 64 bits of what follows.
const QUOTED_PAYLOAD: usize = 8;

#[cfg(test)]
mod tests;
