//! Sending trains, and the reaction to each refusal of the kernel.

use std::io;
use std::net::SocketAddrV4;

use super::Sender;
use super::errors::ErrorWriter;
use super::train::{Datagram, Train};
use crate::dataplane::counters::{DirectionCounters, DropReason};
use crate::dataplane::icmp;
use crate::dataplane::offload::{ActiveOffloads, Feature, gso};
use crate::dataplane::syscalls::{MessageSocket, PacketQueue};
use crate::dataplane::tap::{Probe, Ttl};
use crate::packet::icmp::ErrorKind;
use crate::route::{NextHop, Route};
use crate::sys::mmsg::Filling;

impl<S: MessageSocket> Sender<S> {
    /// Whether there is no room for a further datagram with `header_len` bytes of headers.
    #[inline]
    pub(super) fn is_full(&self, header_len: usize) -> bool {
        self.trains.is_full() || self.headers_len + header_len > self.headers.len()
    }

    /// How many datagrams a train along `route` may have.
    #[inline]
    pub(super) fn max_segments_to(&self, route: &Route) -> u32 {
        if self.gso_blocklist.contains(route) { 1 } else { self.max_segments }
    }

    /// Sends all trains in their order, and empties the list. A refused train costs only itself.
    pub(super) fn flush<Q: PacketQueue>(
        &mut self,
        packets: &[u8],
        offloads: &ActiveOffloads,
        counters: &DirectionCounters,
        errors: &mut ErrorWriter<Q>,
        probe: &mut Probe,
    ) {
        let mut next = 0;
        while next < self.trains.trains().len() {
            let mut filling = self.batch.begin();
            for train in &self.trains.trains()[next..] {
                let segment = (train.count > 1).then_some(train.size as u16);
                filling.open(address(train.hop), segment, train.tos);
                for datagram in self.trains.datagrams(train) {
                    push(&mut filling, &self.headers, packets, datagram);
                }
            }
            let (sent, error) = send(&mut filling, &*self.socket, 0, counters);
            probe.batch_sent();
            let before = counters.carried_packets.get();
            for train in &self.trains.trains()[next..next + sent] {
                carried(train, counters);
                self.show(train, packets, None, probe);
            }
            counters.socket_call_packets.record(counters.carried_packets.get() - before);
            next += sent;
            if let Some(error) = error {
                let train = self.trains.trains()[next];
                next += 1;
                if train.count > 1 && gso::may_pass_singly(&error) {
                    counters.gso_refused.add(1);
                    if self.send_singly(&train, packets, offloads, counters, errors, probe) > 0 {
                        self.gso_blocklist.record_refusal(
                            &error,
                            Route { hop: train.hop, peer: train.peer },
                            (train.count, train.size),
                            offloads,
                        );
                    }
                } else {
                    drop_unsent(&error, &train, train.count, offloads, counters);
                    self.show(&train, packets, Some(reason(&error)), probe);
                    for datagram in self.trains.datagrams(&train) {
                        let parts = parts(&self.headers, packets, datagram);
                        answer_too_big(&error, parts, counters, errors, probe);
                    }
                }
            }
            if !offloads.has(Feature::Gso) {
                self.max_segments = 1;
            }
        }
        self.trains.clear();
        self.headers_len = 0;
    }

    /// Sends a train that the kernel did not segment as one message per datagram. Returns how many were
    /// sent.
    fn send_singly<Q: PacketQueue>(
        &mut self,
        train: &Train,
        packets: &[u8],
        offloads: &ActiveOffloads,
        counters: &DirectionCounters,
        errors: &mut ErrorWriter<Q>,
        probe: &mut Probe,
    ) -> usize {
        let mut filling = self.batch.begin();
        for datagram in self.trains.datagrams(train) {
            filling.open(address(train.hop), None, train.tos);
            push(&mut filling, &self.headers, packets, datagram);
        }
        let parts = |datagram| parts(&self.headers, packets, datagram);
        let mut datagrams = self.trains.datagrams(train);
        let (mut next, mut left) = (0, 0);
        while next < filling.len() {
            let (sent, error) = send(&mut filling, &*self.socket, next, counters);
            probe.batch_sent();
            for datagram in datagrams.by_ref().take(sent) {
                counters.carry(train.peer, 1, datagram.len().into());
                probe.carried(address(train.hop), parts(datagram));
            }
            next += sent;
            left += sent;
            if let Some(error) = error {
                drop_unsent(&error, train, 1, offloads, counters);
                if let Some(datagram) = datagrams.next() {
                    let hop = Some(address(train.hop));
                    probe.dropped(reason(&error), hop, Ttl::Decremented, parts(datagram));
                    answer_too_big(&error, parts(datagram), counters, errors, probe);
                }
                next += 1;
            }
        }
        left
    }

