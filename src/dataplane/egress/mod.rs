//! From the TUN device to UDP: read a batch, decide about each packet, segment it, collect the
//! segments into trains, send.

use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::config::Config;
use super::counters::ThreadCounters;
use super::forward::{self, Dropped, Outgoing, Policy};
use super::icmp::IcmpErrors;
use super::mtu::Mtu;
use super::offload::gso::GsoBlocklist;
use super::offload::{ActiveOffloads, Feature};
use super::polling::{ArrivalPattern, Ready, RecentEvent, Turn};
use super::span::Span;
use super::syscalls::{MessageSocket, PacketQueue};
use super::tap::{Direction, Probe};
use crate::packet::segment::{MAX_HEADER_LEN, Segments};
use crate::packet::vnet::VnetHeader;
use crate::route::{Route, RouteTable};
use crate::sys::iovec::GatherBuffer;
use crate::sys::mmsg::{MAX_SEGMENTS, SendBatch};
use crate::sys::tun::TunQueue;
use errors::ErrorWriter;
use train::{MAX_DATAGRAMS, MAX_TRAINS, Trains};

mod errors;
mod send;
mod train;

/// The egress direction of one worker: from its TUN queues to its socket.
pub(super) struct Egress<Q = TunQueue, S = UdpSocket> {
    /// The queues are read in turn. If there are two, the second holds TCP.
    queues: Vec<Arc<Q>>,
    routes: Arc<RouteTable>,
    offloads: Arc<ActiveOffloads>,
    counters: Arc<ThreadCounters>,
    /// Bytes before each packet: the `virtio_net_hdr`, if the device has one.
    prefix: usize,
    mtu: Mtu,
    policy: Policy,
    /// The bits of a packet's TOS byte that its outer header gets.
    inherited_tos: u8,
    depth: usize,
    /// The packets of the batch as they were read, one after the other.
    packets: Box<[u8]>,
    /// Where each packet of the batch is in `packets`, its prefix included.
    reads: Vec<Span>,
    /// The queue that is read first in the next turn.
    next: usize,
    /// The queue that held packets last.
    last: usize,
    pattern: ArrivalPattern,
    /// True while interactive (non-TCP) packets were read within the last 2 ms by any worker.
    interactive: Arc<RecentEvent>,
    sender: Sender<S>,
    errors: ErrorWriter<Q>,
    probe: Probe,
}

/// The trains of a batch and what sends them.
struct Sender<S> {
    socket: Arc<S>,
    /// Headers written for segments, one after the other, with small payloads behind them.
    headers: Box<[u8]>,
    /// Bytes of `headers` in use.
    headers_len: usize,
    trains: Trains,
    batch: SendBatch,
    gso_blocklist: GsoBlocklist,
    max_segments: u32,
}

impl<Q: PacketQueue, S: MessageSocket> Egress<Q, S> {
    pub(super) fn new(
        config: &Config,
        queues: Vec<Arc<Q>>,
        socket: Arc<S>,
        routes: Arc<RouteTable>,
        offloads: Arc<ActiveOffloads>,
        counters: Arc<ThreadCounters>,
        interactive: Arc<RecentEvent>,
    ) -> Self {
        let vnet = offloads.has(Feature::Vnet);
        let batched = offloads.has(Feature::Batch);
        let prefix = if vnet { VnetHeader::LEN } else { 0 };
        let policy = Policy::from(config);
        let errors = ErrorWriter {
            queue: Arc::clone(&queues[0]),
            prefix,
            icmp: IcmpErrors::new(policy.egress_icmp_source),
            parts: GatherBuffer::new(),
        };
        Self {
            routes,
            offloads,
            counters,
            prefix,
            mtu: config.mtu.clone(),
            policy,
            inherited_tos: config.outer_tos.inherited(),
            depth: if batched { READS } else { 1 },
            packets: vec![0; BATCH_BYTES + MAX_READ].into(),
            reads: Vec::with_capacity(READS),
            next: 0,
            last: 0,
            pattern: ArrivalPattern::default(),
            interactive,
            queues,
            sender: Sender {
                socket,
                headers: vec![0; HEADER_BYTES].into(),
                headers_len: 0,
                trains: Trains::new(),
                batch: SendBatch::new(MAX_TRAINS, 2 * MAX_DATAGRAMS, batched),
                gso_blocklist: GsoBlocklist::default(),
                max_segments: 1,
            },
            errors,
            probe: config.tap.probe(Direction::Egress, config.bind),
        }
    }

    /// The same with other routes.
    #[cfg(test)]
    pub(super) fn with_routes(self, routes: Arc<RouteTable>) -> Self {
        Self { routes, ..self }
    }

