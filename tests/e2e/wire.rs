//! The wire format: each datagram is exactly one inner packet.

use std::io::Write;
use std::thread;

use flannel_udp::sys::process::{Signal, signal_pid};

use crate::support::peer::{self, PlainPeer};
use crate::support::raw::{self, Ip};
use crate::support::tcp::{self, ACK, FIN, SYN, Segment};
use crate::support::{accounting, exclusive, flow, net, pattern::Pattern, wait_for};

#[test]
fn a_plain_socket_receives_one_inner_packet_per_datagram() {
    let Some(_exclusive) = exclusive() else { return };
    let (mut lab, peer) = PlainPeer::with_lab(&[]);
    let here = lab.endpoint(0);
    let sender = net::udp(here.netns, here.address);
    let sizes = [0, 1, 18, 512, 1444];
    for round in 0..40u64 {
        let size = sizes[round as usize % sizes.len()];
        sender.send_to(&flow::packet(round, size), (peer::INSIDE, 7000)).expect("sending");
    }
    for round in 0..40u64 {
        let packet = next_udp(&peer);
        let expected = flow::packet(round, sizes[round as usize % sizes.len()]);
        let segment = raw::whole(&packet).expect("one whole packet");
        assert_eq!(packet[8], 62, "TTL: one less for the host, one for the daemon");
        assert_eq!((raw::source(&packet), raw::destination(&packet)), (here.address, peer::INSIDE));
        assert!(segment[8..] == expected, "the payload of packet {round}");
    }
    accounting::check_balance(&mut lab);
}

/// A non-TCP packet waits for at most one batch of TCP, however much TCP is queued before it.
#[test]
fn non_tcp_does_not_wait_behind_tcp() {
    let Some(_exclusive) = exclusive() else { return };
    let (mut lab, peer) = PlainPeer::with_lab(&[]);
    if let Some(line) = lab.log(0).lines().find(|line| line.contains("steering program")) {
        return eprintln!("SKIPPED: no queues of their own here: {line}");
    }
    let here = lab.endpoint(0);
    let (sender, netns) = (net::udp(here.netns, here.address), here.netns);
    // Neighbours and routes are resolved before.
    sender.send_to(b"first", (peer::INSIDE, 7000)).expect("sending");
    next_udp(&peer);
    let daemon = lab.host(0).daemon().expect("a daemon").pid();
    signal_pid(daemon, Signal::Stop).expect("stopping the daemon");
    wait_for("the daemon to stand still", net::TIMEOUT, || {
        std::fs::read_to_string(format!("/proc/{daemon}/stat")).is_ok_and(|s| s.contains(") T "))
    });
    let socket = net::raw_sender(netns);
    let connecting: Vec<_> = (0..TCP_PACKETS)
        .map(|number| {
            let segment = Segment {
                ports: (30_000 + number, 9),
                sequence: 1,
                acknowledged: 0,
                flags: SYN,
                payload: vec![],
            };
            net::send_raw(&socket, &segment.packet(&Ip::new(here.address, peer::INSIDE, raw::TCP)))
        })
        .collect();
    sender.send_to(b"urgent", (peer::INSIDE, 7000)).expect("sending");
    signal_pid(daemon, Signal::Continue).expect("letting it go on");
    assert!(connecting.iter().all(Result::is_ok), "{connecting:?}");
    let order: Vec<u8> = (0..=TCP_PACKETS).map(|_| peer.receive()[9]).collect();
    let before = order.iter().position(|protocol| *protocol == raw::UDP);
    assert!(before.is_some_and(|count| count <= BATCH), "{before:?} packets of TCP came before");
    accounting::check_balance(&mut lab);
}

#[test]
fn super_packets_are_cut_into_whole_packets() {
    let Some(_exclusive) = exclusive() else { return };
    let (mut lab, peer) = PlainPeer::with_lab(&[]);
    let netns = lab.host(0).container().netns();
    let from = lab.endpoint(0).address;
    let total = 2 << 20;
    let longest = thread::scope(|scope| {
        scope.spawn(|| {
            let to = (peer::INSIDE, 7000).into();
            let mut stream = net::connect(netns, to, net::TIMEOUT).expect("a connection");
            stream.write_all(&Pattern::bytes(1, total)).expect("sending");
        });
        receive_stream(&peer, from, total)
    });
    assert_eq!(longest, 1472, "full packets were among them");
    accounting::check_balance(&mut lab);
}

