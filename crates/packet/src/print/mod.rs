//! Packets as tcpdump prints them, with numbers for names (`-n`) and absolute sequence numbers (`-S`).

use core::fmt::{self, Display, Formatter};
use core::net::Ipv6Addr;

use super::bytes::array_at;
use super::icmpv4::{self, Icmpv4};
use super::icmpv6::{self, Icmpv6};
use super::ipv4::Ipv4;
use super::ipv6::Ipv6;
use super::tcp::{Flags, Tcp, TcpOption};
use super::udp::Udp;
use super::{Malformed, protocol};

impl<T: AsRef<[u8]>> Display for Ipv4<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.fragment_offset() != 0 {
            let (source, destination) = (self.source(), self.destination());
            return write!(f, "IP {source} > {destination}: ip-proto-{}", self.protocol());
        }
        Upper {
            version: "IP",
            addresses: [self.source(), self.destination()],
            ports: self.ports(),
            protocol: self.protocol(),
            payload: self.payload(),
            payload_len: self.payload_len(),
            is_whole: !self.is_truncated() && !self.more_fragments(),
        }
        .fmt(f)
    }
}

impl<T: AsRef<[u8]>> Display for Ipv6<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (source, destination, payload) = (self.source(), self.destination(), self.payload());
        if self.is_fragment() {
            let (offset, len) = (self.fragment_offset(), self.upper_len());
            write!(f, "IP6 {source} > {destination}: frag ({offset}|{len})")?;
            return match Icmpv6::parse(payload) {
                Ok(icmp) if offset == 0 && self.protocol() == protocol::ICMPV6 => {
                    f.write_str(" ")?;
                    fmt_icmpv6(&icmp, len, f)
                }
                _ => Ok(()),
            };
        }
        Upper {
            version: "IP6",
            addresses: [source, destination],
            ports: self.ports(),
            protocol: self.protocol(),
            payload,
            payload_len: self.upper_len(),
            is_whole: !self.is_truncated(),
        }
        .fmt(f)
    }
}

/// A packet of either IP version, ready to be printed.
struct Upper<'a, A> {
    version: &'a str,
    /// Source and destination.
    addresses: [A; 2],
    ports: Option<(u16, u16)>,
    protocol: u8,
    /// The bytes of the payload that are there.
    payload: &'a [u8],
    /// Length of the payload in bytes, by the IP header.
    payload_len: usize,
    /// Whether all of the payload is there.
    is_whole: bool,
}

impl<A: Display> Upper<'_, A> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { version, addresses: [source, destination], payload, payload_len, .. } = self;
        write!(f, "{version} {source}")?;
        let shows_ports = match self.protocol {
            protocol::TCP => self.tcp().is_ok() || !self.is_whole,
            protocol::UDP => self.udp().is_some() || !self.is_whole,
            _ => false,
        };
        match self.ports {
            Some((from, to)) if shows_ports => write!(f, ".{from} > {destination}.{to}: ")?,
            _ => write!(f, " > {destination}: ")?,
        }
        match self.protocol {
            protocol::TCP => match self.tcp() {
                Ok(tcp) => fmt_tcp(&tcp, payload_len.saturating_sub(tcp.header_len()), f),
                Err(error) => self.fmt_cut("tcp", &error, f),
            },
            protocol::UDP => match (self.udp(), Udp::parse(payload)) {
                (Some(udp), _) => udp.fmt(f),
                (None, Err(error)) => self.fmt_cut("udp", &error, f),
                (None, Ok(udp)) => udp.fmt(f),
            },
            protocol::ICMP if *version == "IP" => match Icmpv4::parse(payload) {
                Ok(icmp) => fmt_icmpv4(&icmp, *payload_len, f),
                Err(error) => self.fmt_cut("icmp", &error, f),
            },
            protocol::ICMPV6 if *version == "IP6" => match Icmpv6::parse(payload) {
                Ok(icmp) => fmt_icmpv6(&icmp, *payload_len, f),
                Err(error) => self.fmt_cut("icmp6", &error, f),
            },
            // The walk along the extension headers ended at one that is cut.
            protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
                if *version == "IP6" && !self.is_whole =>
            {
                f.write_str("[|ip6]")
            }
            protocol::NO_NEXT_HEADER if *version == "IP6" => f.write_str("no next header"),
            number => write!(f, "{} {payload_len}", protocol::Name(number)),
        }
    }

    /// The TCP header, whose options may be cut where the packet is.
    fn tcp(&self) -> Result<Tcp<&[u8]>, Malformed> {
        if self.is_whole { Tcp::parse(self.payload) } else { Tcp::parse_truncated(self.payload) }
    }

    /// The UDP header, whose datagram is longer than the bytes where the packet is cut or a fragment.
    fn udp(&self) -> Option<Udp<&[u8]>> {
        match Udp::parse(self.payload) {
            Err(_) if !self.is_whole => Udp::parse_truncated(self.payload).ok(),
            result => result.ok(),
        }
    }

    fn fmt_cut(&self, name: &str, error: &Malformed, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[|{name}]")?;
        if self.is_whole { write!(f, " ({error})") } else { Ok(()) }
    }
}

