//! ICMP for IPv6.

use core::fmt::{self, Display, Formatter};
use core::net::Ipv6Addr;

use super::super::bytes::{array_at, u16_at};
use super::super::icmpv6::{Icmpv6, kind};
use super::super::ipv6::Ipv6;
use super::super::protocol;

impl<T: AsRef<[u8]>> Display for Icmpv6<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        fmt(self, Self::HEADER_LEN + self.payload().len(), f)
    }
}

/// What a message shows after its name could be read, or was cut off before it.
type Shown = Result<bool, fmt::Error>;

/// `len` is the length of the message, of which not all need be there.
pub(super) fn fmt<T: AsRef<[u8]>>(
    icmp: &Icmpv6<T>,
    len: usize,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    write!(f, "ICMP6, {}", Name(icmp.kind()))?;
    if fmt_rest(icmp, len, f)? { write!(f, ", length {len}") } else { f.write_str(" [|icmp6]") }
}

/// What follows the name of the message; `false` where the message ends before it.
fn fmt_rest<T: AsRef<[u8]>>(icmp: &Icmpv6<T>, len: usize, f: &mut Formatter<'_>) -> Shown {
    let (rest, body) = (icmp.rest_of_header(), icmp.payload());
    let word = u32::from_be_bytes(rest);
    match icmp.kind() {
        kind::ECHO_REQUEST | kind::ECHO_REPLY => {
            let (id, sequence) = icmp.echo().unwrap_or_default();
            write!(f, ", id {id}, seq {sequence}")?;
        }
        kind::UNREACHABLE => return fmt_unreachable(icmp.code(), body, f),
        kind::PACKET_TOO_BIG => write!(f, ", mtu {word}")?,
        kind::TIME_EXCEEDED => match (icmp.code(), Ipv6::parse_truncated(body)) {
            (0, Ok(quoted)) => write!(f, " for {}", quoted.destination())?,
            (0, Err(_)) => return Ok(false),
            (1, _) => f.write_str(" (reassembly)")?,
            (code, _) => write!(f, ", unknown code ({code})")?,
        },
        kind::PARAMETER_PROBLEM if body.len() < Ipv6::<T>::HEADER_LEN => return Ok(false),
        kind::PARAMETER_PROBLEM => match icmp.code() {
            0 => write!(f, ", erroneous - octet {word}")?,
            1 => write!(f, ", next header - octet {word}")?,
            2 => write!(f, ", option - octet {word}")?,
            3 => write!(f, ", incomplete header chain - octet {word}")?,
            code => write!(f, ", code-#{code}")?,
        },
        kind::LISTENER_QUERY => match len {
            MLD_LEN => fmt_listener(rest, body, f)?,
            MLDV2_QUERY_LEN.. => return fmt_query(len, body, f),
            _ => write!(f, " unknown-version (len {len}) ")?,
        },
        kind::LISTENER_REPORT | kind::LISTENER_DONE => fmt_listener(rest, body, f)?,
        kind::LISTENER_REPORT_V2 => write!(f, ", {} group record(s)", u16_at(&rest, 2))?,
        kind::NEIGHBOR_SOLICITATION | kind::NEIGHBOR_ADVERTISEMENT => {
            let Some(target) = address(body, 0) else { return Ok(false) };
            let is_question = icmp.kind() == kind::NEIGHBOR_SOLICITATION;
            write!(f, ", {} {target}", if is_question { "who has" } else { "tgt is" })?;
        }
        kind::REDIRECT => {
            let (Some(target), Some(to)) = (address(body, 0), address(body, 16)) else {
                return Ok(false);
            };
            write!(f, ", {to} to {target}")?;
        }
        _ => {}
    }
    Ok(true)
}

fn fmt_unreachable(code: u8, body: &[u8], f: &mut Formatter<'_>) -> Shown {
    f.write_str(match code {
        0 => ", unreachable route",
        // With two spaces, as in tcpdump.
        1 => ",  unreachable prohibited",
        2 => ", beyond scope",
        3 => ", unreachable address",
        4 => ", unreachable port",
        code => {
            write!(f, ", unknown unreach code ({code})")?;
            return Ok(true);
        }
    })?;
    let Ok(quoted) = Ipv6::parse_truncated(body) else { return Ok(false) };
    let destination = quoted.destination();
    match (code, quoted.ports()) {
        (2, _) => write!(f, " {destination}, source address {}", quoted.source())?,
        (4, Some((_, port))) => {
            write!(f, ", {destination} {} port {port}", protocol::Name(quoted.protocol()))?;
        }
        (4, None) => return Ok(false),
        _ => write!(f, " {destination}")?,
    }
    Ok(true)
}

/// MLD (RFC 2710); tcpdump puts no space before it.
fn fmt_listener(rest: [u8; 4], body: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    match address(body, 0) {
        Some(group) => write!(f, "max resp delay: {} addr: {group}", u16_at(&rest, 0)),
        None => Ok(()),
    }
}

/// A query of MLDv2 (RFC 3810).
fn fmt_query(len: usize, body: &[u8], f: &mut Formatter<'_>) -> Shown {
    f.write_str(" v2")?;
    let (Some(group), true) = (address(body, 0), body.len() >= MLDV2_QUERY_LEN - 8) else {
        return Ok(false);
    };
    write!(f, " [gaddr {group}")?;
    match usize::from(u16_at(body, 18)) {
        0 => f.write_str("]")?,
        sources if len < MLDV2_QUERY_LEN + sources * 16 => {
            f.write_str(" [invalid number of sources]]")?;
        }
        sources => write!(f, ", {sources} source(s)]")?,
    }
    Ok(true)
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    (bytes.len() >= at + 16).then(|| array_at::<16>(bytes, at).into())
}

/// A type of message, as tcpdump names it.
struct Name(u8);

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            kind::UNREACHABLE => "destination unreachable",
            kind::PACKET_TOO_BIG => "packet too big",
            kind::TIME_EXCEEDED => "time exceeded in-transit",
            kind::PARAMETER_PROBLEM => "parameter problem",
            kind::ECHO_REQUEST => "echo request",
            kind::ECHO_REPLY => "echo reply",
            kind::LISTENER_QUERY => "multicast listener query",
            kind::LISTENER_REPORT => "multicast listener report",
            kind::LISTENER_DONE => "multicast listener done",
            kind::ROUTER_SOLICITATION => "router solicitation",
            kind::ROUTER_ADVERTISEMENT => "router advertisement",
            kind::NEIGHBOR_SOLICITATION => "neighbor solicitation",
            kind::NEIGHBOR_ADVERTISEMENT => "neighbor advertisement",
            kind::REDIRECT => "redirect",
            kind::LISTENER_REPORT_V2 => "multicast listener report v2",
            kind => return write!(f, "unknown icmp6 type ({kind})"),
        })
    }
}

/// Length in bytes of a message of MLD.
const MLD_LEN: usize = 24;
/// Length in bytes of a query of MLDv2 without sources.
const MLDV2_QUERY_LEN: usize = 28;
