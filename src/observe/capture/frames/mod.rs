//! Converts records of the data plane into packets of a capture file.

use std::net::SocketAddrV4;

use bytes::BytesMut;

use crate::dataplane::tap::{CaptureSpec, CaptureVerdict, Direction, Record, TapInterfaces, Ttl};
use crate::observe::pcapng::{
    BlockWriter, Interface, LINKTYPE_IPV4, Order, Packet, PacketDirection,
};
use crate::observe::protocol::capture::{PacketOutcome, Verdict};
use crate::packet::ipv4::{self, Ipv4};
use crate::packet::{protocol, udp};

/// Converts records and writes them as packets.
pub(super) struct Frames {
    writer: BlockWriter,
    snap_len: usize,
    /// Numbers of the interfaces in the file, of those that are captured.
    inner: Option<u32>,
    outer: Option<u32>,
    /// Number of packets written, per interface.
    pub(super) delivered: [u64; 2],
}

/// A record at one of the interfaces.
struct Frame<'a> {
    time: u64,
    outer: bool,
    record: Record<'a>,
}

impl Frames {
    pub(super) fn new(wanted: &CaptureSpec) -> Self {
        Self {
            writer: BlockWriter::new(Order::NATIVE),
            snap_len: wanted.snap_len,
            inner: wanted.inner.then_some(0),
            outer: wanted.outer.then_some(u32::from(wanted.inner)),
            delivered: [0; 2],
        }
    }

    /// The writer, for blocks that are not packets.
    pub(super) fn writer(&self) -> BlockWriter {
        self.writer
    }

    /// The numbers of the inner and the outer interface.
    pub(super) fn interfaces(&self) -> [Option<u32>; 2] {
        [self.inner, self.outer]
    }

    /// Writes the start of a file: the section header and the interfaces.
    pub(super) fn begin(&self, out: &mut BytesMut, interfaces: &TapInterfaces, interface: &str) {
        let application = concat!("flannel-udp ", env!("CARGO_PKG_VERSION"));
        self.writer.section(out, std::env::consts::ARCH, "Linux", application);
        let mut describe = |name: &str, description: &str| {
            let snap_len = self.snap_len as u32;
            let link_type = LINKTYPE_IPV4;
            self.writer.interface(out, &Interface { link_type, snap_len, name, description });
        };
        if self.inner.is_some() {
            describe(&interfaces.tun, "inner packets, segmented as on the wire");
        }
        if self.outer.is_some() {
            let description = format!(
                "datagrams of UDP {}; their IPv4 and UDP headers are reconstructed: addresses, ports and \
                 lengths are real, the other fields are placeholders",
                interfaces.local
            );
            describe(interface, &description);
        }
    }

