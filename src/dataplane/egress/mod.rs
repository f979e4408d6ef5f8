//! From the TUN device to UDP: read, look up, cut, gather into trains, send.

use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::config::Config;
use super::counters::{DirectionCounters, DropReason, ThreadCounters};
use super::icmp::{self, IcmpErrors, Reply};
use super::offload::{Agreement, Feature};
use super::polling::{ArrivalPattern, Ready, RecentEvent, Turn};
use super::tap::{Direction, Probe, Ttl};
use crate::packet::forward;
use crate::packet::icmp::ErrorKind;
use crate::packet::ipv4::Ipv4;
use crate::packet::segment::{MAX_HEADER_LEN, Segments};
use crate::packet::vnet::VnetHeader;
use crate::route::{NextHop, Route, RouteTable};
use crate::sys::iovec::GatherBuffer;
use crate::sys::mmsg::{MAX_SEGMENTS, SendBatch};
use crate::sys::tun::TunQueue;
use train::{MAX_DATAGRAMS, MAX_TRAINS, Span, Trains};

mod send;
pub(super) mod train;

/// One worker's way from its TUN queues to its socket.
pub(super) struct Egress {
    /// Read in turn; of two the second is for TCP.
    queues: Vec<Arc<TunQueue>>,
    routes: Arc<RouteTable>,
    agreement: Arc<Agreement>,
    counters: Arc<ThreadCounters>,
    /// Bytes before each packet: the `virtio_net_hdr`, if the device has one.
    prefix: usize,
    mtu: usize,
    depth: usize,
    /// Packets as read, one after the other.
    packets: Box<[u8]>,
    /// Where each packet of the batch lies in `packets`, its prefix included.
    reads: Vec<Span>,
    /// The queue whose turn it is.
    next: usize,
    /// The queue that had something last.
    last: usize,
    pattern: ArrivalPattern,
    /// True while interactive (non-TCP) packets were read within the last 2 ms by any worker.
    interactive: Arc<RecentEvent>,
    out: Out,
    icmp: IcmpErrors,
    icmp_parts: GatherBuffer,
    probe: Probe,
}

/// What leaves: the plan and what carries it out.
struct Out {
    socket: Arc<UdpSocket>,
    /// Headers stamped for segments, one after the other, with small payloads behind them.
    headers: Box<[u8]>,
    stamped: usize,
    trains: Trains,
    batch: SendBatch,
    blocked: send::Blocked,
    max_segments: u32,
}

impl Egress {
    pub(super) fn new(
        config: &Config,
        queues: Vec<Arc<TunQueue>>,
        socket: Arc<UdpSocket>,
        routes: Arc<RouteTable>,
        agreement: Arc<Agreement>,
        counters: Arc<ThreadCounters>,
        interactive: Arc<RecentEvent>,
    ) -> Self {
        let vnet = agreement.has(Feature::Vnet);
        let batched = agreement.has(Feature::Batch);
        Self {
            routes,
            agreement,
            counters,
            prefix: if vnet { VnetHeader::LEN } else { 0 },
            mtu: config.mtu.into(),
            depth: if batched { READS } else { 1 },
            packets: vec![0; BATCH_BYTES + MAX_READ].into(),
            reads: Vec::with_capacity(READS),
            next: 0,
            last: 0,
            pattern: ArrivalPattern::default(),
            interactive,
            queues,
            out: Out {
                socket,
                headers: vec![0; HEADER_BYTES].into(),
                stamped: 0,
                trains: Trains::new(),
                batch: SendBatch::new(MAX_TRAINS, 2 * MAX_DATAGRAMS, batched),
                blocked: send::Blocked::default(),
                max_segments: 1,
            },
            icmp: IcmpErrors::new(icmp::local_source(config.network, config.subnet)),
            icmp_parts: GatherBuffer::new(),
            probe: config.tap.probe(Direction::Egress, config.bind),
        }
    }

    /// Carries what one of the queues that may be `ready` holds, up to one batch.
    pub(super) fn turn(&mut self, ready: Ready) -> Turn {
        self.probe.look();
        let (queue, turn) = self.read(ready);
        if self.reads.is_empty() {
            return turn;
        }
        self.probe.came();
        self.out.max_segments =
            if self.agreement.has(Feature::Gso) { MAX_SEGMENTS as u32 } else { 1 };
        let before = self.counters.egress.packets.get();
        for index in 0..self.reads.len() {
            let span = self.reads[index];
            self.accept(span);
        }
        self.out.flush(&self.packets, &self.agreement, &self.counters.egress, &mut self.probe);
        let counters = &self.counters.egress;
        counters.batch.record(counters.packets.get() - before);
        match turn {
            Turn::Bulk if self.yields_to_interactive(queue) => thread::yield_now(),
            // Non-TCP bulk is not interactive.
            Turn::Single | Turn::Worked if queue == 0 && self.queues.len() > 1 => {
                self.interactive.record(Instant::now())
            }
            _ => {}
        }
        turn
    }

