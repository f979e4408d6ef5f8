//! The decision about each packet, as tables.

use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;

use super::support::{MTU, config, routes, tcp, tcp_super_packet, udp};
use crate::dataplane::checks::{GraceReason, MismatchReason};
use crate::dataplane::forward::{self, Policy};
use crate::dataplane::{CheckMode, DropReason, Offloads};
use crate::packet::icmp::ErrorKind;
use crate::packet::ipv4::Ipv4;
use crate::packet::vnet::VnetHeader;
use crate::route::NextHop;

pub(super) const HERE: [u8; 4] = [10, 0, 1, 2];
pub(super) const THERE: [u8; 4] = [10, 0, 2, 2];
pub(super) const ELSEWHERE: [u8; 4] = [10, 0, 9, 2];
pub(super) const PEER: NextHop = NextHop { ip: Ipv4Addr::new(192, 168, 0, 2), port: 8285 };
pub(super) const OTHER: NextHop = NextHop { ip: Ipv4Addr::new(192, 168, 0, 3), port: 8285 };

pub(super) fn policy(source: CheckMode, destination: CheckMode) -> Policy {
    let mut config = config(Offloads::AUTO);
    (config.source_check, config.destination_check) = (source, destination);
    Policy::from(&config)
}

/// What a table says of a packet: carried, or dropped for a reason with an ICMP error.
type Row = Result<(), (DropReason, Option<ErrorKind>)>;

pub(super) fn with(mut packet: Vec<u8>, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut packet);
    packet
}

/// The packet without DF.
fn fragmentable(packet: Vec<u8>) -> Vec<u8> {
    with(packet, |p| {
        let mut ip = Ipv4::parse(&mut p[..]).unwrap();
        ip.set_dont_fragment(false);
    })
}

/// Packets that are malformed in the same way in either direction.
fn malformed() -> Vec<(&'static str, Vec<u8>, DropReason)> {
    let good = udp(HERE, THERE, 64, 10);
    vec![
        ("empty", vec![], DropReason::TooShort),
        ("19 bytes", good[..19].to_vec(), DropReason::TooShort),
        ("IPv6", with(good.clone(), |p| p[0] = 0x65), DropReason::NotIpv4),
        ("header of 16", with(good.clone(), |p| p[0] = 0x44), DropReason::BadHeaderLength),
        ("header beyond", with(good.clone(), |p| p[0] = 0x4f), DropReason::BadHeaderLength),
        ("cut", good[..37].to_vec(), DropReason::Truncated),
        ("total below header", with(good, |p| p[3] = 19), DropReason::Truncated),
    ]
}

#[test]
fn egress_table() {
    let (policy, routes) = (policy(CheckMode::Off, CheckMode::Off), routes(&[(2, PEER)]));
    let none = VnetHeader::NONE;
    let long = usize::from(MTU) - 28;
    let too_long = Err((DropReason::OverMtu, Some(ErrorKind::FragmentationNeeded { mtu: MTU })));
    let mut rows: Vec<(&str, VnetHeader, Vec<u8>, Row)> = vec![
        ("to a lease", none, udp(HERE, THERE, 64, 10), Ok(())),
        ("with padding", none, with(udp(HERE, THERE, 64, 10), |p| p.push(0)), Ok(())),
        ("TTL of 2", none, udp(HERE, THERE, 2, 10), Ok(())),
        (
            "TTL of 1",
            none,
            udp(HERE, THERE, 1, 10),
            Err((DropReason::TtlExpired, Some(ErrorKind::TimeExceeded))),
        ),
        (
            "TTL of 0",
            none,
            udp(HERE, THERE, 0, 10),
            Err((DropReason::TtlExpired, Some(ErrorKind::TimeExceeded))),
        ),
        (
            "to no lease",
            none,
            udp(HERE, ELSEWHERE, 64, 10),
            Err((DropReason::NoRoute, Some(ErrorKind::NetUnreachable))),
        ),
        (
            "to no lease, TTL of 1: the missing route is found first",
            none,
            udp(HERE, ELSEWHERE, 1, 10),
            Err((DropReason::NoRoute, Some(ErrorKind::NetUnreachable))),
        ),
        (
            "outside the overlay",
            none,
            udp(HERE, [8, 8, 8, 8], 64, 10),
            Err((DropReason::NoRoute, Some(ErrorKind::NetUnreachable))),
        ),
        ("as long as the MTU", none, udp(HERE, THERE, 64, long), Ok(())),
        ("longer than the MTU", none, udp(HERE, THERE, 64, long + 1), too_long),
        ("longer, to be fragmented", none, fragmentable(udp(HERE, THERE, 64, long + 1)), Ok(())),
        ("longer than a datagram", none, fragmentable(udp(HERE, THERE, 64, 65_480)), too_long),
        ("super-packet", tcp_super_packet(1_000), tcp(HERE, THERE, 1, 3_000), Ok(())),
        (
            "segments longer than the MTU",
            tcp_super_packet(MTU),
            tcp(HERE, THERE, 1, 3_000),
            too_long,
        ),
        (
            "segments of nothing",
            tcp_super_packet(0),
            tcp(HERE, THERE, 1, 3_000),
            Err((DropReason::BadVnetHeader, None)),
        ),
        (
            "a TCP super-packet that is UDP",
            tcp_super_packet(1_000),
            udp(HERE, THERE, 64, 3_000),
            Err((DropReason::BadVnetHeader, None)),
        ),
    ];
    for (name, packet, reason) in malformed() {
        rows.push((name, none, packet, Err((reason, None))));
    }
    for (name, vnet, mut packet, expected) in rows {
        let before = packet.clone();
        let decision = forward::egress(&policy, &routes, &vnet, &mut packet);
        let row = decision
            .as_ref()
            .map(|out| assert_eq!(out.route.hop, PEER, "{name}"))
            .map_err(|dropped| (dropped.reason, dropped.icmp));
        assert_eq!(row, expected, "{name}");
        if row.is_ok() || packet.get(8) != before.get(8) {
            assert_eq!(packet[8], before[8] - 1, "{name}: only the time to live is changed");
            (packet[8], packet[10], packet[11]) = (before[8], before[10], before[11]);
        }
        assert_eq!(packet, before, "{name}: only the time to live is changed");
    }
}

