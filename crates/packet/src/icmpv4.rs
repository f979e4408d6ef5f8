//! ICMP for IPv4 (RFC 792).

use core::fmt;

use super::bytes::{array_at, from, u8_at, u16_at};
use super::checksum::{self, Sum};
use super::{Malformed, ipv4::Ipv4, protocol};

/// An ICMP message.
#[derive(Clone, Copy, Debug)]
pub struct Icmpv4<T: AsRef<[u8]>> {
    bytes: T,
}

/// Types of messages that this library names.
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Source quench (deprecated by RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

impl<T: AsRef<[u8]>> Icmpv4<T> {
    /// Length of the header in bytes.
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

    /// Whether the message reports an error, to which no error may be sent (RFC 1812 §4.3.2.7).
    /// Types that nobody has defined count as errors.
    pub fn is_error(&self) -> bool {
        !matches!(self.kind(), kind::ECHO_REPLY | kind::ECHO_REQUEST | 9 | 10 | 13..=18 | 42 | 43)
    }

    /// What follows the header: of an error, the head of the offending packet.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        from(self.bytes.as_ref(), Self::HEADER_LEN)
    }

    /// Whether the checksum is right.
    pub fn verify_checksum(&self) -> bool {
        checksum::is_valid(checksum::sum(self.bytes.as_ref(), Sum::ZERO))
    }
}

/// As tcpdump prints it.
impl<T: AsRef<[u8]>> fmt::Display for Icmpv4<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.bytes.as_ref().len();
        f.write_str("ICMP ")?;
        match (self.kind(), self.code()) {
            (kind::ECHO_REQUEST | kind::ECHO_REPLY, _) => {
                let name = if self.kind() == kind::ECHO_REPLY { "reply" } else { "request" };
                let (id, sequence) = self.echo().unwrap_or_default();
                write!(f, "echo {name}, id {id}, seq {sequence}")?;
            }
            (kind::UNREACHABLE, code) => self.fmt_unreachable(code, f)?,
            (kind::TIME_EXCEEDED, 0) => f.write_str("time exceeded in-transit")?,
            (kind::TIME_EXCEEDED, 1) => f.write_str("ip reassembly time exceeded")?,
            (kind::SOURCE_QUENCH, 0) => f.write_str("source quench")?,
            (kind, code) => write!(f, "type-#{kind} code-#{code}")?,
        }
        write!(f, ", length {len}")
    }
}

impl<T: AsRef<[u8]>> Icmpv4<T> {
    fn fmt_unreachable(&self, code: u8, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The quoted packet is cut short, so its total length would not pass a parse.
        let quoted = self.payload();
        let header_len = usize::from(u8_at(quoted, 0) & 0x0f) * 4;
        if quoted.len() < Ipv4::<&[u8]>::MIN_HEADER_LEN || quoted.len() < header_len {
            return write!(f, "unreachable code-#{code}");
        }
        let destination = core::net::Ipv4Addr::from(array_at::<4>(quoted, 16));
        let protocol = u8_at(quoted, 9);
        match code {
            0 => write!(f, "net {destination} unreachable"),
            1 => write!(f, "host {destination} unreachable"),
            2 => write!(f, "{destination} protocol {protocol} unreachable"),
            3 if matches!(protocol, protocol::TCP | protocol::UDP) => {
                let (name, port) = (protocol::Name(protocol), u16_at(quoted, header_len + 2));
                write!(f, "{destination} {name} port {port} unreachable")
            }
            4 => match u16_at(self.bytes.as_ref(), 6) {
                0 => write!(f, "{destination} unreachable - need to frag"),
                mtu => write!(f, "{destination} unreachable - need to frag (mtu {mtu})"),
            },
            13 => write!(f, "host {destination} unreachable - admin prohibited filter"),
            code => write!(f, "{destination} unreachable - #{code}"),
        }
    }
}