#[test]
fn injected_packets_leave_flannel0_unchanged_but_for_the_ttl() {
    let Some(_exclusive) = exclusive() else { return };
    let (mut lab, peer) = PlainPeer::with_lab(&[]);
    let flannel0 = lab.subnet(0).network();
    let receiver = net::raw_receiver(lab.host(0).netns(), raw::EXPERIMENT);
    for len in [0, 1, 2, 19, 20, 21, 100, 1451, 1452] {
        for (ttl, options) in [(64, vec![]), (2, vec![]), (255, vec![1, 1, 1, 0])] {
            let len = usize::min(len, 1452 - options.len());
            let mut ip = Ip { ttl, options, ..Ip::new(peer::INSIDE, flannel0, raw::EXPERIMENT) };
            ip.id = len as u16;
            ip.dont_fragment = len % 2 == 0;
            let payload = Pattern::bytes(len as u64, len);
            peer.send(&ip.packet(&payload));
            ip.ttl -= 1;
            assert_eq!(
                net::receive_raw(&receiver),
                ip.packet(&payload),
                "payload of {len} bytes, TTL {ttl}"
            );
        }
    }
    // It came whole, in fragments. Its sender learns what this host's own packets may have.
    let mut ip = Ip::new(peer::INSIDE, flannel0, raw::EXPERIMENT);
    let payload = Pattern::bytes(1, 3_000);
    peer.send(&ip.packet(&payload));
    ip.ttl -= 1;
    assert_eq!(net::receive_raw(&receiver), ip.packet(&payload), "longer than the MTU");
    let told = peer.receive();
    assert_eq!((raw::source(&told), &told[20..22]), (flannel0, &[3, 4][..]));
    assert_eq!(told[26..28], 1_472_u16.to_be_bytes());
    accounting::check_balance(&mut lab);
}

#[test]
fn what_is_no_packet_is_dropped_and_counted() {
    let Some(_exclusive) = exclusive() else { return };
    let (mut lab, peer) = PlainPeer::with_lab(&[]);
    let flannel0 = lab.subnet(0).network();
    let receiver = net::raw_receiver(lab.host(0).netns(), raw::EXPERIMENT);
    let good = Ip::new(peer::INSIDE, flannel0, raw::EXPERIMENT).packet(&[7; 100]);
    let changed = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        packet
    };
    let mut late = Ip::new(peer::INSIDE, flannel0, raw::EXPERIMENT);
    late.ttl = 1;
    let mut dead = late.clone();
    dead.ttl = 0;
    let junk = [
        ("too-short", vec![]),
        ("too-short", good[..19].to_vec()),
        ("not-ipv4", changed(0, 0x65)),
        ("not-ipv4", vec![0xff; 20]),
        ("bad-header-length", changed(0, 0x44)),
        ("bad-header-length", [&[0x4f, 0, 0, 24], &good[4..24]].concat()),
        ("truncated", good[..60].to_vec()),
        ("truncated", changed(3, 10)),
        ("ttl-expired", late.packet(&[1; 10])),
        ("ttl-expired", dead.packet(&[1; 10])),
    ];
    let before = accounting::balanced(&mut lab, 0).ingress;
    for (_, packet) in &junk {
        peer.send(packet);
    }
    peer.send(&good);
    let came = net::receive_raw(&receiver);
    assert_eq!(came.len(), good.len(), "the good packet and nothing before it");
    let after = accounting::balanced(&mut lab, 0).ingress;
    for (reason, _) in &junk {
        let expected = junk.iter().filter(|(other, _)| other == reason).count() as u64;
        assert_eq!(after.dropped(reason) - before.dropped(reason), expected, "{reason}");
    }
}

fn next_udp(peer: &PlainPeer) -> Vec<u8> {
    loop {
        let packet = peer.receive();
        raw::whole(&packet).expect("one whole packet");
        if packet[9] == raw::UDP {
            return packet;
        }
    }
}

/// Takes a TCP stream of `total` bytes of pattern 1 as its server; returns the longest packet.
fn receive_stream(peer: &PlainPeer, from: std::net::Ipv4Addr, total: usize) -> usize {
    let expected = Pattern::bytes(1, total);
    let ip = Ip::new(peer::INSIDE, from, raw::TCP);
    let (mut next, mut longest, mut start) = (0, 0, 0);
    loop {
        let (packet, segment) = tcp::receive(peer).expect("a segment");
        longest = longest.max(packet.len());
        let mut answer = Segment {
            ports: (segment.ports.1, segment.ports.0),
            sequence: 1001,
            acknowledged: 0,
            flags: ACK,
            payload: vec![],
        };
        if segment.flags & SYN != 0 {
            start = segment.next();
            next = start;
            answer.sequence = 1000;
            answer.flags |= SYN;
        } else if segment.sequence == next {
            let at = next.wrapping_sub(start) as usize;
            let len = segment.payload.len();
            assert!(expected[at..at + len] == segment.payload, "the bytes from {at} on");
            next = segment.next();
        } else {
            // Sent again, when an acknowledgement was late: never from beyond what is expected.
            let behind = next.wrapping_sub(segment.sequence);
            assert!(behind < 1 << 30, "a segment came {} bytes early", behind.wrapping_neg());
        }
        answer.acknowledged = next;
        peer.send(&answer.packet(&ip));
        if segment.flags & FIN != 0 && next.wrapping_sub(start) as usize > total {
            return longest;
        }
    }
}

/// Packets that wait; a socket of the default size holds their datagrams.
const TCP_PACKETS: u16 = 200;
/// Packets that the daemon reads from one queue before it reads from the other.
const BATCH: usize = 128;