    /// Reads a batch from the queue whose turn it is, or if that is empty from the other; says which.
    fn read(&mut self, ready: Ready) -> (usize, Turn) {
        self.reads.clear();
        let count = self.queues.len();
        for step in 0..count {
            let queue = (self.next + step) % count;
            if !ready.has(queue) {
                continue;
            }
            let turn = self.read_from(queue, ready);
            if turn != Turn::Idle {
                (self.next, self.last) = ((queue + 1) % count, queue);
                self.pattern.record_batch(self.reads.len() == 1);
                return (queue, turn);
            }
        }
        // What comes after a silence mostly comes where the last came, as an answer's answer does.
        self.next = self.last;
        self.pattern.record_empty();
        (self.next, Turn::Idle)
    }

    /// Whether bulk from `queue` is sent in smaller batches, with the core yielded after each batch: on
    /// a host whose cores are all busy, the thread that serves the interactive packets would otherwise
    /// wait for a core for milliseconds. Bulk alone does neither, because both cost throughput.
    fn yields_to_interactive(&self, queue: usize) -> bool {
        queue > 0 && self.interactive.is_recent(Instant::now())
    }

    /// Reads until the queue is empty or the batch is full.
    fn read_from(&mut self, queue: usize, ready: Ready) -> Turn {
        let depth = if self.pattern.is_single(ready) { 1 } else { self.depth };
        let limit = if self.yields_to_interactive(queue) { BATCH_BYTES / 2 } else { BATCH_BYTES };
        let queue = &self.queues[queue];
        let mut filled = 0;
        let mut calls = 0;
        let turn = loop {
            if self.reads.len() == depth || filled >= limit {
                break Turn::of_batch(self.reads.len() as u64, filled);
            }
            calls += 1;
            match queue.read(&mut self.packets[filled..filled + MAX_READ]) {
                Ok(len) => {
                    self.reads.push(Span::new(filled, len));
                    filled += len.next_multiple_of(ALIGN);
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EBADFD) => break Turn::DeviceLost,
                    _ if self.reads.is_empty() => break Turn::Idle,
                    _ => break Turn::of_batch(self.reads.len() as u64, filled),
                },
            }
        };
        if !self.reads.is_empty() {
            self.counters.egress.in_calls.add(calls);
            self.counters.egress.in_units.add(self.reads.len() as u64);
        }
        turn
    }

    /// Plans one packet's way, or drops it.
    fn accept(&mut self, span: Span) {
        let (counters, probe) = (&self.counters.egress, &mut self.probe);
        let read = &mut self.packets[span.range()];
        let (vnet, start) = match read.split_first_chunk::<{ VnetHeader::LEN }>() {
            Some((header, _)) if self.prefix > 0 => match VnetHeader::decode(header) {
                Ok(vnet) => (vnet, self.prefix),
                Err(_) => return lose_whole(counters, probe, DropReason::BadVnetHeader, read),
            },
            None if self.prefix > 0 => {
                return lose_whole(counters, probe, DropReason::BadVnetHeader, read);
            }
            _ => (VnetHeader::NONE, 0),
        };
        let packet = &mut read[start..];
        let (destination, len) = match Ipv4::parse(&*packet) {
            Ok(ip) => (ip.destination(), ip.total_len()),
            Err(malformed) => return lose_whole(counters, probe, malformed.into(), packet),
        };
        let packet = &mut packet[..len];
        let Some(route) = self.routes.route(destination) else {
            lose(counters, probe, (DropReason::NoRoute, None, Ttl::AsRead), &vnet, packet);
            return self.answer(ErrorKind::NetUnreachable, span, start, len);
        };
        if forward::decrement_ttl(packet).is_err() {
            lose(
                counters,
                probe,
                (DropReason::TtlExpired, Some(route.hop), Ttl::AsRead),
                &vnet,
                packet,
            );
            return self.answer(ErrorKind::TimeExceeded, span, start, len);
        }
        let segments = match Segments::new(&vnet, packet) {
            Ok(segments) if segments.full_len() <= self.mtu => segments,
            Ok(_) => {
                let what = (DropReason::OverMtu, Some(route.hop), Ttl::Decremented);
                return lose(counters, probe, what, &vnet, packet);
            }
            Err(_) => return lose_whole(counters, probe, DropReason::BadVnetHeader, packet),
        };
        counters.packets.add(segments.count() as u64);
        counters.bytes.add(wire_len(&segments) as u64);
        counters.in_unit_packets.record(segments.count() as u64);
        self.plan(&segments, route, span.start as usize + start, len);
    }

    /// Appends the segments of the packet at `start` to the trains.
    fn plan(&mut self, segments: &Segments, route: Route, start: usize, len: usize) {
        let header_len = segments.header_len();
        let max_segments = self.out.max_segments_to(route.hop);
        for index in 0..segments.count() {
            if self.out.is_full(header_len + COPIED) {
                self.out.flush(
                    &self.packets,
                    &self.agreement,
                    &self.counters.egress,
                    &mut self.probe,
                );
            }
            let packet = &self.packets[start..start + len];
            let at = self.out.stamped;
            let (header, rest) = self.out.headers[at..].split_at_mut(header_len);
            let payload = segments.write_header(packet, index, header);
            let mut body = Span::new(start + payload.start, payload.len());
            let mut stamped = header_len;
            if payload.len() <= COPIED {
                rest[..payload.len()].copy_from_slice(&packet[payload]);
                stamped += body.len as usize;
                body = Span::default();
            }
            self.out.stamped += stamped;
            self.out.trains.push(route, Span::new(at, stamped), body, max_segments);
        }
    }

    /// Tells the sender of the packet at `span` why it was dropped.
    fn answer(&mut self, kind: ErrorKind, span: Span, start: usize, len: usize) {
        let offender = &self.packets[span.range()][start..start + len];
        let counters = &self.counters.egress;
        match self.icmp.reply(kind, offender) {
            Reply::Error(error) => {
                let header = VnetHeader::NONE.encode();
                let mut parts = self.icmp_parts.begin();
                parts.push(&header[..self.prefix]);
                parts.push(error);
                if self.queues[0].write(&parts).is_ok() {
                    counters.icmp.add(1);
                    self.probe.answered(None, error);
                }
            }
            Reply::Limited => counters.icmp_limited.add(1),
            Reply::Forbidden => {}
        }
    }
}

