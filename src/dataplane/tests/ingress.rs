//! What ingress does when the kernel refuses a write to the TUN device.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::support::{MTU, ScriptedQueue, config, routes, tcp, udp};
use crate::dataplane::checks::{Checks, MismatchReports};
use crate::dataplane::counters::{Stats, ThreadCounters};
use crate::dataplane::ingress::Ingress;
use crate::dataplane::offload::{ActiveOffloads, Feature, Offloads};
use crate::dataplane::polling::{Ready, Turn};
use crate::packet::vnet::{GsoType, VnetHeader};
use crate::route::NextHop;

const THERE: [u8; 4] = [10, 0, 2, 2];
const HERE: [u8; 4] = [10, 0, 1, 2];

/// Ingress from a real socket on loopback to a scripted TUN queue.
struct Bench {
    peer: UdpSocket,
    to: SocketAddrV4,
    queue: Arc<ScriptedQueue>,
    counters: Arc<ThreadCounters>,
    offloads: Arc<ActiveOffloads>,
    ingress: Ingress<ScriptedQueue>,
}

impl Bench {
    fn new(refuse: impl Fn(&[u8]) -> Option<i32> + 'static) -> Self {
        let config = config(Offloads::AUTO.with(Feature::Gro, false));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (SocketAddr::V4(to), SocketAddr::V4(from)) =
            (socket.local_addr().unwrap(), peer.local_addr().unwrap())
        else {
            unreachable!("both are bound to an IPv4 address")
        };
        let routes = routes(&[(2, NextHop { ip: *from.ip(), port: from.port() })]);
        let queue = ScriptedQueue::new(refuse);
        let counters = Arc::new(ThreadCounters::new(true, true));
        let offloads = Arc::new(ActiveOffloads::new(config.offloads));
        let ingress = Ingress::new(
            &config,
            Arc::clone(&queue),
            Arc::new(socket),
            Arc::clone(&routes),
            Arc::clone(&offloads),
            Arc::clone(&counters),
            Checks::new(&MismatchReports::new(config.source_check)),
        );
        Self { peer, to, queue, counters, offloads, ingress }
    }

    fn send(&self, packets: &[Vec<u8>]) {
        for packet in packets {
            self.peer.send_to(packet, self.to).unwrap();
        }
    }

    /// Works until all packets sent so far have come in; returns the greatest turn.
    fn run(&mut self, sent: u64) -> Turn {
        let start = Instant::now();
        let mut turn = Turn::Idle;
        while self.counters.ingress.packets.get() < sent {
            assert!(start.elapsed() < Duration::from_secs(5), "datagrams are missing");
            turn = turn.max(self.ingress.turn(Ready::ANY));
        }
        turn
    }

    fn stats(&self) -> Stats {
        let stats = Stats::sum([&*self.counters]);
        let ingress = &stats.ingress;
        assert_eq!(ingress.packets, ingress.carried_packets + ingress.dropped(), "conservation");
        stats
    }
}

/// Three TCP segments that follow each other.
fn segments() -> Vec<Vec<u8>> {
    (0..3).map(|n| tcp(THERE, HERE, 1 + 100 * n, 100)).collect()
}

fn gso_of(written: &[u8]) -> GsoType {
    VnetHeader::decode(written.first_chunk().unwrap()).unwrap().gso
}

fn is_joined(written: &[u8]) -> bool {
    gso_of(written) != GsoType::None
}

#[test]
fn segments_that_follow_each_other_are_written_joined() {
    let mut bench = Bench::new(|_| None);
    bench.send(&segments());
    bench.run(3);
    let written = bench.queue.written.borrow();
    assert_eq!(written.iter().map(|packet| gso_of(packet)).collect::<Vec<_>>(), [GsoType::TcpV4]);
    assert_eq!(bench.stats().ingress.carried_packets, 3);
}

/// The row "a joined write": the packets are written one by one as they came, and joining that
/// protocol is given up.
#[test]
fn a_refused_joined_write_is_made_packet_by_packet() {
    for errno in [libc::EINVAL, libc::EOPNOTSUPP] {
        for (packets, lost, kept) in [
            (segments(), Feature::TcpCoalesce, Feature::UdpCoalesce),
            (vec![udp(THERE, HERE, 64, 50); 3], Feature::UdpCoalesce, Feature::TcpCoalesce),
        ] {
            let mut bench = Bench::new(move |written| is_joined(written).then_some(errno));
            bench.send(&packets);
            bench.run(3);
            for (written, packet) in bench.queue.written.borrow().iter().zip(&packets) {
                let ip = etherparse::Ipv4Slice::from_slice(&written[VnetHeader::LEN..]).unwrap();
                assert_eq!(ip.header().ttl(), 63);
                assert_eq!(
                    ip.header().header_checksum(),
                    ip.header().to_header().calc_header_checksum()
                );
                assert_eq!(ip.payload().payload, &packet[20..], "as it came");
            }
            assert_eq!(bench.queue.written.borrow().len(), 3);
            assert_eq!(bench.stats().ingress.carried_packets, 3);
            assert!(!bench.offloads.has(lost) && bench.offloads.has(kept), "errno {errno}");
            bench.send(&packets);
            bench.run(6);
            assert_eq!(bench.queue.written.borrow().len(), 6, "no further write is refused");
        }
    }
}

