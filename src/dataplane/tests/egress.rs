//! What egress does when the kernel refuses to send.

use std::ops::Range;
use std::sync::Arc;

use super::support::{
    MTU, ScriptedQueue, ScriptedSocket, config, routes, tcp, tcp_super_packet, udp,
};
use crate::dataplane::counters::{Stats, ThreadCounters};
use crate::dataplane::egress::{Egress, INTERACTIVE_WINDOW};
use crate::dataplane::mtu::Mtu;
use crate::dataplane::offload::{ActiveOffloads, Feature, Offloads};
use crate::dataplane::polling::{Ready, RecentEvent};
use crate::dataplane::{Config, OuterTos};
use crate::packet::ipv4::Ipv4;
use crate::packet::vnet::VnetHeader;
use crate::route::{Cidr, NextHop};
use crate::sys::mmsg::Message;

const A: NextHop = NextHop { ip: std::net::Ipv4Addr::new(192, 168, 0, 2), port: 8285 };
const B: NextHop = NextHop { ip: std::net::Ipv4Addr::new(192, 168, 0, 3), port: 8285 };
const C: NextHop = NextHop { ip: std::net::Ipv4Addr::new(192, 168, 0, 4), port: 8285 };
const HERE: [u8; 4] = [10, 0, 1, 2];
/// Payload of each of the three segments to A.
const SEGMENT: u16 = 1_000;

/// Egress over a scripted kernel.
pub(super) struct Bench {
    queue: Arc<ScriptedQueue>,
    socket: Arc<ScriptedSocket>,
    counters: Arc<ThreadCounters>,
    offloads: Arc<ActiveOffloads>,
    mtu: Mtu,
    egress: Egress<ScriptedQueue, ScriptedSocket>,
}

impl Bench {
    fn new(per_call: usize, refuse: impl Fn(&Message) -> Option<i32> + 'static) -> Self {
        Self::with(OuterTos::default(), per_call, refuse)
    }

    fn with(
        outer_tos: OuterTos,
        per_call: usize,
        refuse: impl Fn(&Message) -> Option<i32> + 'static,
    ) -> Self {
        let config = Config { outer_tos, ..config(Offloads::AUTO) };
        let queue = ScriptedQueue::new(|_| None);
        let socket = ScriptedSocket::new(per_call, refuse);
        let counters = Arc::new(ThreadCounters::new(true, true));
        let offloads = Arc::new(ActiveOffloads::new(config.offloads));
        let egress = Egress::new(
            &config,
            vec![Arc::clone(&queue)],
            Arc::clone(&socket),
            routes(&[(2, A), (3, B), (4, C)]),
            Arc::clone(&offloads),
            Arc::clone(&counters),
            Arc::new(RecentEvent::new(INTERACTIVE_WINDOW)),
        );
        Self { queue, socket, counters, offloads, mtu: config.mtu, egress }
    }

    /// Among `hosts` hosts, of which the first `blocked` are behind a path that takes no trains.
    pub(super) fn among(hosts: u32, blocked: u32) -> Self {
        let mut bench =
            Self::new(usize::MAX, |message| is_train(message).then_some(libc::EMSGSIZE));
        let (mut writer, table) = crate::route::table("10.0.0.0/8".parse().unwrap(), 24);
        for n in 0..hosts {
            let subnet = Cidr::new((0x0a00_0000 + (n << 8)).into(), 24);
            writer.insert(subnet, NextHop { ip: (0xac10_0000 + n).into(), port: 8285 }).unwrap();
        }
        bench.egress = bench.egress.with_routes(table);
        for n in 0..blocked {
            let to = (0x0a00_0002 + (n << 8)).to_be_bytes();
            bench.queue.holds(tcp_super_packet(8), &tcp(HERE, to, 1, 16));
            bench.egress.turn(Ready::ANY);
        }
        assert_eq!(bench.stats().egress.gso_refused, u64::from(blocked));
        bench
    }

    /// Sends a small packet to each of these hosts, in one batch.
    pub(super) fn single_packets(&mut self, hosts: Range<u32>) {
        for n in hosts {
            let to = (0x0a00_0002 + (n << 8)).to_be_bytes();
            self.queue.holds(VnetHeader::NONE, &udp(HERE, to, 64, 10));
        }
        self.egress.turn(Ready::ANY);
        self.socket.sent.borrow_mut().clear();
    }

