//! Packets as tcpdump prints them, with numbers for names (`-n`) and absolute sequence numbers (`-S`).

mod icmpv4;
mod icmpv6;
mod ipv6;

use core::fmt::{self, Display, Formatter};

use super::icmpv4::Icmpv4;
use super::icmpv6::Icmpv6;
use super::ipv4::Ipv4;
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
            addresses: Some([self.source(), self.destination()]),
            ports: self.ports(),
            protocol: self.protocol(),
            payload: self.payload(),
            payload_len: self.payload_len(),
            is_whole: !self.is_truncated() && !self.more_fragments(),
        }
        .fmt(f)
    }
}

/// A packet of either IP version, ready to be printed.
struct Upper<'a, A> {
    version: &'a str,
    /// Source and destination; `None` behind extension headers, before which they were printed.
    addresses: Option<[A; 2]>,
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
        let Self { version, payload, payload_len, .. } = self;
        let shows_ports = match self.protocol {
            protocol::TCP => self.tcp().is_ok() || !self.is_whole,
            protocol::UDP => self.udp().is_some() || !self.is_whole,
            _ => false,
        };
        match (&self.addresses, self.ports.filter(|_| shows_ports)) {
            (Some([source, destination]), Some((from, to))) => {
                write!(f, "{version} {source}.{from} > {destination}.{to}: ")?;
            }
            (Some([source, destination]), None) => {
                write!(f, "{version} {source} > {destination}: ")?
            }
            (None, Some((from, to))) => write!(f, "{from} > {to}: ")?,
            (None, None) => {}
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
                Ok(icmp) => icmpv4::fmt(&icmp, *payload_len, f),
                Err(error) => self.fmt_cut("icmp", &error, f),
            },
            protocol::ICMPV6 if *version == "IP6" => match Icmpv6::parse(payload) {
                Ok(icmp) => icmpv6::fmt(&icmp, *payload_len, f),
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
