use std::time::Duration;

use super::grace::{FORGET_AFTER, GRACE, SENDERS};
use super::*;
use crate::dataplane::forward::{self, Policy};
use crate::dataplane::tests::support::{config, routes, udp};
use crate::dataplane::{CheckMode, Config, Offloads};
use crate::route::{Cidr, NextHop};

fn mismatch(sender: u8, source: u8) -> Mismatch {
    Mismatch {
        check: Check::Source,
        source: Ipv4Addr::new(10, 0, 9, source),
        destination: Ipv4Addr::new(10, 0, 1, 2),
        sender: SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, sender), 8285),
        holder: Some(Ipv4Addr::new(192, 168, 0, 9)),
        dropped: false,
        by: None,
    }
}

#[test]
fn grace_ends_and_comes_back_much_later() {
    let (grace, start) = (GraceTable::default(), Instant::now());
    let sender = Ipv4Addr::new(192, 168, 0, 1);
    for (after, outcome) in [
        (Duration::ZERO, Ok(GraceReason::FirstPacket)),
        (GRACE / 2, Ok(GraceReason::Running(GRACE / 2))),
        (GRACE, Err(MismatchReason::GraceOver)),
        (FORGET_AFTER / 2, Err(MismatchReason::GraceOver)),
        (FORGET_AFTER, Ok(GraceReason::FirstPacket)),
        (FORGET_AFTER + GRACE, Err(MismatchReason::GraceOver)),
    ] {
        let peeked = GraceTable::peek([&GraceTable::default(), &grace], sender, start + after);
        assert_eq!(peeked, outcome, "{after:?}");
        assert_eq!(grace.admit(sender, start + after), outcome, "{after:?}");
    }
}

#[test]
fn strangers_cannot_grow_the_table() {
    let (grace, start) = (GraceTable::default(), Instant::now());
    let sender = |n| Ipv4Addr::from_bits(0xc0a8_0000 + n as u32);
    assert!((0..SENDERS).all(|n| grace.admit(sender(n), start) == Ok(GraceReason::FirstPacket)));
    assert_eq!(grace.admit(sender(SENDERS), start), Err(MismatchReason::GraceTableFull));
    assert_eq!(
        GraceTable::peek([&grace], sender(SENDERS), start),
        Err(MismatchReason::GraceTableFull)
    );
    assert_eq!(grace.admit(sender(0), start), Ok(GraceReason::Running(GRACE)), "its grace goes on");
    let later = start + FORGET_AFTER;
    assert_eq!(
        grace.admit(sender(SENDERS), later),
        Ok(GraceReason::FirstPacket),
        "the slots of the others are free"
    );
    assert_eq!(
        GraceTable::peek([&grace], Ipv4Addr::UNSPECIFIED, later),
        Ok(GraceReason::FirstPacket)
    );
}

#[test]
fn a_sender_is_logged_once_per_minute() {
    let (mut list, start) = (MismatchLog::default(), Instant::now());
    let lines = list.lines_for(vec![mismatch(1, 1), mismatch(1, 2), mismatch(2, 1)], start);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("192.168.0.1:8285") && lines[0].contains("10.0.9.1"), "{lines:?}");
    assert!(lines[0].contains("the lease of 192.168.0.9"), "{lines:?}");
    assert!(list.lines_for(vec![mismatch(1, 3)], start + Duration::from_secs(59)).is_empty());
    assert_eq!(list.lines_for(vec![mismatch(1, 4)], start + Duration::from_secs(60)).len(), 1);
    let recent = list.recent();
    assert_eq!(recent.len(), 2);
    assert_eq!((recent[0].latest.source, recent[0].reports), (Ipv4Addr::new(10, 0, 9, 4), 4));
}

#[test]
fn a_flood_of_senders_has_ten_lines_and_is_counted() {
    let (mut list, start) = (MismatchLog::default(), Instant::now());
    let lines = list.lines_for((0..100).map(|n| mismatch(n, 1)).collect(), start);
    assert_eq!(lines.len(), 10);
    assert_eq!(list.recent().len(), 32);
    let lines = list.lines_for(vec![], start + Duration::from_secs(60));
    assert!(lines[0].starts_with("90 more"), "{lines:?}");
}

