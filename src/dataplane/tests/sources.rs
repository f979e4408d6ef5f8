//! The check of inner sources, as tables.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::forward::{ELSEWHERE, HERE, OTHER, PEER, THERE, policy};
use super::support::{routes, udp};
use crate::dataplane::checks::{CheckOutcome, GraceReason, MismatchReason};
use crate::dataplane::forward;
use crate::dataplane::{CheckMode, DroppedBy};
use crate::route::PeerIndex;

/// What the check of the source says of each kind of address under each mode.
#[test]
fn source_check_table() {
    let routes = routes(&[(2, PEER), (3, OTHER)]);
    let own = Ipv4Addr::LOCALHOST;
    let (port, other_port) = (PEER.port, 40_000);
    let stale = GraceReason::RoutesStale;
    let first = GraceReason::FirstPacket;
    for (mode, dropped) in [(CheckMode::Log, None), (CheckMode::Enforce, Some(DroppedBy::Enforce))]
    {
        let policy = policy(mode, CheckMode::Off);
        let fails = |reason| CheckOutcome::Fails { reason, dropped };
        let no_grace = fails(MismatchReason::NoGrace);
        let unless_enforced =
            |reason| if dropped.is_some() { no_grace } else { CheckOutcome::Grace(reason) };
        for (port, source, grace, expected) in [
            (port, THERE, Ok(first), CheckOutcome::Passes),
            (other_port, THERE, Ok(first), fails(MismatchReason::OtherPort(PEER.ip))),
            (port, [10, 0, 3, 2], Ok(first), fails(MismatchReason::HeldBy(OTHER.ip))),
            (port, HERE, Ok(first), fails(MismatchReason::HeldBy(own))),
            (port, [172, 16, 0, 1], Ok(first), fails(MismatchReason::Unleased)),
            (port, ELSEWHERE, Ok(stale), CheckOutcome::Grace(stale)),
            (other_port, ELSEWHERE, Ok(stale), unless_enforced(stale)),
            (port, ELSEWHERE, Ok(first), unless_enforced(first)),
            (port, ELSEWHERE, Err(MismatchReason::GraceOver), fails(MismatchReason::GraceOver)),
            (port, ELSEWHERE, Err(MismatchReason::NoGrace), no_grace),
        ] {
            let sender = SocketAddrV4::new(PEER.ip, port);
            let mut packet = udp(source, HERE, 64, 10);
            let (checked, _) = forward::ingress(&policy, &routes, sender, |_| grace, &mut packet);
            assert_eq!(
                checked.unwrap().source_check,
                expected,
                "{mode} {port} {source:?} {grace:?}"
            );
        }
    }
}