    /// Sends a train of three segments to A, then a packet each to B and C, in one batch.
    fn batch(&mut self) {
        let train = tcp(HERE, [10, 0, 2, 2], 1, 3 * usize::from(SEGMENT));
        self.queue.holds(tcp_super_packet(SEGMENT), &train);
        self.queue.holds(VnetHeader::NONE, &udp(HERE, [10, 0, 3, 2], 64, 10));
        self.queue.holds(VnetHeader::NONE, &udp(HERE, [10, 0, 4, 2], 64, 10));
        self.egress.turn(Ready::ANY);
    }

    fn stats(&self) -> Stats {
        let stats = Stats::sum([&*self.counters]);
        let egress = &stats.egress;
        assert_eq!(egress.packets, egress.carried_packets + egress.dropped(), "conservation");
        stats
    }

    /// What left: to which host, how many datagrams, and whether the kernel cut them.
    fn sent(&self) -> Vec<(u8, usize, bool)> {
        let shape = |message: &Message| {
            let count = message.segment.map_or(1, |size| message.bytes.len().div_ceil(size.into()));
            (message.to.ip().octets()[3], count, message.segment.is_some())
        };
        self.socket.sent.borrow().iter().map(shape).collect()
    }
}

fn is_train(message: &Message) -> bool {
    message.segment.is_some()
}

fn is_to(message: &Message, hop: NextHop) -> bool {
    *message.to.ip() == hop.ip
}

#[test]
fn a_batch_leaves_in_one_call_with_one_message_per_train() {
    let mut bench = Bench::new(usize::MAX, |_| None);
    bench.batch();
    assert_eq!(bench.sent(), [(2, 3, true), (3, 1, false), (4, 1, false)]);
    assert_eq!(bench.socket.calls.get(), 1);
    assert_eq!(bench.stats().egress.carried_packets, 5);
}

#[test]
fn a_call_that_takes_part_of_the_messages_is_continued() {
    for per_call in [1, 2] {
        let mut bench = Bench::new(per_call, |_| None);
        bench.batch();
        assert_eq!(bench.sent(), [(2, 3, true), (3, 1, false), (4, 1, false)]);
        assert_eq!(bench.socket.calls.get(), 3usize.div_ceil(per_call));
        assert_eq!(bench.stats().egress.carried_packets, 5);
    }
}

/// The DSCP of the packets, without their ECN bits, also where a train is sent one by one; a fixed byte is
/// the socket's, and no message asks for one.
#[test]
fn each_message_has_the_dscp_of_its_packets() {
    let refuse_trains: fn(&Message) -> Option<i32> =
        |message| is_train(message).then_some(libc::EINVAL);
    let inherit = |refuse| Bench::with(OuterTos::Inherit, usize::MAX, refuse);
    let none: fn(&Message) -> Option<i32> = |_| None;
    for (outer, mut bench, expected) in [
        ("inherited", inherit(none), &[0xb8, 0, 0x20][..]),
        ("one by one", inherit(refuse_trains), &[0xb8, 0xb8, 0xb8, 0, 0x20][..]),
        ("fixed", Bench::with(OuterTos::Fixed(0xb8), usize::MAX, none), &[0][..]),
        ("zero", Bench::new(usize::MAX, none), &[0][..]),
    ] {
        let marked = |mut packet: Vec<u8>, tos| {
            packet[1] = tos;
            packet
        };
        let train = tcp(HERE, [10, 0, 2, 2], 1, 3 * usize::from(SEGMENT));
        bench.queue.holds(tcp_super_packet(SEGMENT), &marked(train, 0xbb));
        for (tos, destination) in [(0x01, [10, 0, 2, 2]), (0x22, [10, 0, 2, 3])] {
            let packet = udp(HERE, destination, 64, usize::from(SEGMENT) + 12);
            bench.queue.holds(VnetHeader::NONE, &marked(packet, tos));
        }
        bench.egress.turn(Ready::ANY);
        let sent: Vec<u8> = bench.socket.sent.borrow().iter().map(|message| message.tos).collect();
        assert_eq!(sent, expected, "{outer}");
        assert_eq!(bench.stats().egress.carried_packets, 5, "{outer}");
    }
}