    /// Appends the packets of `records` at each interface in the order of time, at most `packets_left`
    /// records; returns how many records may still follow.
    pub(super) fn append<'a>(
        &mut self,
        out: &mut BytesMut,
        records: impl Iterator<Item = Record<'a>>,
        mut packets_left: u64,
    ) -> u64 {
        let mut frames = vec![];
        for record in records {
            if packets_left == 0 {
                break;
            }
            packets_left -= 1;
            let (inner, outer) = record.verdict.seen_at(record.direction);
            // A packet is read at one interface and, unless it is dropped, sent at the other.
            let (at_inner, at_outer) = match record.direction {
                Direction::Egress => (record.read_time, record.sent_time),
                Direction::Ingress => (record.sent_time, record.read_time),
            };
            let mut see = |outer, time| frames.push(Frame { time, outer, record });
            if inner && self.inner.is_some() {
                see(false, at_inner);
            }
            if outer && self.outer.is_some() {
                see(true, at_outer);
            }
        }
        frames.sort_by_key(|frame| frame.time);
        frames.iter().for_each(|frame| self.write(out, frame));
        packets_left
    }

    fn write(&mut self, out: &mut BytesMut, frame: &Frame<'_>) {
        let Frame { record, outer, time } = frame;
        let mut head = Head { bytes: [0; OUTER_HEADER + ipv4::Header::LEN], len: 0 };
        if *outer {
            head.push(&outer_header(record));
        }
        let (ip, rest) = record.bytes.split_at(record.bytes.len().min(ipv4::Header::LEN));
        let at = head.len;
        head.push(ip);
        // At the interface where the packet was read, its TTL was not decremented yet.
        if record.ttl == Ttl::Decremented && *outer == (record.direction == Direction::Ingress) {
            restore_ttl(&mut head.bytes[at..head.len]);
        }
        let (Some(interface), header) =
            (if *outer { self.outer } else { self.inner }, if *outer { OUTER_HEADER } else { 0 })
        else {
            return;
        };
        let head = &head.bytes[..head.len.min(self.snap_len)];
        let rest = &rest[..rest.len().min(self.snap_len - head.len())];
        self.delivered[usize::from(*outer)] += 1;
        self.writer.packet(
            out,
            &Packet {
                interface,
                time: *time,
                len: header as u32 + record.len,
                bytes: [head, rest],
                direction: direction(record),
                lost: record.lost.into(),
                comment: &comment(record),
            },
        );
    }
}

/// The first bytes of a packet: outer header and inner IPv4 header.
struct Head {
    bytes: [u8; OUTER_HEADER + ipv4::Header::LEN],
    len: usize,
}

impl Head {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

/// The direction of the packet from the kernel's point of view.
fn direction(record: &Record<'_>) -> PacketDirection {
    let out = match record.verdict {
        CaptureVerdict::IcmpError => record.direction == Direction::Ingress,
        _ => record.direction == Direction::Egress,
    };
    if out { PacketDirection::Outbound } else { PacketDirection::Inbound }
}

/// The comment of a packet: what happened to it, and the address of the other host.
fn comment(record: &Record<'_>) -> String {
    let (verdict, reason) = match record.verdict {
        CaptureVerdict::Carried => (Verdict::Carried, ""),
        CaptureVerdict::Dropped(reason) => (Verdict::Dropped, reason.name()),
        CaptureVerdict::IcmpError => (Verdict::IcmpError, ""),
    };
    PacketOutcome { verdict, reason, peer: record.peer }.to_string()
}

/// The IPv4 and UDP headers of the datagram that carries the packet. User space knows only their
/// addresses, ports and lengths; the other fields are those of a plain socket: type of service 0,
/// identification 0, DF, TTL 64. The UDP checksum is zero, which means none (RFC 768).
fn outer_header(record: &Record<'_>) -> [u8; OUTER_HEADER] {
    let peer = record.peer.unwrap_or(SocketAddrV4::new([0; 4].into(), 0));
    let (source, destination) = match direction(record) {
        PacketDirection::Outbound => (record.local, peer),
        PacketDirection::Inbound => (peer, record.local),
    };
    let inner_len = u16::try_from(record.len).unwrap_or(u16::MAX);
    let udp = udp::Header::new(source.port(), destination.port(), inner_len);
    let ip = ipv4::Header::new(protocol::UDP, *source.ip(), *destination.ip(), udp.total_len);
    let mut header = [0; OUTER_HEADER];
    let (ip_part, udp_part) = header.split_at_mut(ipv4::Header::LEN);
    ip_part.copy_from_slice(&ip.to_bytes());
    udp_part.copy_from_slice(&udp.to_bytes());
    header
}

/// Increments the TTL. A packet that is cut below 20 bytes stays as it is.
fn restore_ttl(packet: &mut [u8]) {
    if let Ok(mut ip) = Ipv4::parse_truncated(packet) {
        ip.set_ttl(ip.ttl().wrapping_add(1));
    }
}

const OUTER_HEADER: usize = ipv4::Header::LEN + udp::Header::LEN;

#[cfg(test)]
mod tests;
