//! ICMP for IPv4.

use core::fmt::{self, Display, Formatter};
use core::net::Ipv4Addr;

use super::super::bytes::{u8_at, u16_at};
use super::super::icmpv4::{Icmpv4, kind};
use super::super::ipv4::Ipv4;
use super::super::protocol;

impl<T: AsRef<[u8]>> Display for Icmpv4<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        fmt(self, Self::HEADER_LEN + self.payload().len(), f)
    }
}

/// `len` is the length of the message, of which not all need be there.
pub(super) fn fmt<T: AsRef<[u8]>>(
    icmp: &Icmpv4<T>,
    len: usize,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    f.write_str("ICMP ")?;
    match (icmp.kind(), icmp.code()) {
        (kind::ECHO_REQUEST | kind::ECHO_REPLY, _) => {
            let name = if icmp.kind() == kind::ECHO_REPLY { "reply" } else { "request" };
            let (id, sequence) = icmp.echo().unwrap_or_default();
            write!(f, "echo {name}, id {id}, seq {sequence}")?;
        }
        (kind::UNREACHABLE, code) => fmt_unreachable(icmp, code, f)?,
        (kind::REDIRECT, code) => fmt_redirect(icmp, code, f)?,
        (kind::TIME_EXCEEDED, 0) => f.write_str("time exceeded in-transit")?,
        (kind::TIME_EXCEEDED, 1) => f.write_str("ip reassembly time exceeded")?,
        (kind::TIME_EXCEEDED, code) => write!(f, "time exceeded-#{code}")?,
        (kind::PARAMETER_PROBLEM, 0) => {
            write!(f, "parameter problem - octet {}", u8_at(&icmp.rest_of_header(), 0))?;
        }
        (kind::PARAMETER_PROBLEM, code) => write!(f, "parameter problem - code {code}")?,
        (kind::SOURCE_QUENCH, _) => f.write_str("source quench")?,
        (kind, _) => write!(f, "type-#{kind}")?,
    }
    write!(f, ", length {len}")
}

fn fmt_unreachable<T: AsRef<[u8]>>(
    icmp: &Icmpv4<T>,
    code: u8,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    let quoted = match Ipv4::parse_truncated(icmp.payload()) {
        Ok(quoted) if quoted.header().len() == quoted.header_len() => quoted,
        _ => return write!(f, "unreachable code-#{code}"),
    };
    let (destination, protocol) = (quoted.destination(), quoted.protocol());
    match code {
        0 => write!(f, "net {destination} unreachable"),
        1 => write!(f, "host {destination} unreachable"),
        2 => write!(f, "{destination} protocol {protocol} unreachable"),
        3 if matches!(protocol, protocol::TCP | protocol::UDP) => {
            let (name, port) = (protocol::Name(protocol), quoted.ports().unwrap_or_default().1);
            write!(f, "{destination} {name} port {port} unreachable")
        }
        // What stands where TCP and UDP have the port.
        3 if quoted.payload().len() >= 4 => {
            let port = u16_at(quoted.payload(), 2);
            write!(f, "{destination} protocol {protocol} port {port} unreachable")
        }
        4 => match u32::from_be_bytes(icmp.rest_of_header()) as u16 {
            0 => write!(f, "{destination} unreachable - need to frag"),
            mtu => write!(f, "{destination} unreachable - need to frag (mtu {mtu})"),
        },
        5 => write!(f, "{destination} unreachable - source route failed"),
        6 => write!(f, "net {destination} unreachable - unknown"),
        7 => write!(f, "host {destination} unreachable - unknown"),
        8 => write!(f, "{destination} unreachable - source host isolated"),
        9 => write!(f, "net {destination} unreachable - admin prohibited"),
        10 => write!(f, "host {destination} unreachable - admin prohibited"),
        11 => write!(f, "net {destination} unreachable - tos prohibited"),
        12 => write!(f, "host {destination} unreachable - tos prohibited"),
        13 => write!(f, "host {destination} unreachable - admin prohibited filter"),
        14 => write!(f, "host {destination} unreachable - host precedence violation"),
        15 => write!(f, "host {destination} unreachable - precedence cutoff"),
        code => write!(f, "{destination} unreachable - #{code}"),
    }
}

fn fmt_redirect<T: AsRef<[u8]>>(icmp: &Icmpv4<T>, code: u8, f: &mut Formatter<'_>) -> fmt::Result {
    let Ok(quoted) = Ipv4::parse_truncated(icmp.payload()) else {
        return write!(f, "redirect-#{code}");
    };
    let (destination, gateway) = (quoted.destination(), Ipv4Addr::from(icmp.rest_of_header()));
    match code {
        0 => write!(f, "redirect {destination} to net {gateway}"),
        1 => write!(f, "redirect {destination} to host {gateway}"),
        2 => write!(f, "redirect-tos {destination} to net {gateway}"),
        3 => write!(f, "redirect-tos {destination} to host {gateway}"),
        code => write!(f, "redirect-#{code} {destination} to {gateway}"),
    }
}
