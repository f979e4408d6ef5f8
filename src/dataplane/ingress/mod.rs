//! From UDP to the TUN device: receive, check, join segments, write.

use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::sync::Arc;

use super::checks::Checks;
use super::config::Config;
use super::counters::{DirectionCounters, DropReason, ThreadCounters};
use super::egress::train::Span;
use super::icmp::{IcmpErrors, Reply};
use super::offload::{Agreement, Feature};
use super::polling::{ArrivalPattern, Ready, Turn};
use super::tap::{Direction, Probe, Ttl};
use crate::packet::coalesce::{Coalescer, Protocols};
use crate::packet::forward;
use crate::packet::icmp::ErrorKind;
use crate::packet::ipv4::Ipv4;
use crate::packet::vnet::VnetHeader;
use crate::route::{PeerIndex, RouteTable};
use crate::sys::iovec::GatherBuffer;
use crate::sys::mmsg::RecvBatch;
use crate::sys::tun::TunQueue;

mod write;

/// One worker's way from its socket to its TUN queue.
pub(super) struct Ingress {
    queue: Arc<TunQueue>,
    socket: Arc<UdpSocket>,
    routes: Arc<RouteTable>,
    agreement: Arc<Agreement>,
    counters: Arc<ThreadCounters>,
    /// Bytes before each packet: the `virtio_net_hdr`, if the device has one.
    prefix: usize,
    mtu: usize,
    checks: Checks,
    depth: Depth,
    pattern: ArrivalPattern,
    batch: RecvBatch,
    /// Where each accepted packet of the coalescer's lies in the batch, by its number there.
    packets: Vec<Packet>,
    coalescer: Box<Coalescer<PACKETS>>,
    parts: GatherBuffer,
    icmp: IcmpErrors,
    probe: Probe,
}

/// A packet that waits to be written.
#[derive(Clone, Copy)]
struct Packet {
    span: Span,
    /// Whose traffic it is.
    peer: PeerIndex,
}

impl Ingress {
    pub(super) fn new(
        config: &Config,
        queue: Arc<TunQueue>,
        socket: Arc<UdpSocket>,
        routes: Arc<RouteTable>,
        agreement: Arc<Agreement>,
        counters: Arc<ThreadCounters>,
        checks: Checks,
    ) -> Self {
        let batched = agreement.has(Feature::Batch);
        let depth = Depth::new(batched);
        Self {
            queue,
            socket,
            routes,
            prefix: if agreement.has(Feature::Vnet) { VnetHeader::LEN } else { 0 },
            mtu: config.mtu.into(),
            checks,
            batch: RecvBatch::new(depth.max, batched),
            depth,
            pattern: ArrivalPattern::default(),
            packets: Vec::with_capacity(PACKETS),
            coalescer: Box::new(Coalescer::new(Protocols { tcp: false, udp: false })),
            parts: GatherBuffer::new(),
            icmp: IcmpErrors::new(config.address),
            probe: config.tap.probe(Direction::Ingress, config.bind),
            agreement,
            counters,
        }
    }