/// Without the ports, which tcpdump prints beside the addresses.
impl<T: AsRef<[u8]>> Display for Tcp<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        fmt_tcp(self, self.payload().len(), f)
    }
}

/// `len` is the length of the segment's payload, of which not all need be there.
fn fmt_tcp<T: AsRef<[u8]>>(tcp: &Tcp<T>, len: usize, f: &mut Formatter<'_>) -> fmt::Result {
    let (flags, sequence) = (tcp.flags(), tcp.sequence());
    write!(f, "Flags [{flags}]")?;
    if len > 0 {
        write!(f, ", seq {sequence}:{}", sequence.wrapping_add(len as u32))?;
    } else if flags.intersects(Flags::SYN | Flags::FIN | Flags::RST) {
        write!(f, ", seq {sequence}")?;
    }
    if flags.contains(Flags::ACK) {
        write!(f, ", ack {}", tcp.acknowledgment())?;
    }
    write!(f, ", win {}", tcp.window())?;
    if flags.contains(Flags::URG) {
        write!(f, ", urg {}", tcp.urgent_pointer())?;
    }
    let is_cut = tcp.option_bytes().len() < tcp.header_len() - Tcp::<T>::MIN_HEADER_LEN;
    if is_cut {
        f.write_str(", options [")?;
        for option in tcp.options().take_while(|option| *option != TcpOption::Truncated) {
            write!(f, "{option},")?;
        }
        f.write_str("[|tcp]]")?;
    } else if !tcp.option_bytes().is_empty() {
        write!(f, ", options [{}]", tcp.options())?;
    }
    write!(f, ", length {len}")
}

/// Without the ports, which tcpdump prints beside the addresses.
impl<T: AsRef<[u8]>> Display for Udp<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "UDP, length {}", self.total_len() - Self::HEADER_LEN)
    }
}

impl<T: AsRef<[u8]>> Display for Icmpv4<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        fmt_icmpv4(self, Self::HEADER_LEN + self.payload().len(), f)
    }
}

