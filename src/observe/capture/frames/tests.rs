use super::*;
use crate::dataplane::DropReason;
use crate::dataplane::tap::Filter;
use crate::packet::ipv4::Ipv4;
use crate::packet::udp::Udp;
use crate::samples;

const LOCAL: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(10, 211, 55, 1), 8285);
const PEER: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(10, 211, 55, 2), 8286);

/// What a reader finds: interface, time, length, bytes.
type Seen = (u32, u64, u32, Vec<u8>);

fn frames(snap_len: usize, inner: bool, outer: bool) -> Frames {
    Frames::new(&CaptureSpec { filter: Filter::default(), snap_len, inner, outer })
}

/// The packets of a file without a head.
fn read(mut file: &[u8]) -> Vec<Seen> {
    let mut seen = vec![];
    while !file.is_empty() {
        let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap());
        assert_eq!(word(0), 6, "enhanced packet blocks alone");
        let time = u64::from(word(12)) << 32 | u64::from(word(16));
        seen.push((word(8), time, word(24), file[28..28 + word(20) as usize].to_vec()));
        file = &file[word(4) as usize..];
    }
    seen
}

fn record<'a>(direction: Direction, verdict: CaptureVerdict, bytes: &'a [u8]) -> Record<'a> {
    Record {
        read_time: 100,
        sent_time: 300,
        lost: 0,
        direction,
        verdict,
        ttl: Ttl::AsRead,
        peer: Some(PEER),
        local: LOCAL,
        len: bytes.len() as u32,
        bytes,
    }
}

fn see(frames: &mut Frames, record: Record<'_>) -> Vec<Seen> {
    let mut out = BytesMut::new();
    frames.append(&mut out, [record].into_iter(), u64::MAX);
    read(&out)
}

#[test]
fn a_carried_packet_is_seen_twice_each_time_as_it_was_there() {
    let as_sent = samples::udp(b"payload");
    let mut carried = as_sent.clone();
    Ipv4::parse(&mut carried[..]).unwrap().decrement_ttl().unwrap();
    for direction in [Direction::Egress, Direction::Ingress] {
        let record = Record {
            ttl: Ttl::Decremented,
            ..record(direction, CaptureVerdict::Carried, &carried)
        };
        let seen = see(&mut frames(65_535, true, true), record);
        let [first, last] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!((first.1, last.1), (100, 300));
        let (inner, outer, from, to) = match direction {
            Direction::Egress => (first, last, LOCAL, PEER),
            Direction::Ingress => (last, first, PEER, LOCAL),
        };
        assert_eq!((inner.0, outer.0), (0, 1));
        // Where it came it had one hop more, with the checksum it had.
        assert_eq!(
            if direction == Direction::Egress { &inner.3[..] } else { &outer.3[28..] },
            as_sent
        );
        assert_eq!(
            if direction == Direction::Egress { &outer.3[28..] } else { &inner.3[..] },
            carried
        );
        let ip = Ipv4::parse(&outer.3[..]).expect("an IPv4 packet");
        assert!(ip.verify_checksum());
        assert_eq!((ip.source(), ip.destination()), (*from.ip(), *to.ip()));
        assert_eq!(ip.total_len(), outer.3.len());
        let udp = Udp::parse(ip.payload()).expect("a datagram");
        assert_eq!((udp.source_port(), udp.destination_port()), (from.port(), to.port()));
        assert_eq!(outer.2 as usize, outer.3.len());
    }
}

#[test]
fn a_dropped_packet_is_seen_where_it_came_from() {
    let packet = samples::udp(b"payload");
    let dropped = CaptureVerdict::Dropped(DropReason::NoRoute);
    for (direction, interface, len) in
        [(Direction::Egress, 0, packet.len()), (Direction::Ingress, 1, packet.len() + 28)]
    {
        let seen = see(&mut frames(65_535, true, true), record(direction, dropped, &packet));
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].0, seen[0].1, seen[0].2 as usize), (interface, 100, len));
        // An answer goes back there.
        let answer = record(direction, CaptureVerdict::IcmpError, &packet);
        let expected = if direction == Direction::Egress {
            PacketDirection::Inbound
        } else {
            PacketDirection::Outbound
        };
        assert_eq!(super::direction(&answer), expected);
        assert_eq!(see(&mut frames(65_535, true, true), answer)[0].0, interface);
    }
}

#[test]
fn junk_of_any_length_is_kept_within_the_snap_length() {
    for len in 0..60 {
        let junk = vec![0xa5; len];
        for snap_len in [1, 20, 28, 30, 48, 50, 200] {
            for (direction, header) in [(Direction::Egress, 0), (Direction::Ingress, 28)] {
                let verdict = CaptureVerdict::Dropped(DropReason::TooShort);
                let seen =
                    see(&mut frames(snap_len, true, true), record(direction, verdict, &junk));
                let (_, _, whole, kept) = &seen[0];
                assert_eq!(*whole as usize, header + len);
                assert_eq!(kept.len(), (header + len).min(snap_len));
                assert!(kept[header.min(kept.len())..].iter().all(|byte| *byte == 0xa5));
            }
        }
    }
}

#[test]
fn one_interface_alone_has_number_zero() {
    let packet = samples::udp(b"payload");
    for (inner, outer, len) in [(true, false, packet.len()), (false, true, packet.len() + 28)] {
        let carried = record(Direction::Egress, CaptureVerdict::Carried, &packet);
        let seen = see(&mut frames(65_535, inner, outer), carried);
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].0, seen[0].2 as usize), (0, len));
    }
}

#[test]
fn the_limit_counts_packets_not_frames() {
    let packet = samples::udp(b"payload");
    let mut frames = frames(65_535, true, true);
    let mut out = BytesMut::new();
    let carried = record(Direction::Egress, CaptureVerdict::Carried, &packet);
    assert_eq!(frames.append(&mut out, [carried; 5].into_iter(), 3), 0);
    assert_eq!((read(&out).len(), frames.delivered), (6, [3, 3]));
    assert_eq!(frames.append(&mut out, [carried; 5].into_iter(), 9), 4);
}

#[test]
fn comments_have_verdict_and_peer() {
    let mut carried = record(Direction::Egress, CaptureVerdict::Carried, b"");
    assert_eq!(comment(&carried), "carried, peer 10.211.55.2:8286");
    carried.verdict = CaptureVerdict::Dropped(DropReason::NoRoute);
    carried.peer = None;
    assert_eq!(comment(&carried), "dropped: no-route");
}