/// A stranger with grace would have it for ever, by sending from ever new addresses.
#[test]
fn an_enforced_check_gives_grace_to_peers_alone_while_the_store_is_away() {
    let peer = SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 2), 8285);
    let from = |ip: [u8; 4], port| SocketAddrV4::new(ip.into(), port);
    let routes = routes(&[(2, NextHop { ip: *peer.ip(), port: 8285 })]);
    let policy =
        Policy::from(&Config { source_check: CheckMode::Enforce, ..config(Offloads::AUTO) });
    let reports = MismatchReports::new(CheckMode::Enforce);
    let mut checks = Checks::new(&reports);
    for (stale, sender, source, outcome) in [
        (false, peer, [10, 0, 2, 9], Ok(None)),
        (true, peer, [10, 0, 9, 9], Ok(Some(GraceReason::RoutesStale))),
        (false, peer, [10, 0, 9, 9], Err(MismatchReason::NoGrace)),
        (true, from([192, 168, 0, 2], 8286), [10, 0, 9, 9], Err(MismatchReason::NoGrace)),
        (true, from([192, 168, 0, 3], 8285), [10, 0, 9, 9], Err(MismatchReason::NoGrace)),
        (false, from([192, 168, 0, 3], 8285), [10, 0, 9, 9], Err(MismatchReason::NoGrace)),
        (true, peer, [172, 16, 0, 1], Err(MismatchReason::Unleased)),
        (true, peer, [10, 0, 1, 9], Err(MismatchReason::HeldBy(Ipv4Addr::LOCALHOST))),
    ] {
        reports.set_routes_stale(stale);
        let mut packet = udp(source, [10, 0, 1, 2], 9, 0);
        let grace_of = |is_peer| checks.grace_of(*sender.ip(), is_peer);
        let (checked, result) = forward::ingress(&policy, &routes, sender, grace_of, &mut packet);
        let expected = match outcome {
            Ok(None) => CheckOutcome::Passes,
            Ok(Some(reason)) => CheckOutcome::Grace(reason),
            Err(reason) => CheckOutcome::Fails { reason, dropped: Some(DroppedBy::Enforce) },
        };
        assert_eq!(checked.unwrap().source_check, expected, "{stale} {sender} {source:?}");
        assert_eq!(result.is_err(), outcome.is_err(), "{stale} {sender} {source:?}");
        assert!(reports.grace_of(*sender.ip(), false).is_ok() == stale, "as explain tells");
    }
}

#[test]
fn each_mismatch_is_reported_once_per_epoch_and_lost_reports_are_counted() {
    let reports = MismatchReports::new(CheckMode::Log);
    let network: Cidr = "10.0.0.0/16".parse().unwrap();
    let (_writer, routes) = crate::route::table(network, 24);
    let own = SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 7), 8285);
    let rules = CheckRules {
        source: CheckMode::Log,
        destination: CheckMode::Off,
        network,
        subnet: "10.0.1.0/24".parse().unwrap(),
        own,
    };
    let policy = Policy { checks: rules, ..Policy::from(&config(Offloads::AUTO)) };
    let mut checks = Checks::new(&reports);
    let counters = DirectionCounters::default();
    let fails = |checks: &mut Checks, source: [u8; 4]| {
        let mut packet = udp(source, [10, 0, 1, 2], 9, 0);
        let sender = mismatch(1, 0).sender;
        let grace_of = |is_peer| checks.grace_of(*sender.ip(), is_peer);
        let (checked, _) = forward::ingress(&policy, &routes, sender, grace_of, &mut packet);
        checks.apply(&counters, sender, &checked.unwrap());
        matches!(checked.unwrap().source_check, CheckOutcome::Fails { .. })
    };
    assert!(!fails(&mut checks, [10, 0, 5, 1]), "the routes are stale");
    assert!(fails(&mut checks, [10, 0, 1, 9]), "our own");
    assert!(fails(&mut checks, [172, 16, 0, 1]), "outside the network");
    assert!(fails(&mut checks, [172, 16, 0, 1]));
    reports.set_routes_stale(false);
    assert!(!fails(&mut checks, [10, 0, 5, 1]), "the lease may be about to arrive");
    let drained = reports.drain();
    let drained: Vec<_> = drained.iter().map(|m| (m.source, m.holder)).collect();
    assert_eq!(drained, [([10, 0, 1, 9].into(), Some(*own.ip())), ([172, 16, 0, 1].into(), None)]);
    assert!(fails(&mut checks, [172, 16, 0, 1]));
    assert_eq!(reports.drain().len(), 1, "reported again in the next epoch");
    for n in 0..=255 {
        fails(&mut checks, [172, 16, 1, n]);
        fails(&mut checks, [172, 16, 2, n]);
    }
    assert_eq!(reports.drain().len(), CHANNEL_CAPACITY);
    assert_eq!(counters.mismatches_unreported.get(), 256);
    assert_eq!((counters.source_mismatches.get(), counters.source_grace.get()), (516, 2));
}