/// The rows of refusals that drop, joined or not.
#[test]
fn a_refused_write_has_its_reason_and_costs_itself_alone() {
    for (errno, reason) in [
        (libc::EIO, "tun-down"),
        (libc::EAGAIN, "tun-full"),
        (libc::ENOBUFS, "tun-full"),
        (libc::ENOMEM, "tun-full"),
        (libc::EPERM, "tun-refused"),
    ] {
        let mut bench = Bench::new(move |written| is_joined(written).then_some(errno));
        bench.send(&segments());
        bench.send(&[udp(THERE, HERE, 64, 10)]);
        bench.run(4);
        let stats = bench.stats().ingress;
        assert_eq!((stats.drops[reason], stats.carried_packets), (3, 1), "joined, errno {errno}");
        assert!(bench.offloads.has(Feature::TcpCoalesce), "errno {errno}");

        let mut bench = Bench::new(move |written| (!is_joined(written)).then_some(errno));
        bench.send(&segments());
        bench.send(&[udp(THERE, HERE, 64, 10)]);
        bench.run(4);
        let stats = bench.stats().ingress;
        assert_eq!((stats.drops[reason], stats.carried_packets), (1, 3), "single, errno {errno}");
    }
}

#[test]
fn a_single_packet_that_the_kernel_refuses_is_dropped_as_refused() {
    let mut bench = Bench::new(|written| (!is_joined(written)).then_some(libc::EINVAL));
    bench.send(&[udp(THERE, HERE, 64, 10)]);
    bench.run(1);
    assert_eq!(bench.stats().ingress.drops["tun-refused"], 1);
    assert!(bench.offloads.has(Feature::TcpCoalesce) && bench.offloads.has(Feature::UdpCoalesce));
}

#[test]
fn a_device_that_is_gone_ends_the_worker() {
    let mut bench = Bench::new(|_| Some(libc::EBADFD));
    bench.send(&[udp(THERE, HERE, 64, 10)]);
    assert_eq!(bench.run(1), Turn::DeviceLost);
    assert_eq!(bench.stats().ingress.drops["tun-refused"], 1);
}

#[test]
fn a_packet_whose_time_to_live_ends_here_is_answered_to_its_peer() {
    let mut bench = Bench::new(|_| None);
    bench.send(&[udp(THERE, HERE, 1, 10)]);
    bench.run(1);
    assert_eq!((bench.stats().ingress.dropped(), bench.stats().ingress.icmp), (1, 1));
    let mut answer = [0; 256];
    bench.peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let len = bench.peer.recv(&mut answer).unwrap();
    let ip = etherparse::Ipv4Slice::from_slice(&answer[..len]).unwrap();
    assert_eq!((ip.header().source(), ip.header().destination()), ([10, 0, 1, 0], THERE));
    assert_eq!(ip.payload().payload[0], 11, "time exceeded");
}

/// What arrives whole is written whole, and one sender of a batch is told.
#[test]
fn a_packet_longer_than_the_mtu_is_written_and_its_sender_told() {
    let mut bench = Bench::new(|_| None);
    let long = udp(THERE, HERE, 64, 3_000);
    bench.send(&[long.clone(), long.clone()]);
    bench.run(2);
    let written = bench.queue.written.borrow().iter().map(Vec::len).sum::<usize>();
    assert!(written >= 2 * 3_000, "{written}");
    let stats = bench.stats().ingress;
    assert_eq!((stats.carried_packets, stats.dropped()), (2, 0));
    assert!((1..=2).contains(&stats.icmp), "once per batch: {}", stats.icmp);
    let mut answer = [0; 100];
    let len = bench.peer.recv(&mut answer).unwrap();
    let answer = &answer[..len];
    assert_eq!((&answer[12..16], &answer[16..20]), (&[10, 0, 1, 0][..], &THERE[..]));
    assert_eq!(answer[20..22], [3, 4]);
    assert_eq!(answer[26..28], MTU.to_be_bytes());
}
