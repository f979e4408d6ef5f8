//! Sending trains, and what to do when the kernel refuses one.

use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use super::Out;
use super::train::{Datagram, Train};
use crate::dataplane::counters::{DirectionCounters, DropReason};
use crate::dataplane::offload::{Agreement, Feature};
use crate::dataplane::tap::{Probe, Ttl};
use crate::route::NextHop;
use crate::sys::mmsg::Filling;

impl Out {
    /// Whether a datagram of which `stamped` bytes are stamped has no room.
    #[inline]
    pub(super) fn is_full(&self, stamped: usize) -> bool {
        self.trains.is_full() || self.stamped + stamped > self.headers.len()
    }

    /// How many datagrams a train to `hop` may have.
    #[inline]
    pub(super) fn max_segments_to(&mut self, hop: NextHop) -> u32 {
        match self.blocked.holds(hop) {
            false => self.max_segments,
            true => 1,
        }
    }

    /// Sends all trains in their order and empties the plan. A refused train costs only itself.
    pub(super) fn flush(
        &mut self,
        packets: &[u8],
        agreement: &Agreement,
        counters: &DirectionCounters,
        probe: &mut Probe,
    ) {
        let mut next = 0;
        while next < self.trains.trains().len() {
            let mut filling = self.batch.begin();
            for train in &self.trains.trains()[next..] {
                let segment = (train.count > 1).then_some(train.size as u16);
                filling.open(address(train.hop), segment);
                for datagram in self.trains.datagrams(train) {
                    push(&mut filling, &self.headers, packets, datagram);
                }
            }
            let (sent, error) = send(&mut filling, &self.socket, 0, counters);
            probe.left();
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
                if train.count > 1 && may_be_the_cutting(&error) {
                    counters.uncut.add(1);
                    if self.send_singly(&train, packets, agreement, counters, probe) > 0 {
                        self.blocked.blame(&error, &train, agreement);
                    }
                } else {
                    lose(&error, &train, train.count, agreement, counters);
                    self.show(&train, packets, Some(reason(&error)), probe);
                }
            }
            if !agreement.has(Feature::Gso) {
                self.max_segments = 1;
            }
        }
        self.trains.clear();
        self.stamped = 0;
    }

    /// Sends a train that the kernel would not cut as one message for each datagram. Returns how
    /// many left.
    fn send_singly(
        &mut self,
        train: &Train,
        packets: &[u8],
        agreement: &Agreement,
        counters: &DirectionCounters,
        probe: &mut Probe,
    ) -> usize {
        let mut filling = self.batch.begin();
        for datagram in self.trains.datagrams(train) {
            filling.open(address(train.hop), None);
            push(&mut filling, &self.headers, packets, datagram);
        }
        let parts = |datagram| parts(&self.headers, packets, datagram);
        let mut datagrams = self.trains.datagrams(train);
        let (mut next, mut left) = (0, 0);
        while next < filling.len() {
            let (sent, error) = send(&mut filling, &self.socket, next, counters);
            probe.left();
            for datagram in datagrams.by_ref().take(sent) {
                counters.carry(train.peer, 1, datagram.len().into());
                probe.carried(address(train.hop), parts(datagram));
            }
            next += sent;
            left += sent;
            if let Some(error) = error {
                lose(&error, train, 1, agreement, counters);
                if let Some(datagram) = datagrams.next() {
                    let hop = Some(address(train.hop));
                    probe.dropped(reason(&error), hop, Ttl::Decremented, parts(datagram));
                }
                next += 1;
            }
        }
        left
    }
}

impl Out {
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

/// Next hops to which the kernel would not cut, because the path takes less than a segment.
#[derive(Default)]
pub(super) struct Blocked {
    hops: Vec<(NextHop, Instant)>,
    /// Those the log has named.
    told: Vec<NextHop>,
}

impl Blocked {
    #[inline]
    fn holds(&mut self, hop: NextHop) -> bool {
        if self.hops.is_empty() {
            return false;
        }
        self.hops.retain(|(_, until)| Instant::now() < *until);
        self.hops.iter().any(|(blocked, _)| *blocked == hop)
    }

    fn block(&mut self, train: &Train, error: &io::Error) {
        if self.hops.len() < MAX_BLOCKED {
            self.hops.push((train.hop, Instant::now() + BLOCKED_FOR));
        }
        if self.told.len() < MAX_BLOCKED && !self.told.contains(&train.hop) {
            self.told.push(train.hop);
            tracing::warn!(
                to = %train.hop.ip, size = train.size,
                "the kernel does not cut packets to another host ({error}): the path's MTU is \
                 smaller than the interface's; sending them one by one"
            );
        }
    }

    /// Takes note that a train was refused whose datagrams passed one by one.
    fn blame(&mut self, error: &io::Error, train: &Train, agreement: &Agreement) {
        match error.raw_os_error() {
            Some(libc::EMSGSIZE | libc::EINVAL) => self.block(train, error),
            _ => {
                let why = format!("sending {} segments: {error}", train.count);
                agreement.lose(Feature::Gso, why);
            }
        }
    }
}

/// Whether the datagrams of a train refused so may pass one by one.
fn may_be_the_cutting(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        // The path's MTU is below the segment, where a plain datagram is fragmented:
        // `udp_send_skb` of `net/ipv4/udp.c`, which said `EINVAL` in older kernels.
        Some(
            libc::EMSGSIZE | libc::EINVAL
            // The device of the underlay cannot complete checksums.
            | libc::EIO | libc::EOPNOTSUPP
        )
    )
}

/// Sends `filling` from message `first` on; returns how many messages left and the error of the next
/// one.
fn send(
    filling: &mut Filling<'_, '_>,
    socket: &UdpSocket,
    first: usize,
    counters: &DirectionCounters,
) -> (usize, Option<io::Error>) {
    let mut next = first;
    while next < filling.len() {
        counters.out_calls.add(1);
        match filling.send(socket, next) {
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
fn lose(
    error: &io::Error,
    train: &Train,
    count: u32,
    agreement: &Agreement,
    counters: &DirectionCounters,
) {
    let reason = reason(error);
    counters.unsent(reason, train.peer, count.into());
    agreement.refused(reason, train.hop, error);
}

fn reason(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => DropReason::SendQueueFull,
        Some(libc::ENOBUFS | libc::ENOMEM) => DropReason::SendNoBuffers,
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN) => {
            DropReason::SendUnreachable
        }
        Some(libc::EPERM | libc::EACCES) => DropReason::SendRefused,
        Some(libc::EMSGSIZE) => DropReason::SendTooBig,
        _ => DropReason::SendFailed,
    }
}

pub(super) fn address(hop: NextHop) -> SocketAddrV4 {
    SocketAddrV4::new(hop.ip, hop.port)
}

/// How long a next hop gets plain datagrams after it refused a train: the kernel's own memory of a
/// path MTU lasts ten minutes (`net.ipv4.route.mtu_expires`), a change back is found sooner.
const BLOCKED_FOR: Duration = Duration::from_secs(10);
/// Next hops remembered at a time; beyond them each train is tried and refused anew.
const MAX_BLOCKED: usize = 1_024;