#[test]
fn an_interrupted_call_is_made_again() {
    let interrupted = std::cell::Cell::new(false);
    let mut bench =
        Bench::new(usize::MAX, move |_| (!interrupted.replace(true)).then_some(libc::EINTR));
    bench.batch();
    assert_eq!(bench.stats().egress.carried_packets, 5);
    assert_eq!(bench.stats().egress.dropped(), 0);
}

/// The rows "a train is not segmented": the datagrams pass one by one, nothing is lost.
#[test]
fn a_refused_train_is_sent_one_by_one() {
    // errno, whether `gso` is given up
    for (errno, gives_up) in [
        (libc::EMSGSIZE, false),
        (libc::EINVAL, false),
        (libc::EIO, true),
        (libc::EOPNOTSUPP, true),
    ] {
        let mut bench = Bench::new(usize::MAX, move |message| is_train(message).then_some(errno));
        bench.batch();
        let singly = [(2, 1, false); 3].into_iter().chain([(3, 1, false), (4, 1, false)]);
        assert_eq!(bench.sent(), singly.clone().collect::<Vec<_>>(), "errno {errno}");
        let stats = bench.stats().egress;
        assert_eq!(
            (stats.carried_packets, stats.dropped(), stats.gso_refused),
            (5, 0, 1),
            "{errno}"
        );
        assert_eq!(bench.offloads.has(Feature::Gso), !gives_up, "errno {errno}");
        // The next batch is not even tried as a train: nothing more is refused.
        bench.batch();
        assert_eq!(bench.sent(), singly.clone().chain(singly).collect::<Vec<_>>(), "{errno}");
        assert_eq!(bench.stats().egress.gso_refused, 1, "errno {errno}");
    }
}

/// A train whose datagrams are refused one by one as well does not cost the feature, and the other
/// hosts nothing.
#[test]
fn segmentation_is_not_blamed_for_what_single_datagrams_meet_too() {
    for (errno, reason) in [
        (libc::EMSGSIZE, "send-too-big"),
        (libc::EINVAL, "send-failed"),
        (libc::EIO, "send-failed"),
        (libc::EOPNOTSUPP, "send-failed"),
    ] {
        let mut bench = Bench::new(usize::MAX, move |message| is_to(message, A).then_some(errno));
        for batch in 1..=2 {
            bench.batch();
            let stats = bench.stats().egress;
            assert_eq!((stats.carried_packets, stats.drops[reason]), (2 * batch, 3 * batch));
            assert_eq!(stats.gso_refused, batch, "the train is tried each time");
            let answers = if errno == libc::EMSGSIZE { 3 * batch } else { 0 };
            assert_eq!(stats.icmp, answers, "errno {errno}");
        }
        assert!(bench.offloads.has(Feature::Gso), "errno {errno}");
        assert_eq!(bench.sent(), [(3, 1, false), (4, 1, false)].repeat(2));
    }
}

/// The rows of refusals that drop: each has its reason, and costs one host its packets.
#[test]
fn a_refused_message_costs_itself_alone() {
    for (errno, reason) in [
        (libc::EPERM, "send-refused"),
        (libc::EACCES, "send-unreachable"),
        (libc::ENETUNREACH, "send-unreachable"),
        (libc::EHOSTUNREACH, "send-unreachable"),
        (libc::ENETDOWN, "send-unreachable"),
        (libc::ENOBUFS, "send-no-buffers"),
        (libc::ENOMEM, "send-no-buffers"),
        (libc::EAGAIN, "send-queue-full"),
        (libc::ECONNREFUSED, "send-failed"),
    ] {
        // The train, and a single datagram in the middle of a batch.
        for (hop, lost) in [(A, 3), (B, 1)] {
            let mut bench =
                Bench::new(usize::MAX, move |message| is_to(message, hop).then_some(errno));
            bench.batch();
            let stats = bench.stats().egress;
            assert_eq!(stats.drops[reason], lost, "errno {errno} to {hop}");
            assert_eq!(stats.carried_packets, 5 - lost, "errno {errno} to {hop}");
            assert_eq!(stats.gso_refused, 0, "errno {errno} to {hop}");
            assert!(bench.offloads.has(Feature::Gso), "errno {errno} to {hop}");
            assert!(bench.sent().iter().all(|sent| sent.0 != hop.ip.octets()[3]));
        }
    }
}

