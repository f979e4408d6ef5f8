//! A corrupted inner packet is never delivered as a valid one, with any way of coalescing.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::support::peer::{self, PlainPeer};
use crate::support::raw::{self, Ip};
use crate::support::tcp::{self, ACK, RST, SYN, Segment};
use crate::support::{accounting, exclusive, flow, net, pattern::Pattern};

#[test]
fn corrupted_udp_among_good_is_not_delivered() {
    let Some(_exclusive) = exclusive() else { return };
    for offload in OFFLOADS {
        corrupted_udp(&[&format!("--offload={offload}")]);
    }
}

#[test]
fn a_corrupted_tcp_segment_among_good_is_not_delivered() {
    let Some(_exclusive) = exclusive() else { return };
    for offload in OFFLOADS {
        corrupted_tcp(&[&format!("--offload={offload}")]);
    }
}

fn corrupted_udp(flags: &[&str]) {
    let (mut lab, peer) = PlainPeer::with_lab(flags);
    let here = lab.endpoint(0);
    let receiver = net::udp(here.netns, here.address);
    let port = receiver.local_addr().expect("its address").port();
    let ip = Ip::new(peer::INSIDE, here.address, raw::UDP);
    let mut buffer = [0; 2048];
    // Few at a time: without offloads the daemon's socket holds what the kernel gives it, and this
    // one does anyhow.
    for round in 0..10u64 {
        let mut expected = Vec::new();
        for number in round * 40..(round + 1) * 40 {
            let mut packet = ip.udp((9, port), &flow::packet(number, 600));
            match number % 40 {
                7 => packet[100] ^= 1,  // the payload
                17 => packet[26] ^= 4,  // the UDP checksum
                27 => packet[10] ^= 1,  // the header checksum
                37 => packet[627] ^= 8, // the last byte
                _ => expected.push(number),
            }
            peer.send(&packet);
        }
        for number in expected {
            let len = receiver.recv(&mut buffer).expect("a good packet");
            assert!(
                buffer[..len] == flow::packet(number, 600),
                "packet {number}, and no corrupted one"
            );
        }
    }
    accounting::check_balance(&mut lab);
}

fn corrupted_tcp(flags: &[&str]) {
    let (mut lab, peer) = PlainPeer::with_lab(flags);
    let here = lab.endpoint(0);
    let listener = net::listener(here.netns, here.address);
    let ip = Ip::new(peer::INSIDE, here.address, raw::TCP);
    // The payload, the TCP checksum, the last byte, the header checksum.
    for (number, corrupt_at) in [60, 36, 1039, 10].into_iter().enumerate() {
        let (mut stream, mut segment) = handshake(&peer, &ip, 20_000 + number as u16, &listener);
        let data = Pattern::bytes(corrupt_at as u64, SEGMENTS * 1000);
        let mut packets = Vec::new();
        for chunk in data.chunks(1000) {
            segment.payload = chunk.to_vec();
            packets.push(segment.packet(&ip));
            segment.sequence = segment.next();
        }
        for (number, packet) in packets.iter().enumerate() {
            let mut packet = packet.clone();
            if number == BAD {
                packet[corrupt_at] ^= 0x40;
            }
            peer.send(&packet);
        }
        let mut got = vec![0; data.len()];
        stream.read_exact(&mut got[..BAD * 1000]).expect("what came before the bad segment");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let more = stream.read(&mut [0; 1]).map_err(|e| e.kind());
        assert!(more.is_err(), "byte {corrupt_at} of a packet is wrong, yet it arrived");
        peer.send(&packets[BAD]);
        stream.set_read_timeout(Some(net::TIMEOUT)).expect("a timeout");
        stream.read_exact(&mut got[BAD * 1000..]).expect("the rest, after the bad segment again");
        assert!(got == data, "other bytes");
        segment.flags = RST;
        segment.payload.clear();
        peer.send(&segment.packet(&ip));
    }
    accounting::check_balance(&mut lab);
}

/// Opens a TCP connection to the listener in the container with packets of this test.
fn handshake(peer: &PlainPeer, ip: &Ip, from: u16, listener: &TcpListener) -> (TcpStream, Segment) {
    let port = listener.local_addr().expect("its address").port();
    let syn = Segment {
        ports: (from, port),
        sequence: 7_000_000,
        acknowledged: 0,
        flags: SYN,
        payload: vec![],
    };
    peer.send(&syn.packet(ip));
    let answer = loop {
        let (_, answer) = tcp::receive(peer).expect("an answer to the SYN");
        if answer.ports == (port, from) && answer.flags & SYN != 0 {
            break answer;
        }
    };
    let next = Segment { sequence: syn.next(), acknowledged: answer.next(), flags: ACK, ..syn };
    peer.send(&next.packet(ip));
    let (stream, _) = listener.accept().expect("the connection");
    stream.set_read_timeout(Some(net::TIMEOUT)).expect("a timeout");
    (stream, next)
}

/// Coalescing on ingress and egress, of some packets, or none.
const OFFLOADS: [&str; 4] = ["auto", "auto,-gro", "auto,-vnet", "off"];

const SEGMENTS: usize = 40;
const BAD: usize = 17;