    /// Carries what the socket holds, up to one batch.
    pub(super) fn turn(&mut self, ready: Ready) -> Turn {
        self.probe.look();
        let depth = if self.pattern.is_single(ready) { 1 } else { self.depth.now };
        let received = match self.batch.receive(&self.socket, depth) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.pattern.record_empty();
                return Turn::Idle;
            }
            // What an earlier send has left on the socket; this call has cleared it.
            Err(_) => return Turn::Worked,
        };
        self.probe.came();
        self.coalescer.set_protocols(Protocols {
            tcp: self.agreement.has(Feature::TcpCoalesce),
            udp: self.agreement.has(Feature::UdpCoalesce),
        });
        let counters = Arc::clone(&self.counters);
        let counters = &counters.ingress;
        counters.in_calls.add(1);
        counters.in_units.add(received as u64);
        let before = counters.packets.get();
        let mut bytes = 0;
        let mut turn = Turn::Idle;
        for index in 0..received {
            let message = self.batch.message(index);
            let (from, segment, len) = (message.from, message.segment.max(1), message.bytes.len());
            if message.truncated {
                lose(counters, &mut self.probe, DropReason::Truncated, from, len, message.bytes);
                continue;
            }
            bytes += len;
            counters.in_unit_packets.record(len.div_ceil(segment) as u64);
            let start = RecvBatch::offset(index);
            // A datagram without a payload is one packet, too short.
            for at in (0..len.max(1)).step_by(segment) {
                if self.coalescer.is_full() {
                    turn = turn.max(self.deliver());
                }
                self.accept(from, Span::new(start + at, segment.min(len - at)));
            }
        }
        turn = turn.max(self.deliver());
        // A batch is what one call has brought.
        let packets = counters.packets.get() - before;
        counters.batch.record(packets);
        counters.socket_call_packets.record(packets);
        self.depth.adapt(received, bytes);
        let turn = turn.max(Turn::of_batch(packets, bytes));
        self.pattern.record_batch(turn == Turn::Single);
        turn
    }

    /// Hands one datagram to the coalescer, or drops it.
    fn accept(&mut self, from: SocketAddrV4, span: Span) {
        let (counters, probe) = (&self.counters.ingress, &mut self.probe);
        let datagram = &mut self.batch.bytes_mut()[span.range()];
        let ip = match Ipv4::parse(&*datagram) {
            Ok(ip) => ip,
            Err(malformed) => {
                return lose(counters, probe, malformed.into(), from, datagram.len(), datagram);
            }
        };
        let len = ip.total_len();
        if len > self.mtu {
            return lose(counters, probe, DropReason::OverMtu, from, len, datagram);
        }
        let holder = self.routes.route(ip.source());
        let holder = holder.filter(|holder| holder.hop.ip == *from.ip());
        if let Some(reason) = self.checks.refuse(counters, from, &ip, holder.is_some()) {
            return lose(counters, probe, reason, from, len, datagram);
        }
        if forward::decrement_ttl(datagram).is_err() {
            lose(counters, probe, DropReason::TtlExpired, from, len, datagram);
            return self.answer(from, span, len);
        }
        // Parsed again: what the coalescer compares includes the TTL.
        let Ok(ip) = Ipv4::parse(&*datagram) else {
            return lose(counters, probe, DropReason::Truncated, from, len, datagram);
        };
        if self.coalescer.push(&ip).is_ok() {
            counters.packets.add(1);
            counters.bytes.add(len as u64);
            self.packets.push(Packet {
                span: Span { len: len as u32, ..span },
                peer: holder.map_or(PeerIndex::UNATTRIBUTED, |holder| holder.peer),
            });
        }
    }

    /// Tells the sender of the packet at `span` that its TTL ran out here, by the way it came.
    fn answer(&mut self, from: SocketAddrV4, span: Span, len: usize) {
        let counters = &self.counters.ingress;
        let offender = &self.batch.bytes()[span.range()][..len];
        match self.icmp.reply(ErrorKind::TimeExceeded, offender) {
            Reply::Error(error) => {
                if self.socket.send_to(error, from).is_ok() {
                    counters.icmp.add(1);
                    self.probe.answered(Some(from), error);
                }
            }
            Reply::Limited => counters.icmp_limited.add(1),
            Reply::Forbidden => {}
        }
    }
}

/// Counts a packet of `len` bytes as dropped, and shows the datagram that it came in.
#[cold]
fn lose(
    counters: &DirectionCounters,
    probe: &mut Probe,
    reason: DropReason,
    from: SocketAddrV4,
    len: usize,
    datagram: &[u8],
) {
    counters.lose(reason, 1, len);
    probe.dropped(reason, Some(from), Ttl::AsRead, [datagram, &[]]);
}

/// How many messages one `recvmmsg` may bring: few while they are long, so that a batch stays in
/// the cache and the other end does not wait for it, many while they are short.
struct Depth {
    now: usize,
    max: usize,
}

impl Depth {
    fn new(batched: bool) -> Self {
        match batched {
            true => Self { now: MIN_DEPTH, max: MAX_DEPTH },
            false => Self { now: 1, max: 1 },
        }
    }

    #[inline]
    fn adapt(&mut self, received: usize, bytes: usize) {
        if bytes > BATCH_BYTES {
            self.now = (self.now / 2).max(MIN_DEPTH).min(self.max);
        } else if received == self.now {
            self.now = (self.now * 2).min(self.max);
        }
    }
}

/// Packets that are joined and written together; more of a batch follow in further parts.
const PACKETS: usize = 1_024;
const MIN_DEPTH: usize = 4;
const MAX_DEPTH: usize = 64;
/// Bytes of one batch beyond which the next is made of fewer messages.
const BATCH_BYTES: usize = 256 << 10;
