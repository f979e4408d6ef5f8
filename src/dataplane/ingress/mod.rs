//! From UDP to the TUN device: receive a batch, decide about each datagram, coalesce segments, write.

use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::sync::Arc;

use super::checks::Checks;
use super::config::Config;
use super::counters::{DropReason, ThreadCounters};
use super::forward::{self, Dropped, Incoming, Policy};
use super::icmp::{IcmpErrors, Reply};
use super::mtu::Mtu;
use super::offload::{ActiveOffloads, Feature};
use super::polling::{ArrivalPattern, Ready, Turn};
use super::span::Span;
use super::syscalls::PacketQueue;
use super::tap::{Direction, Probe};
use crate::packet::coalesce::{Coalescer, Protocols};
use crate::packet::icmp::ErrorKind;
use crate::packet::vnet::VnetHeader;
use crate::route::{PeerIndex, RouteTable};
use crate::sys::iovec::GatherBuffer;
use crate::sys::mmsg::RecvBatch;
use crate::sys::tun::TunQueue;

mod write;

/// The ingress direction of one worker: from its socket to its TUN queue.
pub(super) struct Ingress<Q = TunQueue> {
    queue: Arc<Q>,
    socket: Arc<UdpSocket>,
    routes: Arc<RouteTable>,
    offloads: Arc<ActiveOffloads>,
    counters: Arc<ThreadCounters>,
    /// Bytes before each packet: the `virtio_net_hdr`, if the device has one.
    prefix: usize,
    mtu: Mtu,
    policy: Policy,
    /// Whether a sender of the batch has been told that its packets are longer than the MTU.
    told: bool,
    /// Bytes of the longest fragment of the datagram at hand; 0 if it came whole.
    fragment: u16,
    checks: Checks,
    depth: Depth,
    pattern: ArrivalPattern,
    batch: RecvBatch,
    /// Where each packet of the coalescer is in the batch, by its number there.
    packets: Vec<Packet>,
    coalescer: Box<Coalescer<PACKETS>>,
    parts: GatherBuffer,
    icmp: IcmpErrors,
    probe: Probe,
}

/// A packet that is about to be written.
#[derive(Clone, Copy)]
struct Packet {
    span: Span,
    /// The peer that its traffic is attributed to.
    peer: PeerIndex,
}

impl<Q: PacketQueue> Ingress<Q> {
    pub(super) fn new(
        config: &Config,
        queue: Arc<Q>,
        socket: Arc<UdpSocket>,
        routes: Arc<RouteTable>,
        offloads: Arc<ActiveOffloads>,
        counters: Arc<ThreadCounters>,
        checks: Checks,
    ) -> Self {
        let batched = offloads.has(Feature::Batch);
        let depth = Depth::new(batched);
        let policy = Policy::from(config);
        Self {
            queue,
            socket,
            routes,
            prefix: if offloads.has(Feature::Vnet) { VnetHeader::LEN } else { 0 },
            mtu: config.mtu.clone(),
            policy,
            told: false,
            fragment: 0,
            checks,
            batch: RecvBatch::new(depth.max, batched),
            depth,
            pattern: ArrivalPattern::default(),
            packets: Vec::with_capacity(PACKETS),
            coalescer: Box::new(Coalescer::new(Protocols { tcp: false, udp: false })),
            parts: GatherBuffer::new(),
            icmp: IcmpErrors::new(policy.ingress_icmp_source),
            probe: config.tap.probe(Direction::Ingress, config.bind),
            offloads,
            counters,
        }
    }