/// What the default does: strangers are dropped, mismatches among hosts with a lease are not, and nothing goes
/// beyond this host's subnet that has no source in another host's lease.
#[test]
fn peers_table() {
    let routes = routes(&[(2, PEER), (3, OTHER)]);
    let (own, stranger) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 168, 0, 99));
    let (ours, beyond) = (HERE, [8, 8, 8, 8]);
    let (stale, first) = (GraceReason::RoutesStale, GraceReason::FirstPacket);
    let fails = |reason, dropped| CheckOutcome::Fails { reason, dropped };
    let (by_stranger, by_relay) = (Some(DroppedBy::Stranger), Some(DroppedBy::Relay));
    let (peers, log) = (CheckMode::Peers, CheckMode::Log);
    let others = MismatchReason::HeldBy(OTHER.ip);
    let outside = MismatchReason::Unleased;
    let spent = MismatchReason::BudgetSpent;
    for (mode, ip, source, destination, grace, expected) in [
        (peers, PEER.ip, THERE, ours, Ok(first), CheckOutcome::Passes),
        (peers, PEER.ip, THERE, beyond, Ok(first), CheckOutcome::Passes),
        (peers, PEER.ip, [10, 0, 3, 2], ours, Ok(first), fails(others, None)),
        (peers, PEER.ip, [10, 0, 3, 2], beyond, Ok(first), fails(others, None)),
        (peers, PEER.ip, HERE, beyond, Ok(first), fails(MismatchReason::HeldBy(own), by_relay)),
        (peers, PEER.ip, [172, 16, 0, 1], ours, Ok(first), fails(outside, None)),
        (peers, PEER.ip, [172, 16, 0, 1], beyond, Ok(first), fails(outside, by_relay)),
        (peers, PEER.ip, ELSEWHERE, ours, Ok(first), CheckOutcome::Grace(first)),
        (
            peers,
            PEER.ip,
            ELSEWHERE,
            beyond,
            Ok(stale),
            fails(MismatchReason::BeyondSubnet, by_relay),
        ),
        (
            peers,
            stranger,
            THERE,
            ours,
            Ok(stale),
            fails(MismatchReason::HeldBy(PEER.ip), by_stranger),
        ),
        (peers, stranger, ELSEWHERE, ours, Ok(first), fails(MismatchReason::NoGrace, by_stranger)),
        (peers, stranger, ELSEWHERE, ours, Ok(stale), CheckOutcome::Grace(stale)),
        (peers, stranger, ELSEWHERE, ours, Err(spent), fails(spent, Some(DroppedBy::Budget))),
        (
            peers,
            stranger,
            ELSEWHERE,
            beyond,
            Ok(stale),
            fails(MismatchReason::BeyondSubnet, by_stranger),
        ),
        (log, stranger, THERE, ours, Ok(first), fails(MismatchReason::HeldBy(PEER.ip), None)),
        (log, stranger, ELSEWHERE, ours, Ok(first), CheckOutcome::Grace(first)),
        (
            log,
            stranger,
            ELSEWHERE,
            beyond,
            Ok(first),
            fails(MismatchReason::BeyondSubnet, by_relay),
        ),
        (log, stranger, [172, 16, 0, 1], beyond, Ok(first), fails(outside, by_relay)),
    ] {
        let policy = policy(mode, CheckMode::Off);
        let sender = SocketAddrV4::new(ip, PEER.port);
        let mut packet = udp(source, destination, 64, 10);
        let (checked, result) = forward::ingress(&policy, &routes, sender, |_| grace, &mut packet);
        let checked = checked.unwrap().source_check;
        assert_eq!(checked, expected, "{mode} {ip} {source:?} {destination:?} {grace:?}");
        assert_eq!(result.is_err(), checked.drops());
    }
}

/// The address and the port: no other program of a host that has a lease can send from it.
#[test]
fn another_port_of_a_peer_is_a_strangers() {
    let routes = routes(&[(2, PEER)]);
    let policy = policy(CheckMode::Peers, CheckMode::Off);
    let sender = SocketAddrV4::new(PEER.ip, 40_000);
    let mut packet = udp(THERE, HERE, 64, 10);
    let grace = |is_peer: bool| {
        assert!(!is_peer);
        Ok(GraceReason::FirstPacket)
    };
    let (checked, _) = forward::ingress(&policy, &routes, sender, grace, &mut packet);
    let (reason, dropped) = (MismatchReason::OtherPort(PEER.ip), Some(DroppedBy::Stranger));
    assert_eq!(checked.unwrap().source_check, CheckOutcome::Fails { reason, dropped });
}

/// Where no source is checked, traffic of a host that sends from another port is still its own.
#[test]
fn traffic_is_attributed_to_the_host_that_sent_it() {
    let routes = routes(&[(2, PEER)]);
    let peer = routes.route(THERE.into()).unwrap().peer;
    for (mode, port, expected) in [
        (CheckMode::Off, PEER.port, peer),
        (CheckMode::Off, 40_000, peer),
        (CheckMode::Log, PEER.port, peer),
        (CheckMode::Log, 40_000, PeerIndex::UNATTRIBUTED),
    ] {
        let policy = policy(mode, CheckMode::Off);
        let mut packet = udp(THERE, HERE, 64, 10);
        let sender = SocketAddrV4::new(PEER.ip, port);
        let grace = |_| Err(MismatchReason::GraceOver);
        let (_, result) = forward::ingress(&policy, &routes, sender, grace, &mut packet);
        assert_eq!(result.unwrap().peer, expected, "{mode} {port}");
    }
}
