//! The fields of a packet that coalescing depends on, read once.

use super::super::bytes::{between, u16_at, u32_at};
use super::super::checksum;
use super::super::ipv4::{Ipv4, field};
use super::super::tcp::{self, Flags, Tcp};
use super::super::{protocol, udp::Udp};
use super::Protocols;

/// Length in bytes of the only IP header that is joined: one without options.
pub(super) const IP_HEADER: usize = 20;

/// A right checksum, but not the one that is written when the super-packet is cut again: 0. (UDP
/// has it the other way round, and its 0 is no checksum.)
const MINUS_ZERO: u16 = 0xffff;

/// The reserved ("evil") bit of IPv4, More Fragments and the offset, in [`Candidate::ip_word`]:
/// `inet_gro_receive` joins no packet with any of them.
const OTHER_THAN_DF: u32 = 0xbfff;

/// What `tcp_gro_receive` does not compare: the last segment of a group may have them.
const ENDS: Flags = Flags(Flags::FIN.0 | Flags::PSH.0);

/// What no segment of a group may have.
const ALONE: Flags = Flags(Flags::SYN.0 | Flags::RST.0 | Flags::URG.0 | Flags::CWR.0);

/// The packets that a packet must not overtake.
pub(super) enum Order {
    /// None: packets of its protocol are never joined.
    Free,
    /// All packets between these addresses.
    Fragment(u64),
    /// The packets of its flow.
    Flow(Key),
}

/// The key of a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// Source and destination.
    pub(super) addresses: u64,
    /// Both ports, and the protocol.
    pub(super) ports: u64,
}

impl Order {
    #[inline(always)]
    pub(super) fn of(packet: &Ipv4<&[u8]>) -> Self {
        let protocol = packet.protocol();
        if protocol != protocol::TCP && protocol != protocol::UDP {
            return Self::Free;
        }
        let bytes = packet.as_bytes();
        let addresses = u64::from(u32_at(bytes, field::SOURCE)) << 32
            | u64::from(u32_at(bytes, field::DESTINATION));
        let payload = packet.whole_payload();
        if packet.is_fragment() || payload.len() < 4 {
            return Self::Fragment(addresses);
        }
        let ports = u64::from(u32_at(payload, 0)) << 8 | u64::from(protocol);
        Self::Flow(Key { addresses, ports })
    }
}

/// A packet whose own fields allow joining it with others.
pub(super) struct Candidate {
    pub(super) protocol: u8,
    pub(super) header_len: u8,
    pub(super) payload_len: u16,
    pub(super) id: u16,
    /// FIN and PSH of TCP. With either, no packet may follow it in its group.
    pub(super) ends: Flags,
    /// TOS, TTL and DF.
    pub(super) ip_word: u32,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    /// Of TCP the header length, the reserved bits, the flags but for [`Self::ends`], and the window.
    pub(super) tcp_word: u32,
}

impl Candidate {
    #[inline(always)]
    pub(super) fn read(packet: &Ipv4<&[u8]>, protocols: Protocols) -> Option<Self> {
        let bytes = packet.as_bytes();
        let ip_word = u32::from(packet.tos()) << 24
            | u32::from(packet.ttl()) << 16
            | u32::from(u16_at(bytes, field::FLAGS_OFFSET));
        if packet.header_len() != IP_HEADER
            || packet.checksum() == MINUS_ZERO
            || ip_word & OTHER_THAN_DF != 0
        {
            return None;
        }
        let common = Self {
            protocol: packet.protocol(),
            header_len: 0,
            payload_len: 0,
            id: packet.id(),
            ends: Flags(0),
            ip_word,
            sequence: 0,
            acknowledgment: 0,
            tcp_word: 0,
        };
        match packet.protocol() {
            protocol::TCP if protocols.tcp => {
                let tcp = Tcp::parse(packet.whole_payload()).ok()?;
                let flags = tcp.flags();
                if flags.intersects(ALONE)
                    || tcp.urgent_pointer() != 0
                    || tcp.payload().is_empty()
                    || tcp.checksum() == MINUS_ZERO
                {
                    return None;
                }
                let word = u32_at(packet.whole_payload(), tcp::field::DATA_OFFSET);
                Some(Self {
                    header_len: (IP_HEADER + tcp.header_len()) as u8,
                    payload_len: tcp.payload().len() as u16,
                    ends: Flags(flags.0 & ENDS.0),
                    sequence: tcp.sequence(),
                    acknowledgment: tcp.acknowledgment(),
                    tcp_word: word & !(u32::from(ENDS.0) << 16),
                    ..common
                })
            }
            protocol::UDP if protocols.udp => {
                let udp = Udp::parse(packet.whole_payload()).ok()?;
                let whole = udp.total_len() == packet.whole_payload().len();
                let payload_len = udp.total_len() - Udp::<&[u8]>::HEADER_LEN;
                if !whole || udp.checksum() == 0 || payload_len == 0 {
                    return None;
                }
                let header_len = (IP_HEADER + Udp::<&[u8]>::HEADER_LEN) as u8;
                Some(Self { header_len, payload_len: payload_len as u16, ..common })
            }
            _ => None,
        }
    }

    /// Whether no packet may follow it in its group.
    #[inline(always)]
    pub(super) fn closes(&self) -> bool {
        self.ends.0 != 0
    }

    #[inline(always)]
    pub(super) fn payload(&self) -> usize {
        usize::from(self.payload_len)
    }

    /// TCP's options; none for UDP.
    #[inline(always)]
    pub(super) fn options<'a>(&self, packet: &Ipv4<&'a [u8]>) -> &'a [u8] {
        between(packet.bytes(), IP_HEADER + 20, usize::from(self.header_len))
    }

    /// Whether both checksums are right.
    #[inline(always)]
    pub(super) fn is_intact(&self, packet: &Ipv4<&[u8]>) -> bool {
        packet.verify_checksum()
            && checksum::is_valid(checksum::sum(packet.whole_payload(), packet.pseudo_header()))
    }
}
