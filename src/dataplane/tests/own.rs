//! Datagrams of our own, which must not come back.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::forward::{ELSEWHERE, HERE, PEER, THERE, policy, with};
use super::support::{routes, udp};
use crate::dataplane::checks::GraceReason;
use crate::dataplane::forward;
use crate::dataplane::{CheckMode, DropReason};
use crate::packet::vnet::{GsoType, VnetHeader};
use crate::route::NextHop;

/// A UDP packet with these ports.
fn datagram(source: [u8; 4], destination: [u8; 4], ports: [u16; 2]) -> Vec<u8> {
    let ports = ports.map(u16::to_be_bytes).concat();
    with(udp(source, destination, 64, 1_000), |p| p[20..24].copy_from_slice(&ports))
}

/// What the daemon sends never comes back to it through its own device.
#[test]
fn own_datagram_table() {
    let inside = NextHop { ip: Ipv4Addr::new(10, 0, 2, 9), port: 8285 };
    let routes = routes(&[(2, PEER), (4, inside)]);
    let policy = policy(CheckMode::Off, CheckMode::Off);
    let (outer, device) = (policy.outer.ip().octets(), policy.ingress_icmp_source.octets());
    let none = VnetHeader::NONE;
    let cut = VnetHeader {
        needs_csum: true,
        gso: GsoType::UdpL4,
        gso_size: 100,
        csum_start: 20,
        csum_offset: 6,
        ..none
    };
    let sent = datagram(outer, THERE, [8285; 2]);
    let first = |packet: &[u8]| with(packet.to_vec(), |p| p[6] = 0x20);
    let later = |packet: &[u8]| with(packet.to_vec(), |p| p[7] = 1);
    for (name, vnet, mut packet, is_own) in [
        ("a datagram of ours", none, sent.clone(), true),
        ("a train of them", cut, sent.clone(), true),
        ("to no lease", none, datagram(outer, ELSEWHERE, [8285; 2]), true),
        (
            "to any port, which a rule may have changed",
            none,
            datagram(outer, THERE, [8285, 9]),
            true,
        ),
        (
            "with options",
            none,
            with(sent.clone(), |p| {
                p.splice(20..20, [1; 4]);
                (p[0], p[3]) = (0x46, p[3] + 4);
            }),
            true,
        ),
        ("its first fragment", none, first(&sent), true),
        ("its next one", none, later(&sent), false),
        ("another program's", none, datagram(outer, THERE, [9, 8285]), false),
        ("a container's", none, datagram(HERE, THERE, [8285; 2]), false),
        ("TCP", none, with(sent, |p| p[9] = 6), false),
        (
            "masqueraded, into a lease in the overlay",
            none,
            datagram(device, [10, 0, 4, 2], [9, 8285]),
            true,
        ),
        ("masqueraded, to a peer outside", none, datagram(device, THERE, [9, 8285]), false),
        ("a reply of the host", none, datagram(device, [10, 0, 4, 2], [8285, 9]), false),
    ] {
        let decision = forward::egress(&policy, &routes, &vnet, &mut packet);
        let reason = decision.as_ref().err().map(|dropped| (dropped.reason, dropped.icmp));
        assert_eq!(reason, is_own.then_some((DropReason::OwnDatagram, None)), "{name}");
        let packets = if vnet == cut { 10 } else { 1 };
        assert!(decision.err().is_none_or(|dropped| dropped.size().0 == packets), "{name}");
    }
    let nested = datagram(THERE, outer, [9, 8285]);
    for (name, mut packet, is_own) in [
        ("a datagram inside a datagram", nested.clone(), true),
        ("its first fragment", first(&nested), true),
        ("its next one, which is nothing without the first", later(&nested), false),
        ("to another port", datagram(THERE, outer, [8285, 9]), false),
        ("to another address", datagram(THERE, HERE, [9, 8285]), false),
        ("TCP", with(nested, |p| p[9] = 6), false),
    ] {
        let sender = SocketAddrV4::new(PEER.ip, PEER.port);
        let grace = |_| Ok(GraceReason::FirstPacket);
        let (checked, result) = forward::ingress(&policy, &routes, sender, grace, &mut packet);
        let reason = result.err().map(|dropped| (dropped.reason, dropped.icmp));
        assert_eq!(reason, is_own.then_some((DropReason::OwnDatagram, None)), "{name}");
        assert_eq!(checked.is_none(), is_own, "{name}");
    }
}