#[test]
fn a_packet_that_cannot_be_sent_is_answered() {
    for (destination, ttl, kind) in [([10, 0, 9, 9], 64, 3), ([10, 0, 2, 2], 1, 11)] {
        let mut bench = Bench::new(usize::MAX, |_| None);
        bench.queue.holds(VnetHeader::NONE, &udp(HERE, destination, ttl, 10));
        bench.egress.turn(Ready::ANY);
        assert_eq!((bench.stats().egress.dropped(), bench.stats().egress.icmp), (1, 1));
        let written = bench.queue.written.borrow();
        let ip = etherparse::Ipv4Slice::from_slice(&written[0][VnetHeader::LEN..]).unwrap();
        let header = ip.header();
        assert_eq!(header.destination(), HERE);
        assert_eq!(header.source(), [10, 0, 0, 0], "an address that the kernel believes");
        assert_eq!(ip.payload().payload[0], kind);
    }
}

/// The path MTU is what the packet's sender must learn, wherever the packet is found to be too long.
#[test]
fn a_packet_that_is_too_long_is_answered_with_an_mtu() {
    let full = udp(HERE, [10, 0, 2, 2], 64, usize::from(MTU) - 28);
    let told = |bench: &Bench| -> Vec<[u8; 4]> {
        let written = bench.queue.written.borrow();
        let message = |packet: &Vec<u8>| [30, 31, 36, 37].map(|at| packet[at]);
        written.iter().map(message).collect()
    };
    let [old, new, below] = [MTU, 1_372, 1_464].map(u16::to_be_bytes);
    // It is longer than the MTU, before and after a change.
    let mut bench = Bench::new(usize::MAX, |_| None);
    let mut longer = full.clone();
    longer.push(0);
    longer[2..4].copy_from_slice(&(MTU + 1).to_be_bytes());
    let mut longer = Ipv4::parse(longer).unwrap();
    longer.fill_checksum();
    bench.queue.holds(VnetHeader::NONE, longer.as_bytes());
    bench.queue.holds(VnetHeader::NONE, &full);
    bench.egress.turn(Ready::ANY);
    assert_eq!(told(&bench), [[3, 4, old[0], old[1]]]);
    bench.mtu.set(1_372);
    bench.queue.holds(VnetHeader::NONE, &full);
    bench.egress.turn(Ready::ANY);
    assert_eq!(told(&bench)[1..], [[3, 4, new[0], new[1]]]);
    assert_eq!((bench.stats().egress.drops["over-mtu"], bench.sent().len()), (2, 1));
    // The kernel does not send it.
    let mut bench = Bench::new(usize::MAX, |_| Some(libc::EMSGSIZE));
    bench.queue.holds(VnetHeader::NONE, &full);
    bench.egress.turn(Ready::ANY);
    assert_eq!(told(&bench), [[3, 4, below[0], below[1]]]);
}

#[test]
fn every_segment_that_would_have_left_is_counted() {
    let mut bench = Bench::new(usize::MAX, |_| None);
    let packet = tcp(HERE, [10, 0, 9, 9], 1, 3 * usize::from(SEGMENT));
    bench.queue.holds(tcp_super_packet(SEGMENT), &packet);
    let long = tcp(HERE, [10, 0, 2, 2], 1, 2 * usize::from(MTU));
    bench.queue.holds(tcp_super_packet(MTU), &long);
    bench.queue.holds(VnetHeader { csum_start: 19, ..tcp_super_packet(SEGMENT) }, &long);
    bench.egress.turn(Ready::ANY);
    let stats = bench.stats().egress;
    assert_eq!(
        (stats.drops["no-route"], stats.drops["over-mtu"], stats.drops["bad-vnet-header"]),
        (3, 2, 1)
    );
}