#[test]
fn what_the_tun_device_puts_before_a_packet() {
    let packet = udp(HERE, THERE, 64, 10);
    assert_eq!(forward::vnet_header(&packet, 0).unwrap(), (VnetHeader::NONE, 0));
    let vnet = tcp_super_packet(9);
    let read = [&vnet.encode()[..], &packet].concat();
    assert_eq!(forward::vnet_header(&read, VnetHeader::LEN).unwrap(), (vnet, VnetHeader::LEN));
    for bad in [&read[..9], &[0xff; 40]] {
        let dropped = forward::vnet_header(bad, VnetHeader::LEN).unwrap_err();
        assert_eq!((dropped.reason, dropped.len), (DropReason::BadVnetHeader, bad.len()));
    }
}

#[test]
fn ingress_table() {
    let routes = routes(&[(2, PEER), (3, OTHER)]);
    let (off, log, enforce) = (CheckMode::Off, CheckMode::Log, CheckMode::Enforce);
    let source = Err((DropReason::SourceMismatch, None));
    let destination = Err((DropReason::DestinationMismatch, None));
    let expired = Err((DropReason::TtlExpired, Some(ErrorKind::TimeExceeded)));
    let long = usize::from(MTU) - 28;
    let from_peer = udp(THERE, HERE, 64, 10);
    let mut rows: Vec<(&str, CheckMode, CheckMode, Vec<u8>, Row)> = vec![
        ("from a lease to ours", enforce, enforce, from_peer.clone(), Ok(())),
        ("with padding", enforce, enforce, with(from_peer, |p| p.push(0)), Ok(())),
        ("TTL of 2", off, off, udp(THERE, HERE, 2, 10), Ok(())),
        ("TTL of 1", off, off, udp(THERE, HERE, 1, 10), expired),
        ("TTL of 0", off, off, udp(THERE, HERE, 0, 10), expired),
        ("as long as the MTU", off, off, udp(THERE, HERE, 64, long), Ok(())),
        ("longer than the MTU", off, off, udp(THERE, HERE, 64, long + 1), Ok(())),
        ("as long as can be", off, off, udp(THERE, HERE, 64, 65_479), Ok(())),
        ("from another's lease", off, off, udp([10, 0, 3, 2], HERE, 64, 10), Ok(())),
        ("from another's lease", log, off, udp([10, 0, 3, 2], HERE, 64, 10), Ok(())),
        ("from another's lease", enforce, off, udp([10, 0, 3, 2], HERE, 64, 10), source),
        ("from our own lease", enforce, off, udp(HERE, HERE, 64, 10), source),
        ("from outside", enforce, off, udp([8, 8, 8, 8], HERE, 64, 10), source),
        ("from no lease, in grace", log, off, udp(ELSEWHERE, HERE, 64, 10), Ok(())),
        ("from no lease, enforced", enforce, off, udp(ELSEWHERE, HERE, 64, 10), source),
        ("to another's lease", off, off, udp(THERE, [10, 0, 3, 2], 64, 10), Ok(())),
        ("to another's lease", off, log, udp(THERE, [10, 0, 3, 2], 64, 10), Ok(())),
        ("to another's lease", off, enforce, udp(THERE, [10, 0, 3, 2], 64, 10), destination),
        ("to no lease", off, enforce, udp(THERE, ELSEWHERE, 64, 10), destination),
        (
            "both wrong: the source is named",
            enforce,
            enforce,
            udp([10, 0, 3, 2], ELSEWHERE, 64, 10),
            source,
        ),
        (
            "both wrong, the source only logged",
            log,
            enforce,
            udp([10, 0, 3, 2], ELSEWHERE, 64, 10),
            destination,
        ),
        (
            "a mismatch is found before the TTL",
            enforce,
            off,
            udp([8, 8, 8, 8], HERE, 1, 10),
            source,
        ),
    ];
    for (name, packet, reason) in malformed() {
        rows.push((name, enforce, enforce, packet, Err((reason, None))));
    }
    for (name, source, destination, mut packet, expected) in rows {
        let policy = policy(source, destination);
        let sender = SocketAddrV4::new(PEER.ip, PEER.port);
        let before = packet.clone();
        let grace = |_| Ok(GraceReason::FirstPacket);
        let (checked, result) = forward::ingress(&policy, &routes, sender, grace, &mut packet);
        let reached_checks = !matches!(
            expected,
            Err((
                DropReason::TooShort
                    | DropReason::NotIpv4
                    | DropReason::BadHeaderLength
                    | DropReason::Truncated,
                _
            ))
        );
        assert_eq!(checked.is_some(), reached_checks, "{name}");
        let row = result
            .map(|carried| assert_eq!(carried.packet.ttl(), before[8] - 1, "{name}"))
            .map_err(|dropped| (dropped.reason, dropped.icmp));
        assert_eq!(row, expected, "{name}, source {source}, destination {destination}");
    }
}

