//! Which queue of a TUN device the kernel puts a packet in, once it has been given our program.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use flannel_udp::packet::ipv4::{self, Ipv4};
use flannel_udp::packet::{protocol, udp};
use flannel_udp::sys::iovec::GatherBuffer;
use flannel_udp::sys::steering::{self, Lanes};
use flannel_udp::sys::tun::{TunQueue, configure};

use super::namespace;

/// A flow keeps its queue when its answers come in at another one, and so do its fragments.
#[test]
fn a_flow_keeps_its_queue() {
    let Some(netns) = namespace() else { return };
    let visit = || {
        let Some(queues) = queues(Lanes::Mixed, 4) else { return };
        let mut used = [false; 4];
        for port in 0..24 {
            // To many hosts: UDP goes by addresses alone.
            let to = Ipv4Addr::new(10, 1, 0, 10 + port as u8);
            let socket = UdpSocket::bind((Ipv4Addr::new(10, 1, 0, 1), 4_000 + port)).unwrap();
            let sent = |len| {
                socket.send_to(&vec![7; len], (to, 9)).unwrap();
                queue_of(&queues, to)
            };
            let queue = sent(100);
            used[queue] = true;
            for (other, at) in queues.iter().enumerate() {
                answer(at, to, 4_000 + port);
                assert_eq!(sent(100), queue, "after an answer at queue {other}");
                assert_eq!(sent(4_000), queue, "in fragments");
            }
        }
        assert_eq!(used, [true; 4], "all queues are used");
    };
    netns.enter(visit).unwrap();
}

/// Of each pair of queues TCP has the second, whole or in fragments, and all else the first.
#[test]
fn tcp_has_queues_of_its_own() {
    let Some(netns) = namespace() else { return };
    for (lanes, count) in [(Lanes::TcpApart, 4), (Lanes::OnePair, 2)] {
        netns.enter(|| tcp_is_apart(lanes, count)).unwrap();
    }
}

fn tcp_is_apart(lanes: Lanes, count: usize) {
    let Some(queues) = queues(lanes, count) else { return };
    let raw = |protocol| {
        let kind = socket2::Type::RAW;
        socket2::Socket::new(socket2::Domain::IPV4, kind, Some(protocol)).expect("a raw socket")
    };
    let mut used = vec![false; count];
    for (protocol, lane) in [(6, 1), (17, 0), (1, 0), (253, 0)] {
        let socket = raw(socket2::Protocol::from(protocol));
        for host in 10..40u8 {
            let to = Ipv4Addr::new(10, 1, 0, host);
            for len in [20, 100, 4_000] {
                let bytes = vec![host; len];
                socket.send_to(&bytes, &SocketAddrV4::new(to, 0).into()).unwrap();
                let queue = queue_of(&queues, to);
                assert_eq!(queue % 2, lane, "{lanes:?}: {len} bytes of protocol {protocol}");
                used[queue] = true;
            }
        }
    }
    assert_eq!(used, vec![true; count], "all queues are used");
}

/// A device with so many queues in this namespace, which 10.1.0.0/24 is routed to.
fn queues(lanes: Lanes, count: usize) -> Option<Vec<TunQueue>> {
    let (first, name) = TunQueue::attach("many0", true, false).expect("a queue");
    if let Err(error) = steering::by_header(&first, lanes) {
        eprintln!("SKIPPED: no steering program here: {error}");
        return None;
    }
    let mut queues = vec![first];
    queues.extend((1..count).map(|_| TunQueue::attach(&name, true, false).expect("a queue").0));
    configure(&queues[0], &name, Ipv4Addr::new(10, 1, 0, 1), 1_500).unwrap();
    for args in ["link set many0 up", "route add 10.1.0.0/24 dev many0"] {
        assert!(Command::new("ip").args(args.split(' ')).status().unwrap().success(), "{args}");
    }
    Some(queues)
}

/// The queue at which packets to `to` come out; all of them at one.
fn queue_of(queues: &[TunQueue], to: Ipv4Addr) -> usize {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut buffer = vec![0; 2_000];
    let mut found = Vec::new();
    while found.is_empty() {
        assert!(Instant::now() < deadline, "no packet to {to} came out");
        for (index, queue) in queues.iter().enumerate() {
            while let Ok(len) = queue.read(&mut buffer) {
                if Ipv4::parse(&buffer[..len]).is_ok_and(|ip| ip.destination() == to) {
                    found.push(index);
                }
            }
        }
    }
    assert!(found.iter().all(|queue| *queue == found[0]), "of one send: {found:?}");
    found[0]
}

/// A datagram from `from` comes in at `queue`.
fn answer(queue: &TunQueue, from: Ipv4Addr, port: u16) {
    let udp = udp::Header::new(9, port, 2);
    let ip = ipv4::Header::new(protocol::UDP, from, [10, 1, 0, 1].into(), udp.total_len);
    let packet = [&ip.to_bytes()[..], &udp.to_bytes(), &[1, 2]].concat();
    let mut buffer = GatherBuffer::new();
    let mut parts = buffer.begin();
    assert!(parts.push(&packet));
    queue.write(&parts).expect("the kernel takes the answer");
}