    /// Sends what one of the `ready` queues holds, up to one batch.
    pub(super) fn turn(&mut self, ready: Ready) -> Turn {
        self.probe.check_capture();
        let (queue, turn) = self.read(ready);
        if self.reads.is_empty() {
            return turn;
        }
        self.probe.batch_read();
        self.follow_mtu();
        self.sender.gso_blocklist.begin_batch();
        self.sender.max_segments =
            if self.offloads.has(Feature::Gso) { MAX_SEGMENTS as u32 } else { 1 };
        let before = self.counters.egress.packets.get();
        for index in 0..self.reads.len() {
            let span = self.reads[index];
            self.forward(span);
        }
        self.flush();
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

    /// Reads a batch from the next queue, or if that is empty from the other. Returns which queue it was
    /// and what was found.
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
        // After a pause, packets mostly arrive at the queue that held the last ones: a reply follows a
        // reply.
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

    /// Decides about the packet at `span`, and plans it or drops it.
    fn forward(&mut self, span: Span) {
        let read = &mut self.packets[span.range()];
        let (vnet, start) = match forward::vnet_header(read, self.prefix) {
            Ok(header) => header,
            Err(dropped) => return self.drop_packet(&dropped, span, 0),
        };
        match forward::egress(&self.policy, &self.routes, &vnet, &mut read[start..]) {
            Ok(Outgoing { route, len, segments }) => {
                let counters = &self.counters.egress;
                counters.packets.add(segments.count() as u64);
                counters.bytes.add(segments.total_len() as u64);
                counters.in_unit_packets.record(segments.count() as u64);
                self.plan(&segments, route, span.start as usize + start, len);
            }
            Err(dropped) => self.drop_packet(&dropped, span, start),
        }
    }

    /// Appends the segments of the packet at `start` to the trains.
    fn plan(&mut self, segments: &Segments, route: Route, start: usize, len: usize) {
        let header_len = segments.header_len();
        let max_segments = self.sender.max_segments_to(&route);
        let tos = self.packets[start + TOS] & self.inherited_tos;
        for index in 0..segments.count() {
            if self.sender.is_full(header_len + COPIED) {
                self.flush();
            }
            let packet = &self.packets[start..start + len];
            let at = self.sender.headers_len;
            let (header, rest) = self.sender.headers[at..].split_at_mut(header_len);
            let payload = segments.write_header(packet, index, header);
            let mut body = Span::new(start + payload.start, payload.len());
            let mut copied = header_len;
            if payload.len() <= COPIED {
                rest[..payload.len()].copy_from_slice(&packet[payload]);
                copied += body.len as usize;
                body = Span::default();
            }
            self.sender.headers_len += copied;
            self.sender.trains.push(route, tos, Span::new(at, copied), body, max_segments);
        }
    }

    /// Adopts a change of the MTU. What the kernel refused at the old one says nothing about the new one.
    fn follow_mtu(&mut self) {
        let mtu = self.mtu.get().into();
        if mtu != self.policy.mtu {
            self.policy.mtu = mtu;
            self.sender.gso_blocklist.clear();
        }
    }

    fn flush(&mut self) {
        let Self { sender, packets, offloads, counters, errors, probe, .. } = self;
        sender.flush(packets, offloads, &counters.egress, errors, probe);
    }

    /// Counts the packet at `start` of `span` as dropped, shows a capture the segments that it would
    /// have been sent as, and writes the ICMP error to its sender.
    #[cold]
    fn drop_packet(&mut self, dropped: &Dropped, span: Span, start: usize) {
        let packet = &self.packets[span.range()][start..][..dropped.len];
        let Dropped { reason, next_hop, ttl, segments, .. } = *dropped;
        let (count, bytes) = dropped.size();
        let counters = &self.counters.egress;
        counters.record_dropped(reason, count, bytes);
        if self.probe.is_on() {
            let to = next_hop.map(send::address);
            match segments {
                None => self.probe.dropped(reason, to, ttl, [packet, &[]]),
                Some(segments) => {
                    for index in 0..segments.count() {
                        let mut header = [0; MAX_HEADER_LEN];
                        let payload = segments.write_header(packet, index, &mut header);
                        let parts = [&header[..segments.header_len()], &packet[payload]];
                        self.probe.dropped(reason, to, ttl, parts);
                    }
                }
            }
        }
        if let Some(kind) = dropped.icmp {
            self.errors.answer(kind, packet, counters, &mut self.probe);
        }
    }
}

/// Where the TOS byte is in an IPv4 header (RFC 791).
const TOS: usize = 1;
/// Packets of one batch at most.
const READS: usize = 128;
/// Bytes of one batch after which no further packet is read: two or three super-packets, so that
/// a batch stays in the second-level cache and the peer does not wait for it.
const BATCH_BYTES: usize = 192 << 10;
/// How long traffic counts as interactive after a non-TCP packet: some round trips on a busy host.
pub(super) const INTERACTIVE_WINDOW: Duration = Duration::from_millis(2);
/// A `virtio_net_hdr` and the longest IP packet.
const MAX_READ: usize = VnetHeader::LEN + 65_535;
/// Packets begin on a cache line.
const ALIGN: usize = 64;
/// Payloads up to this length in bytes are copied behind their header: small datagrams of a train are
/// then adjacent and need one entry of the scatter list instead of two each.
const COPIED: usize = 256;
/// Bytes of headers and copied payloads of one batch; a batch that needs more is sent in parts.
const HEADER_BYTES: usize = 128 << 10;