/// `len` is the length of the message, of which not all need be there.
fn fmt_icmpv4<T: AsRef<[u8]>>(icmp: &Icmpv4<T>, len: usize, f: &mut Formatter<'_>) -> fmt::Result {
    use icmpv4::kind;
    f.write_str("ICMP ")?;
    match (icmp.kind(), icmp.code()) {
        (kind::ECHO_REQUEST | kind::ECHO_REPLY, _) => {
            let name = if icmp.kind() == kind::ECHO_REPLY { "reply" } else { "request" };
            let (id, sequence) = icmp.echo().unwrap_or_default();
            write!(f, "echo {name}, id {id}, seq {sequence}")?;
        }
        (kind::UNREACHABLE, code) => fmt_unreachable(icmp, code, f)?,
        (kind::TIME_EXCEEDED, 0) => f.write_str("time exceeded in-transit")?,
        (kind::TIME_EXCEEDED, 1) => f.write_str("ip reassembly time exceeded")?,
        (kind::SOURCE_QUENCH, 0) => f.write_str("source quench")?,
        (kind, code) => write!(f, "type-#{kind} code-#{code}")?,
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
        4 => match u32::from_be_bytes(icmp.rest_of_header()) as u16 {
            0 => write!(f, "{destination} unreachable - need to frag"),
            mtu => write!(f, "{destination} unreachable - need to frag (mtu {mtu})"),
        },
        13 => write!(f, "host {destination} unreachable - admin prohibited filter"),
        code => write!(f, "{destination} unreachable - #{code}"),
    }
}

impl<T: AsRef<[u8]>> Display for Icmpv6<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        fmt_icmpv6(self, Self::HEADER_LEN + self.payload().len(), f)
    }
}

/// `len` is the length of the message, of which not all need be there.
fn fmt_icmpv6<T: AsRef<[u8]>>(icmp: &Icmpv6<T>, len: usize, f: &mut Formatter<'_>) -> fmt::Result {
    use icmpv6::kind;
    // Of neighbour discovery; `::` where the message is too short for one.
    let target = Ipv6Addr::from(array_at::<16>(icmp.payload(), 0));
    f.write_str("ICMP6, ")?;
    match (icmp.kind(), icmp.code()) {
        (kind::ECHO_REQUEST | kind::ECHO_REPLY, _) => {
            let name = if icmp.kind() == kind::ECHO_REPLY { "reply" } else { "request" };
            let (id, sequence) = icmp.echo().unwrap_or_default();
            write!(f, "echo {name}, id {id}, seq {sequence}")?;
        }
        (kind::UNREACHABLE, code) => fmt_unreachable_v6(icmp, code, f)?,
        (kind::PACKET_TOO_BIG, _) => {
            write!(f, "packet too big, mtu {}", u32::from_be_bytes(icmp.rest_of_header()))?;
        }
        (kind::TIME_EXCEEDED, 0) => f.write_str("time exceeded in-transit")?,
        (kind::TIME_EXCEEDED, 1) => f.write_str("ip reassembly time exceeded")?,
        (kind::ROUTER_SOLICITATION, _) => f.write_str("router solicitation")?,
        (kind::ROUTER_ADVERTISEMENT, _) => f.write_str("router advertisement")?,
        (kind::NEIGHBOR_SOLICITATION, _) => write!(f, "neighbor solicitation, who has {target}")?,
        (kind::NEIGHBOR_ADVERTISEMENT, _) => write!(f, "neighbor advertisement, tgt is {target}")?,
        (kind, code) => write!(f, "unknown icmp6 type ({kind}), code {code}")?,
    }
    write!(f, ", length {len}")
}

fn fmt_unreachable_v6<T: AsRef<[u8]>>(
    icmp: &Icmpv6<T>,
    code: u8,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    f.write_str("destination unreachable, ")?;
    let Ok(quoted) = Ipv6::parse_truncated(icmp.payload()) else {
        return write!(f, "unknown code ({code})");
    };
    let destination = quoted.destination();
    match (code, quoted.ports()) {
        (0, _) => write!(f, "unreachable route {destination}"),
        (1, _) => write!(f, "unreachable prohibited {destination}"),
        (3, _) => write!(f, "unreachable address {destination}"),
        (4, Some((_, port))) => {
            let name = protocol::Name(quoted.protocol());
            write!(f, "unreachable port, {destination} {name} port {port}")
        }
        (code, _) => write!(f, "unknown code ({code})"),
    }
}
