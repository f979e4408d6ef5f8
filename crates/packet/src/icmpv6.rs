//! ICMP for IPv6 (RFC 4443).

use core::fmt;
use core::net::Ipv6Addr;

use super::bytes::{array_at, from, u8_at, u16_at};
use super::checksum::{self, Sum};
use super::ipv6::{Ipv6, field};
use super::{Malformed, protocol};

/// An ICMPv6 message.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv6<T: AsRef<[u8]>> {
    bytes: T,
}

/// Types of messages that this library names.
pub mod kind {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Router solicitation (RFC 4861).
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement (RFC 4861).
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation (RFC 4861).
    pub const NEIGHBOR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement (RFC 4861).
    pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
}

impl<T: AsRef<[u8]>> Icmpv6<T> {
    /// Length in bytes of the header and of the shortest body that any type has.
    pub const HEADER_LEN: usize = 8;

    /// Checks the length.
    ///
    /// # Errors
    /// [`Malformed::TooShort`] below 8 bytes.
    #[inline]
    pub fn parse(bytes: T) -> Result<Self, Malformed> {
        if bytes.as_ref().len() < Self::HEADER_LEN {
            return Err(Malformed::TooShort);
        }
        Ok(Self { bytes })
    }

    /// Type of the message ([`kind`]).
    #[inline]
    pub fn kind(&self) -> u8 {
        u8_at(self.bytes.as_ref(), 0)
    }

    /// Code, which refines the type.
    #[inline]
    pub fn code(&self) -> u8 {
        u8_at(self.bytes.as_ref(), 1)
    }

    /// Checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.bytes.as_ref(), 2)
    }

    /// The four bytes whose meaning depends on the type.
    #[inline]
    pub fn rest_of_header(&self) -> [u8; 4] {
        array_at(self.bytes.as_ref(), 4)
    }

    /// Identifier and sequence number, of an echo request or reply.
    pub fn echo(&self) -> Option<(u16, u16)> {
        matches!(self.kind(), kind::ECHO_REQUEST | kind::ECHO_REPLY)
            .then(|| (u16_at(self.bytes.as_ref(), 4), u16_at(self.bytes.as_ref(), 6)))
    }

    /// Whether the message reports an error: types below 128 (RFC 4443 §2.1).
    pub fn is_error(&self) -> bool {
        self.kind() < 128
    }

    /// What follows the first eight bytes.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        from(self.bytes.as_ref(), Self::HEADER_LEN)
    }

    /// Whether the checksum is right for this pseudo-header.
    pub fn verify_checksum(&self, pseudo_header: Sum) -> bool {
        checksum::is_valid(checksum::sum(self.bytes.as_ref(), pseudo_header))
    }
}

/// As tcpdump prints it.
impl<T: AsRef<[u8]>> fmt::Display for Icmpv6<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.bytes.as_ref().len();
        f.write_str("ICMP6, ")?;
        match (self.kind(), self.code()) {
            (kind::ECHO_REQUEST | kind::ECHO_REPLY, _) => {
                let name = if self.kind() == kind::ECHO_REPLY { "reply" } else { "request" };
                let (id, sequence) = self.echo().unwrap_or_default();
                write!(f, "echo {name}, id {id}, seq {sequence}")?;
            }
            (kind::UNREACHABLE, code) => self.fmt_unreachable(code, f)?,
            (kind::PACKET_TOO_BIG, _) => {
                write!(f, "packet too big, mtu {}", u32::from_be_bytes(self.rest_of_header()))?;
            }
            (kind::TIME_EXCEEDED, 0) => f.write_str("time exceeded in-transit")?,
            (kind::TIME_EXCEEDED, 1) => f.write_str("ip reassembly time exceeded")?,
            (kind::ROUTER_SOLICITATION, _) => f.write_str("router solicitation")?,
            (kind::ROUTER_ADVERTISEMENT, _) => f.write_str("router advertisement")?,
            (kind::NEIGHBOR_SOLICITATION, _) => {
                write!(f, "neighbor solicitation, who has {}", self.target())?;
            }
            (kind::NEIGHBOR_ADVERTISEMENT, _) => {
                write!(f, "neighbor advertisement, tgt is {}", self.target())?;
            }
            (kind, code) => write!(f, "unknown icmp6 type ({kind}), code {code}")?,
        }
        write!(f, ", length {len}")
    }
}

impl<T: AsRef<[u8]>> Icmpv6<T> {
    /// The target of neighbour discovery; `::` where the message is too short for one.
    fn target(&self) -> Ipv6Addr {
        Ipv6Addr::from(array_at::<16>(self.payload(), 0))
    }

    fn fmt_unreachable(&self, code: u8, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("destination unreachable, ")?;
        let quoted = self.payload();
        if quoted.len() < Ipv6::<&[u8]>::HEADER_LEN + 4 {
            return write!(f, "unknown code ({code})");
        }
        let destination = Ipv6Addr::from(array_at::<16>(quoted, field::DESTINATION));
        let next = u8_at(quoted, field::NEXT_HEADER);
        match code {
            0 => write!(f, "unreachable route {destination}"),
            1 => write!(f, "unreachable prohibited {destination}"),
            3 => write!(f, "unreachable address {destination}"),
            4 if matches!(next, protocol::TCP | protocol::UDP) => {
                let (name, port) = (protocol::Name(next), u16_at(quoted, 42));
                write!(f, "unreachable port, {destination} {name} port {port}")
            }
            code => write!(f, "unknown code ({code})"),
        }
    }
}
