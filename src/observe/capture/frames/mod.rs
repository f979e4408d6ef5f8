//! From what the data plane shows to packets of a capture file.

use std::fmt::Write as _;
use std::net::SocketAddrV4;

use bytes::BytesMut;

use crate::dataplane::tap::{Direction, Place, Record, Ttl, Verdict, Wanted};
use crate::observe::pcapng::{BlockWriter, Interface, LINKTYPE_RAW, Order, Packet, Way};
use crate::packet::ipv4::{self, Ipv4};
use crate::packet::{protocol, udp};

/// Makes packets of records.
pub(super) struct Frames {
    writer: BlockWriter,
    snap_len: usize,
    /// Numbers of the interfaces, where they are wanted.
    inner: Option<u32>,
    outer: Option<u32>,
    /// Packets written at each.
    pub(super) delivered: [u64; 2],
}

/// A record at one of the interfaces.
struct Frame<'a> {
    time: u64,
    outer: bool,
    record: Record<'a>,
}

impl Frames {
    pub(super) fn new(wanted: &Wanted) -> Self {
        Self {
            writer: BlockWriter::new(Order::NATIVE),
            snap_len: wanted.snap_len,
            inner: wanted.inner.then_some(0),
            outer: wanted.outer.then_some(u32::from(wanted.inner)),
            delivered: [0; 2],
        }
    }

    /// The writer of everything else.
    pub(super) fn writer(&self) -> BlockWriter {
        self.writer
    }

    /// The numbers of the interfaces, inner and outer.
    pub(super) fn interfaces(&self) -> [Option<u32>; 2] {
        [self.inner, self.outer]
    }

    /// The head of a file.
    pub(super) fn begin(&self, out: &mut BytesMut, place: &Place, interface: &str) {
        let application = concat!("flannel-udp ", env!("CARGO_PKG_VERSION"));
        self.writer.section(out, std::env::consts::ARCH, "Linux", application);
        let mut describe = |name: &str, description: &str| {
            let snap_len = self.snap_len as u32;
            let link_type = LINKTYPE_RAW;
            self.writer.interface(out, &Interface { link_type, snap_len, name, description });
        };
        if self.inner.is_some() {
            describe(&place.tun, "inner packets, cut and joined as on the wire");
        }
        if self.outer.is_some() {
            let description = format!(
                "datagrams of UDP {}; their IPv4 and UDP headers are reconstructed: addresses, ports \
                 and lengths are true, the other fields are made up",
                place.local
            );
            describe(interface, &description);
        }
    }

    /// Appends what `records` are at the interfaces, in the order of time, up to `packets_left`
    /// packets; returns how many are left then.
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
            // It came at one interface, and left at the other if it did.
            let (at_inner, at_outer) = match record.direction {
                Direction::Egress => (record.came, record.left),
                Direction::Ingress => (record.left, record.came),
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
        // The end at which the packet came has seen it before this hop was taken off.
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
                way: way(record),
                lost: record.lost.into(),
                comment: &comment(record),
            },
        );
    }
}

/// The first bytes of a packet: an outer header, and an inner one.
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

fn way(record: &Record<'_>) -> Way {
    let out = match record.verdict {
        Verdict::Answer => record.direction == Direction::Ingress,
        _ => record.direction == Direction::Egress,
    };
    if out { Way::Outbound } else { Way::Inbound }
}

/// What became of the packet, and who the other host is.
fn comment(record: &Record<'_>) -> String {
    let mut text = match record.verdict {
        Verdict::Carried => "carried".to_owned(),
        Verdict::Dropped(reason) => format!("dropped: {}", reason.name()),
        Verdict::Answer => "ICMP error made here".to_owned(),
    };
    if let Some(peer) = record.peer {
        let _ = write!(text, ", peer {peer}");
    }
    text
}

/// The IPv4 and UDP headers of the datagram that carries the packet. User space sees their addresses,
/// ports and lengths alone; the rest is what a plain socket sends: no type of service, no
/// identification, DF, a TTL of 64. The UDP checksum is zero, which means that there is none.
fn outer_header(record: &Record<'_>) -> [u8; OUTER_HEADER] {
    let peer = record.peer.unwrap_or(SocketAddrV4::new([0; 4].into(), 0));
    let (source, destination) = match way(record) {
        Way::Outbound => (record.local, peer),
        Way::Inbound => (peer, record.local),
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

/// Puts a hop back. A packet cut below 20 bytes stays as it is.
fn restore_ttl(packet: &mut [u8]) {
    if let Ok(mut ip) = Ipv4::parse_truncated(packet) {
        ip.set_ttl(ip.ttl().wrapping_add(1));
    }
}

const OUTER_HEADER: usize = ipv4::Header::LEN + udp::Header::LEN;

#[cfg(test)]
mod tests;