/// What arrives whole is delivered, and its sender learns what this host's own packets may have.
#[test]
fn the_sender_of_a_packet_that_may_not_be_fragmented_learns_the_mtu() {
    let routes = routes(&[(2, PEER)]);
    let policy = policy(CheckMode::Off, CheckMode::Off);
    let long = usize::from(MTU) - 28;
    let told = Some(ErrorKind::FragmentationNeeded { mtu: MTU });
    for (mut packet, expected) in [
        (udp(THERE, HERE, 64, long), None),
        (udp(THERE, HERE, 64, long + 1), told),
        (fragmentable(udp(THERE, HERE, 64, long + 1)), None),
    ] {
        let sender = SocketAddrV4::new(PEER.ip, PEER.port);
        let grace = |_| Err(MismatchReason::GraceOver);
        let (_, result) = forward::ingress(&policy, &routes, sender, grace, &mut packet);
        assert_eq!(result.unwrap().icmp, expected);
    }
}

proptest! {
    /// Whatever is read or received, the outcome is one of the two, lengths stay inside the packet,
    /// and nothing but the time to live and the header checksum changes.
    #[test]
    fn any_bytes_have_a_decision(
        vnet in prop::array::uniform10(any::<u8>()),
        head in prop::option::of((any::<[u8; 4]>(), any::<[u8; 4]>(), any::<u8>())),
        bytes in prop::collection::vec(any::<u8>(), 0..100),
        sender in any::<[u8; 4]>(),
    ) {
        let policy = policy(CheckMode::Enforce, CheckMode::Enforce);
        let routes = routes(&[(2, PEER), (3, OTHER)]);
        // Random bytes alone seldom are IPv4.
        let packet = match head {
            Some((source, destination, ttl)) => {
                let near = |[_, _, c, d]: [u8; 4]| [10, 0, c % 4, d];
                udp(near(source), near(destination), ttl, bytes.len())
            }
            None => bytes,
        };
        let unchanged = |after: &[u8]| {
            let same = |(at, (a, b)): (usize, (&u8, &u8))| a == b || [8, 10, 11].contains(&at);
            after.iter().zip(&packet).enumerate().all(same)
        };
        let mut sent = packet.clone();
        if let Ok(vnet) = VnetHeader::decode(&vnet) {
            match forward::egress(&policy, &routes, &vnet, &mut sent) {
                Ok(out) => prop_assert!(out.len <= packet.len() && out.segments.count() > 0),
                Err(dropped) => prop_assert!(dropped.len <= packet.len() && dropped.size().0 > 0),
            }
            prop_assert!(unchanged(&sent));
        }
        let mut received = packet.clone();
        let sender = SocketAddrV4::new(sender.into(), 8285);
        let grace = |_| Err(MismatchReason::GraceOver);
        match forward::ingress(&policy, &routes, sender, grace, &mut received).1 {
            Ok(carried) => {
                prop_assert!(routes.lookup(carried.packet.source()).unwrap().ip == *sender.ip());
                prop_assert!(policy.checks.subnet.contains(carried.packet.destination()));
            }
            Err(dropped) => {
                prop_assert!(dropped.len <= packet.len());
                let is_valid = Ipv4::parse(&packet[..]).is_ok();
                prop_assert!(is_valid || dropped.len == packet.len());
            }
        }
        prop_assert!(unchanged(&received));
    }
}
