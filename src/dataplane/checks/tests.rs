use std::time::Duration;

use super::grace::{FORGET_AFTER, GRACE, SENDERS};
use super::*;
use crate::dataplane::forward::{self, Policy};
use crate::dataplane::tests::support::{config, udp};
use crate::dataplane::{CheckMode, Offloads};
use crate::route::Cidr;

fn mismatch(sender: u8, source: u8) -> Mismatch {
    Mismatch {
        check: Check::Source,
        source: Ipv4Addr::new(10, 0, 9, source),
        destination: Ipv4Addr::new(10, 0, 1, 2),
        sender: SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, sender), 8285),
        holder: Some(Ipv4Addr::new(192, 168, 0, 9)),
        dropped: false,
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

#[test]
fn each_mismatch_is_reported_once_per_epoch_and_lost_reports_are_counted() {
    let reports = MismatchReports::new();
    let network: Cidr = "10.0.0.0/16".parse().unwrap();
    let (_writer, routes) = crate::route::table(network, 24);
    let own = Ipv4Addr::new(192, 168, 0, 7);
    let rules = CheckRules {
        source: CheckMode::Enforce,
        destination: CheckMode::Off,
        network,
        subnet: "10.0.1.0/24".parse().unwrap(),
        own,
    };
    let policy = Policy { checks: rules, ..Policy::from(&config(Offloads::AUTO)) };
    let mut checks = Checks::new(&reports);
    let counters = DirectionCounters::default();
    let refuse = |checks: &mut Checks, source: [u8; 4]| {
        let mut packet = udp(source, [10, 0, 1, 2], 9, 0);
        let sender = mismatch(1, 0).sender;
        let grace_of = || checks.grace_of(*sender.ip());
        let (checked, result) = forward::ingress(&policy, &routes, sender, grace_of, &mut packet);
        checks.apply(&counters, sender, &checked.unwrap());
        result.is_err()
    };
    assert!(!refuse(&mut checks, [10, 0, 5, 1]), "the routes are stale");
    assert!(refuse(&mut checks, [10, 0, 1, 9]), "our own");
    assert!(refuse(&mut checks, [172, 16, 0, 1]), "outside the network");
    assert!(refuse(&mut checks, [172, 16, 0, 1]));
    reports.set_routes_stale(false);
    assert!(!refuse(&mut checks, [10, 0, 5, 1]), "the lease may be about to arrive");
    let drained = reports.drain();
    let drained: Vec<_> = drained.iter().map(|m| (m.source, m.holder)).collect();
    assert_eq!(drained, [([10, 0, 1, 9].into(), Some(own)), ([172, 16, 0, 1].into(), None)]);
    assert!(refuse(&mut checks, [172, 16, 0, 1]));
    assert_eq!(reports.drain().len(), 1, "reported again in the next epoch");
    for n in 0..=255 {
        refuse(&mut checks, [172, 16, 1, n]);
        refuse(&mut checks, [172, 16, 2, n]);
    }
    assert_eq!(reports.drain().len(), CHANNEL_CAPACITY);
    assert_eq!(counters.mismatches_unreported.get(), 256);
    assert_eq!((counters.source_mismatches.get(), counters.source_grace.get()), (516, 2));
}