    /// Shows a capture the datagrams of a train, and why they were dropped if they were.
    #[inline]
    fn show(&self, train: &Train, packets: &[u8], dropped: Option<DropReason>, probe: &mut Probe) {
        if !probe.is_on() {
            return;
        }
        let hop = address(train.hop);
        for datagram in self.trains.datagrams(train) {
            let parts = parts(&self.headers, packets, datagram);
            match dropped {
                None => probe.carried(hop, parts),
                Some(reason) => probe.dropped(reason, Some(hop), Ttl::Decremented, parts),
            }
        }
    }
}

/// Sends `filling` from message `first` on. Returns how many messages were sent, and the error of the
/// next one.
fn send(
    filling: &mut Filling<'_, '_>,
    socket: &impl MessageSocket,
    first: usize,
    counters: &DirectionCounters,
) -> (usize, Option<io::Error>) {
    let mut next = first;
    while next < filling.len() {
        counters.out_calls.add(1);
        match socket.send(filling, next) {
            Ok(sent) => next += sent,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (next - first, Some(error)),
        }
    }
    (next - first, None)
}

#[inline]
fn push<'a>(
    filling: &mut Filling<'_, 'a>,
    headers: &'a [u8],
    packets: &'a [u8],
    datagram: &Datagram,
) {
    for part in parts(headers, packets, datagram) {
        filling.push(part);
    }
}

/// The bytes of a datagram.
#[inline]
fn parts<'a>(headers: &'a [u8], packets: &'a [u8], datagram: &Datagram) -> [&'a [u8]; 2] {
    [&headers[datagram.header.range()], &packets[datagram.body.range()]]
}

fn carried(train: &Train, counters: &DirectionCounters) {
    counters.carry(train.peer, train.count.into(), train.bytes.into());
    counters.out_units.add(1);
    counters.out_unit_packets.record(train.count.into());
}

#[cold]
fn drop_unsent(
    error: &io::Error,
    train: &Train,
    count: u32,
    offloads: &ActiveOffloads,
    counters: &DirectionCounters,
) {
    let reason = reason(error);
    counters.unsent(reason, train.peer, count.into());
    offloads.refused(reason, train.hop, error);
}

/// Tells the sender of a datagram that was too long for its path. The kernel has not said which length
/// it would have sent; a sender that gets this error again tries ever shorter packets.
fn answer_too_big<Q: PacketQueue>(
    error: &io::Error,
    [header, body]: [&[u8]; 2],
    counters: &DirectionCounters,
    errors: &mut ErrorWriter<Q>,
    probe: &mut Probe,
) {
    if reason(error) == DropReason::SendTooBig {
        let mtu = icmp::mtu_below(header.len() + body.len());
        // A packet without a header of its own is in one piece.
        let offender = if header.is_empty() { body } else { header };
        errors.answer(ErrorKind::FragmentationNeeded { mtu }, offender, counters, probe);
    }
}

fn reason(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => DropReason::SendQueueFull,
        Some(libc::ENOBUFS | libc::ENOMEM) => DropReason::SendNoBuffers,
        // `EACCES` is the answer of a `prohibit` route.
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EACCES) => {
            DropReason::SendUnreachable
        }
        Some(libc::EPERM) => DropReason::SendRefused,
        Some(libc::EMSGSIZE) => DropReason::SendTooBig,
        _ => DropReason::SendFailed,
    }
}

pub(super) fn address(hop: NextHop) -> SocketAddrV4 {
    SocketAddrV4::new(hop.ip, hop.port)
}