/// Counts a packet off the TUN as dropped, and shows it: the segments that it would have become.
#[cold]
fn lose(
    counters: &DirectionCounters,
    probe: &mut Probe,
    (reason, hop, ttl): (DropReason, Option<NextHop>, Ttl),
    vnet: &VnetHeader,
    packet: &[u8],
) {
    let Ok(segments) = Segments::new(vnet, packet) else {
        counters.lose(reason, 1, packet.len());
        return probe.dropped(reason, hop.map(send::address), ttl, [packet, &[]]);
    };
    counters.lose(reason, segments.count(), wire_len(&segments));
    if probe.is_on() {
        for index in 0..segments.count() {
            let mut header = [0; MAX_HEADER_LEN];
            let payload = segments.write_header(packet, index, &mut header);
            let parts = [&header[..segments.header_len()], &packet[payload]];
            probe.dropped(reason, hop.map(send::address), ttl, parts);
        }
    }
}

/// Counts one packet off the TUN, of which nothing is known, as dropped, and shows it.
#[cold]
fn lose_whole(counters: &DirectionCounters, probe: &mut Probe, reason: DropReason, packet: &[u8]) {
    counters.lose(reason, 1, packet.len());
    probe.dropped(reason, None, Ttl::AsRead, [packet, &[]]);
}

/// Bytes of all segments together.
fn wire_len(segments: &Segments) -> usize {
    segments.full_len() * (segments.count() - 1) + segments.last_len()
}

/// Packets of one batch.
const READS: usize = 128;
/// Bytes of one batch after which no further packet is read: two or three super-packets, so that
/// a batch stays in the second-level cache and the other end does not wait for it.
const BATCH_BYTES: usize = 192 << 10;
/// How long traffic counts as interactive after a non-TCP packet: some round trips on a busy host.
pub(super) const INTERACTIVE_WINDOW: Duration = Duration::from_millis(2);
/// A `virtio_net_hdr` and the longest IP packet.
const MAX_READ: usize = VnetHeader::LEN + 65_535;
/// Packets begin on a cache line.
const ALIGN: usize = 64;
/// Payloads up to this length are copied behind their header: small datagrams of a train then lie
/// side by side and need one entry of the scatter list instead of two each.
const COPIED: usize = 256;
/// Stamped bytes of one batch; a batch of greater ones is sent in parts.
const HEADER_BYTES: usize = 128 << 10;