    /// Writes to the TUN device what the socket holds, up to one batch.
    pub(super) fn turn(&mut self, ready: Ready) -> Turn {
        self.probe.check_capture();
        let depth = if self.pattern.is_single(ready) { 1 } else { self.depth.now };
        let received = match self.batch.receive(&self.socket, depth) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.pattern.record_empty();
                return Turn::Idle;
            }
            // The error of an earlier send on this socket, which this call has cleared.
            Err(_) => return Turn::Worked,
        };
        self.probe.batch_read();
        (self.policy.mtu, self.told) = (self.mtu.get().into(), false);
        self.coalescer.set_protocols(Protocols {
            tcp: self.offloads.has(Feature::TcpCoalesce),
            udp: self.offloads.has(Feature::UdpCoalesce),
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
                let dropped = Dropped::whole(DropReason::Truncated, len);
                self.drop_datagram(&dropped, from, Span::new(RecvBatch::offset(index), len));
                continue;
            }
            self.fragment = message.fragment;
            bytes += len;
            counters.in_unit_packets.record(len.div_ceil(segment) as u64);
            let start = RecvBatch::offset(index);
            // A datagram without a payload is one packet that is too short.
            for at in (0..len.max(1)).step_by(segment) {
                if self.coalescer.is_full() {
                    turn = turn.max(self.write_groups());
                }
                self.forward(from, Span::new(start + at, segment.min(len - at)));
            }
        }
        turn = turn.max(self.write_groups());
        // A batch is what one call has received.
        let packets = counters.packets.get() - before;
        counters.batch.record(packets);
        counters.socket_call_packets.record(packets);
        self.depth.adapt(received, bytes);
        let turn = turn.max(Turn::of_batch(packets, bytes));
        self.pattern.record_batch(turn == Turn::Single);
        turn
    }

    /// Decides about the datagram at `span`, and passes its packet to the coalescer or drops it.
    fn forward(&mut self, from: SocketAddrV4, span: Span) {
        let counters = &self.counters.ingress;
        let datagram = &mut self.batch.bytes_mut()[span.range()];
        let grace_of = |is_peer| self.checks.grace_of(*from.ip(), is_peer);
        let (checked, result) =
            forward::ingress(&self.policy, &self.routes, from, grace_of, datagram);
        if let Some(checked) = &checked
            && !checked.passes()
        {
            self.checks.apply(counters, from, checked);
        }
        match result {
            Ok(Incoming { packet, peer, icmp }) => {
                let len = packet.total_len();
                if self.fragment > 0 {
                    counters.peers.record_fragment(peer, self.fragment);
                }
                if self.coalescer.push(&packet).is_ok() {
                    counters.packets.add(1);
                    counters.bytes.add(len as u64);
                    self.packets.push(Packet { span: Span { len: len as u32, ..span }, peer });
                }
                if let Some(kind) = icmp
                    && !self.told
                {
                    self.told = true;
                    self.answer(kind, from, Span { len: len as u32, ..span });
                }
            }
            Err(dropped) => self.drop_datagram(&dropped, from, span),
        }
    }

    /// Counts the packet in the datagram at `span` as dropped, shows a capture the datagram, and answers
    /// the packet's sender.
    #[cold]
    fn drop_datagram(&mut self, dropped: &Dropped, from: SocketAddrV4, span: Span) {
        let datagram = &self.batch.bytes()[span.range()];
        let counters = &self.counters.ingress;
        counters.record_dropped(dropped.reason, 1, dropped.len);
        self.probe.dropped(dropped.reason, Some(from), dropped.ttl, [datagram, &[]]);
        if let Some(kind) = dropped.icmp {
            self.answer(kind, from, Span { len: dropped.len as u32, ..span });
        }
    }

    /// Sends an ICMP error to the sender of the packet at `span`, through the peer that it came from.
    #[cold]
    fn answer(&mut self, kind: ErrorKind, from: SocketAddrV4, span: Span) {
        let counters = &self.counters.ingress;
        match self.icmp.reply(kind, &self.batch.bytes()[span.range()]) {
            Reply::Error(error) => {
                if self.socket.send_to(error, from).is_ok() {
                    counters.icmp.add(1);
                    self.probe.icmp_sent(Some(from), error);
                }
            }
            Reply::Limited => counters.icmp_limited.add(1),
            Reply::Forbidden => {}
        }
    }
}

/// How many messages one `recvmmsg` may receive: few while they are long, so that a batch stays in the
/// cache and the peer does not wait for it, many while they are short.
struct Depth {
    now: usize,
    max: usize,
}

impl Depth {
    fn new(batched: bool) -> Self {
        if batched { Self { now: MIN_DEPTH, max: MAX_DEPTH } } else { Self { now: 1, max: 1 } }
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

/// Packets that are coalesced and written together; the rest of a longer batch follows in further
/// parts.
const PACKETS: usize = 1_024;
const MIN_DEPTH: usize = 4;
const MAX_DEPTH: usize = 64;
/// Bytes of one batch beyond which the next has fewer messages.
const BATCH_BYTES: usize = 256 << 10;
