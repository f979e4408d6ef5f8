use std::time::Duration;

use super::grace::{FORGOTTEN, GRACE, SENDERS};
use super::*;

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
    let (mut grace, start) = (Grace::default(), Instant::now());
    let sender = Ipv4Addr::new(192, 168, 0, 1);
    assert!(grace.tolerates(sender, start));
    assert!(grace.tolerates(sender, start + GRACE / 2));
    assert!(!grace.tolerates(sender, start + GRACE));
    assert!(!grace.tolerates(sender, start + FORGOTTEN / 2));
    assert!(grace.tolerates(sender, start + FORGOTTEN));
    assert!(!grace.tolerates(sender, start + FORGOTTEN + GRACE));
}

#[test]
fn strangers_cannot_fill_the_memory() {
    let (mut grace, start) = (Grace::default(), Instant::now());
    let sender = |n| Ipv4Addr::from_bits(0xc0a8_0000 + n as u32);
    assert!((0..SENDERS).all(|n| grace.tolerates(sender(n), start)));
    assert!(!grace.tolerates(sender(SENDERS), start), "no room");
    assert!(grace.tolerates(sender(0), start), "those who had it keep it");
    assert!(grace.tolerates(sender(SENDERS), start + FORGOTTEN), "the others are forgotten");
}

#[test]
fn a_sender_is_named_once_a_minute() {
    let (mut list, start) = (Mismatches::default(), Instant::now());
    let lines = list.note(vec![mismatch(1, 1), mismatch(1, 2), mismatch(2, 1)], start);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("192.168.0.1:8285") && lines[0].contains("10.0.9.1"), "{lines:?}");
    assert!(lines[0].contains("the lease of 192.168.0.9"), "{lines:?}");
    assert!(list.note(vec![mismatch(1, 3)], start + Duration::from_secs(59)).is_empty());
    assert_eq!(list.note(vec![mismatch(1, 4)], start + Duration::from_secs(60)).len(), 1);
    let recent = list.recent();
    assert_eq!(recent.len(), 2);
    assert_eq!((recent[0].source, recent[0].reports), (Ipv4Addr::new(10, 0, 9, 4), 4));
}

#[test]
fn a_flood_of_senders_has_ten_lines_and_is_counted() {
    let (mut list, start) = (Mismatches::default(), Instant::now());
    let lines = list.note((0..100).map(|n| mismatch(n, 1)).collect(), start);
    assert_eq!(lines.len(), 10);
    assert_eq!(list.recent().len(), 32);
    let lines = list.note(vec![], start + Duration::from_secs(60));
    assert!(lines[0].starts_with("90 more"), "{lines:?}");
}

#[test]
fn control_hears_each_once_and_what_is_lost_is_counted() {
    let desk = Desk::new();
    let network: Cidr = "10.0.0.0/16".parse().unwrap();
    let (_writer, routes) = crate::route::table(network, 24);
    let own = Ipv4Addr::new(192, 168, 0, 7);
    let rules = Rules {
        source: CheckMode::Enforce,
        destination: CheckMode::Off,
        network,
        subnet: "10.0.1.0/24".parse().unwrap(),
        own,
    };
    let mut checks = Checks::new(rules, &routes, &desk);
    let counters = DirectionCounters::default();
    let mut packet = [0u8; 20];
    packet[0] = 0x45;
    packet[3] = 20;
    let mut refuse = |checks: &mut Checks, source: [u8; 4]| {
        packet[12..16].copy_from_slice(&source);
        let ip = Ipv4::parse(&packet[..]).unwrap();
        checks.refuse(&counters, mismatch(1, 0).sender, &ip, false).is_some()
    };
    assert!(!refuse(&mut checks, [10, 0, 5, 1]), "nobody knows the leases yet");
    assert!(refuse(&mut checks, [10, 0, 1, 9]), "our own");
    assert!(refuse(&mut checks, [172, 16, 0, 1]), "never in a lease");
    assert!(refuse(&mut checks, [172, 16, 0, 1]));
    desk.set_blind(false);
    assert!(!refuse(&mut checks, [10, 0, 5, 1]), "the lease may be on its way");
    let told = desk.read();
    let told: Vec<_> = told.iter().map(|m| (m.source, m.holder)).collect();
    assert_eq!(told, [([10, 0, 1, 9].into(), Some(own)), ([172, 16, 0, 1].into(), None)]);
    assert!(refuse(&mut checks, [172, 16, 0, 1]));
    assert_eq!(desk.read().len(), 1, "told anew");
    for n in 0..=255 {
        refuse(&mut checks, [172, 16, 1, n]);
        refuse(&mut checks, [172, 16, 2, n]);
    }
    assert_eq!(desk.read().len(), REPORTS);
    assert_eq!(counters.mismatches_untold.get(), 256);
    assert_eq!((counters.source_mismatches.get(), counters.source_grace.get()), (516, 2));
}
