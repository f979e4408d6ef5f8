use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use super::*;
use crate::dataplane::counters::DropReason;
use crate::samples;

const LOCAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 211, 55, 1), 8285);
const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 211, 55, 2), 8285);

fn spec(snap_len: usize) -> CaptureSpec {
    CaptureSpec { filter: Filter::default(), snap_len, inner: true, outer: true }
}

/// What a worker does with a batch of one packet.
fn batch(probe: &mut Probe, packet: &[u8]) {
    probe.check_capture();
    probe.batch_read();
    probe.batch_sent();
    probe.carried(PEER, [&packet[..28], &packet[28..]]);
    probe.dropped(DropReason::NoRoute, None, Ttl::AsRead, [packet, &[]]);
    probe.icmp_sent(None, packet);
}

#[test]
fn nothing_is_taken_before_and_after_a_capture() {
    let tap = Tap::default();
    let mut probe = tap.probe(Direction::Egress, LOCAL);
    let packet = samples::udp(b"payload of a packet");
    batch(&mut probe, &packet);
    assert!(!probe.is_on());
    let mut capture = tap.capture(spec(65_535)).unwrap();
    assert_eq!(tap.capture(spec(65_535)).err(), Some(CaptureRunning));
    batch(&mut probe, &packet);
    let records: Vec<_> = capture.take(1 << 20).map(|record| record.verdict).collect();
    let dropped = CaptureVerdict::Dropped(DropReason::NoRoute);
    assert_eq!(records, [CaptureVerdict::Carried, dropped, CaptureVerdict::IcmpError]);
    // What was taken before the end can be taken out after it.
    batch(&mut probe, &packet);
    capture.stop();
    batch(&mut probe, &packet);
    assert!(!probe.is_on());
    let record = capture.take(1 << 20).next().unwrap();
    assert_eq!((record.bytes, record.peer, record.local), (&packet[..], Some(PEER), LOCAL));
    assert!(record.read_time > 0 && record.sent_time >= record.read_time);
    assert_eq!(capture.take(1 << 20).count(), 0);
    drop(tap.capture(spec(1)).expect("the first has ended"));
}

/// A worker must not allocate, with a capture or without: see `docs/architecture.md`.
#[test]
fn a_probe_allocates_nothing() {
    let tap = Tap::default();
    let mut probe = tap.probe(Direction::Egress, LOCAL);
    let packet = samples::udp(&[7; 1400]);
    let allocations = |probe: &mut Probe| {
        allocation_counter::measure(|| (0..20_000).for_each(|_| batch(probe, &packet))).count_total
    };
    assert_eq!(allocations(&mut probe), 0, "while it is off");
    let capture = tap.capture(spec(65_535)).unwrap();
    assert_eq!(allocations(&mut probe), 0, "from the first packet until the ring is full and on");
    assert!(capture.lost().packets > 0, "it was full");
    drop(capture);
    assert_eq!(allocations(&mut probe), 0, "after its end");
}

#[test]
fn a_reader_that_sleeps_loses_packets_and_is_told() {
    let tap = Tap::default();
    let mut probe = tap.probe(Direction::Ingress, LOCAL);
    let mut capture = tap.capture(spec(65_535)).unwrap();
    let packet = samples::udp(&[7; 1400]);
    let total = 20_000;
    probe.check_capture();
    for _ in 0..total {
        probe.carried(PEER, [&packet, &[]]);
    }
    let lost = capture.lost();
    assert!(lost.packets > 0 && (lost.inner, lost.outer) == (lost.packets, lost.packets));
    let mut taken = 0;
    loop {
        let round = capture.take(1 << 20).inspect(|record| assert_eq!(record.lost, 0)).count();
        taken += round as u64;
        if round == 0 {
            break;
        }
    }
    assert_eq!(taken + lost.packets, total);
    probe.dropped(DropReason::OverMtu, Some(PEER), Ttl::AsRead, [&packet, &[]]);
    assert_eq!(u64::from(capture.take(1 << 20).next().unwrap().lost), lost.packets);
}

#[test]
fn packets_are_cut_to_the_snap_length_across_their_parts() {
    let tap = Tap::default();
    let mut probe = tap.probe(Direction::Egress, LOCAL);
    let packet = samples::udp(b"payload");
    for snap_len in [1, 27, 28, 29, packet.len(), 1_000] {
        let mut capture = tap.capture(spec(snap_len)).unwrap();
        batch(&mut probe, &packet);
        let record = capture.take(1 << 20).next().unwrap();
        assert_eq!(record.bytes, &packet[..snap_len.min(packet.len())]);
        assert_eq!(record.len as usize, packet.len());
    }
}

#[test]
fn what_no_wanted_interface_sees_is_not_taken() {
    let tap = Tap::default();
    let mut probe = tap.probe(Direction::Egress, LOCAL);
    let packet = samples::udp(b"payload");
    for (inner, outer, expected) in [(true, false, 3), (false, true, 1), (true, true, 3)] {
        let mut capture = tap.capture(CaptureSpec { inner, outer, ..spec(100) }).unwrap();
        batch(&mut probe, &packet);
        assert_eq!(capture.take(1 << 20).count(), expected);
    }
}

/// A data plane is replaced, as when its device was deleted, while a capture runs.
#[test]
fn a_capture_outlives_its_probes() {
    let tap = Tap::default();
    let probes = || [Direction::Egress, Direction::Ingress].map(|way| tap.probe(way, LOCAL));
    let mut first = probes();
    let mut capture = tap.capture(spec(100)).unwrap();
    let packet = samples::udp(b"payload");
    first.iter_mut().for_each(|probe| batch(probe, &packet));
    drop(first);
    let mut second = probes();
    second.iter_mut().for_each(|probe| batch(probe, &packet));
    assert_eq!(capture.take(1 << 20).count(), 12);
    // One more than there are rings: its packets are counted as lost.
    let mut third = tap.probe(Direction::Egress, LOCAL);
    batch(&mut third, &packet);
    assert_eq!((capture.take(1 << 20).count(), capture.lost().packets), (0, 3));
    assert_eq!(Arc::strong_count(&tap.0), 5, "three probes, the capture and the tap");
}
