//! Every combination of offloads delivers the same bytes, in order.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use flannel_udp::lab::{self, DaemonOptions, Lab, UnderlayKind};

use crate::containers::odd_packets;
use crate::support::conservation::ConservationCheck;
use crate::support::test_lab::{Endpoint, TestLab};
use crate::support::{accounting, bulk, exclusive, flow, long, tos};

/// The settings of the daemons on both hosts.
#[derive(Debug, Clone)]
struct Case {
    offload: [String; 2],
    workers: u32,
}

#[test]
fn every_combination_delivers_the_same_at_mtu_1500() {
    let Some(_exclusive) = exclusive() else { return };
    let mut cases: Vec<Case> =
        SHORT.iter().map(|(on, workers)| Case::alike(*on, *workers)).collect();
    if long() {
        cases = all();
    }
    run(1500, UnderlayKind::Nic, &cases);
}

#[test]
fn the_short_form_tries_every_pair() {
    let bit = |on: u8, bit: u8| u32::from(on >> bit & 1);
    let values =
        SHORT.map(|(on, workers)| [bit(on, 0), bit(on, 1), bit(on, 2), bit(on, 3), workers]);
    for (one, other) in (0..5).flat_map(|one| (one + 1..5).map(move |other| (one, other))) {
        let pairs: BTreeSet<_> = values.iter().map(|case| (case[one], case[other])).collect();
        let expected = if other == 4 { 2 * 3 } else { 2 * 2 };
        assert_eq!(pairs.len(), expected, "of settings {one} and {other}: {pairs:?}");
    }
}

#[test]
fn every_combination_delivers_the_same_at_mtu_9000() {
    let Some(_exclusive) = exclusive() else { return };
    let mut cases: Vec<Case> =
        [(0b1111, 2), (0, 1), (0b1010, 4), (0b0101, 2)].map(|(on, w)| Case::alike(on, w)).into();
    if long() {
        cases = all();
    }
    run(9000, UnderlayKind::Nic, &cases);
}

#[test]
fn a_daemon_with_offloads_and_one_without_interoperate() {
    let Some(_exclusive) = exclusive() else { return };
    let ends = |one: &str, other: &str| Case { offload: [one.into(), other.into()], workers: 2 };
    let mut cases = vec![ends("auto", "off"), ends("off", "auto")];
    if long() {
        for other in ["off", "auto"] {
            let one =
                |on| Case { workers: [1, 2, 4][on as usize % 3], ..ends(&features(on), other) };
            cases.extend((0..16).map(one));
        }
    }
    for underlay in [UnderlayKind::Veth, UnderlayKind::Nic, UnderlayKind::None] {
        run(1500, underlay, &cases);
    }
}

#[test]
fn many_flows_over_four_queues_stay_in_order() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = underlay_lab(1500, UnderlayKind::Veth);
    start(&mut lab, &Case::alike(0b1111, 4));
    let (here, there) = (lab.endpoint(0), lab.endpoint(1));
    let count = if long() { 100_000 } else { 5_000 };
    thread::scope(|scope| {
        for number in 0..16 {
            let (from, to) = if number % 2 == 0 { (here, there) } else { (there, here) };
            let size = [18, 64, 200, 1200][number / 4];
            scope.spawn(move || flow::in_order(from, to, count, |_| size));
        }
    });
    accounting::check_balance(&mut lab);
}

/// The kernel selects the queue of a TUN device by a hash of addresses and ports, not by the CPU that the
/// sender runs on.
#[test]
fn senders_that_move_between_processors_stay_in_order() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = underlay_lab(1500, UnderlayKind::Veth);
    start(&mut lab, &Case::alike(0b1111, 4));
    let (here, there) = (lab.endpoint(0), lab.endpoint(1));
    let count = if long() { 50_000 } else { 5_000 };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let (send_id, ids) = mpsc::channel();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let flows: Vec<_> = (0..8usize)
            .map(|number| {
                let send_id = send_id.clone();
                scope.spawn(move || {
                    let thread = std::fs::read_link("/proc/thread-self").expect("this thread");
                    send_id
                        .send(thread.file_name().expect("its id").to_owned())
                        .expect("a receiver");
                    let (from, to) = if number % 2 == 0 { (here, there) } else { (there, here) };
                    flow::in_order(from, to, count, |_| 100 + number);
                })
            })
            .collect();
        let threads: Vec<_> = ids.iter().take(flows.len()).collect();
        let done = &done;
        let mover = scope.spawn(move || {
            let mut moves = 0;
            while !done.load(Ordering::Relaxed) {
                for (number, thread) in threads.iter().enumerate() {
                    let processor = ((moves + number) % processors).to_string();
                    let thread = thread.to_string_lossy();
                    // A thread that has ended cannot be moved.
                    let _ = lab::tool::run("taskset", &["-pc", &processor, &thread]);
                }
                moves += 1;
            }
            moves
        });
        let ended: Vec<_> = flows.into_iter().map(|flow| flow.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(mover.join().expect("the mover") > 2, "the senders were moved");
        assert!(ended.iter().all(Result::is_ok), "a flow came out of order");
    });
    accounting::check_balance(&mut lab);
}

#[test]
fn tos_and_ecn_survive_segmentation_and_coalescing() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = underlay_lab(1500, UnderlayKind::Nic);
    for (one, other) in [("auto", "auto"), ("auto", "off"), ("off", "auto")] {
        start(&mut lab, &Case { offload: [one.into(), other.into()], workers: 1 });
        tos::stop_marking(&lab);
        let conservation = ConservationCheck::start(&mut lab);
        tos::check_preserved(&lab, 0, 1);
        tos::check_preserved(&lab, 1, 0);
        conservation.finish(&mut lab, 0);
    }
}

/// A thousand datagrams per second in each direction, far below the capacity, beside TCP at full speed: each
/// arrives, or a counter names its drop.
#[test]
fn paced_datagrams_beside_bulk_are_accounted_for() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = underlay_lab(1500, UnderlayKind::Nic);
    for (one, other) in [("auto", "auto"), ("auto", "off")] {
        start(&mut lab, &Case { offload: [one.into(), other.into()], workers: 1 });
        let conservation = ConservationCheck::start(&mut lab);
        let (here, there) = (lab.endpoint(0), lab.endpoint(1));
        let bulks = [bulk::Endless::start(here, there, 1), bulk::Endless::start(there, here, 2)];
        let flows = [flow::Background::start(here, there), flow::Background::start(there, here)];
        thread::sleep(Duration::from_secs(2));
        let ended = flows.map(flow::Background::end);
        for bulk in bulks {
            bulk.finish();
        }
        println!("{one}, {other}: {ended:?}");
        assert!(ended.iter().all(|(_, seen)| seen.misordered == 0), "{ended:?}");
        conservation.finish(&mut lab, ended.iter().map(|(sent, seen)| sent - seen.packets).sum());
    }
}

/// The same traffic without a tunnel: a failure here is one of the tests or of the kernel.
#[test]
fn plain_routes_deliver_the_same() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().underlay(UnderlayKind::Nic));
    lab.route_plainly().expect("plain routes");
    lab.meet(0, 1);
    let _ = mixed(lab.endpoint(0), lab.endpoint(1), 1500, 2);
}

fn run(mtu: u32, underlay: UnderlayKind, cases: &[Case]) {
    let mut lab = underlay_lab(mtu, underlay);
    for case in cases {
        println!("MTU {mtu}, underlay {underlay}: {case:?}");
        start(&mut lab, case);
        let conservation = ConservationCheck::start(&mut lab);
        let congested = [0, 1].map(|host| tos::congestion_marks(&lab, host));
        // 500 datagrams of 9,000 bytes fill the queue of a device whose daemon reads one per call.
        let part = if mtu == 9000 && case.offload == ["off", "off"] { 5 } else { 2 };
        let mut lost = 0;
        for (one, other) in [(0, 1), (1, 0)] {
            lost += mixed(lab.endpoint(one), lab.endpoint(other), mtu as usize, part);
        }
        conservation.finish(&mut lab, lost);
        for (host, before) in congested.into_iter().enumerate() {
            assert!(
                tos::congestion_marks(&lab, host) > before,
                "congestion marks arrive at {host}"
            );
        }
    }
}

/// At the same time: bulk TCP in both directions with ECN, partly with CE set, small and large UDP, odd sizes,
/// fragments, IP options, UDP without a checksum, with and without DF. Returns how many datagrams of the
/// numbered flows were lost. At least one in `part` of each flow must arrive.
fn mixed(here: Endpoint<'_>, there: Endpoint<'_>, mtu: usize, part: u64) -> u64 {
    let full = mtu - 28 - 28;
    let lost = AtomicU64::new(0);
    let some = |sent, arrived| {
        some(sent, arrived, part);
        lost.fetch_add(sent - arrived, Ordering::Relaxed);
    };
    let some = &some;
    thread::scope(|scope| {
        scope.spawn(move || bulk::transfer(here, there, 4 << 20, 11));
        scope.spawn(move || bulk::transfer(there, here, 4 << 20, 12));
        scope.spawn(move || some(2000, flow::ordered(here, there, 2000, |_| 18)));
        scope.spawn(move || some(500, flow::ordered(here, there, 500, move |_| full)));
        scope.spawn(move || {
            let size = move |n| 8 + (n * 97) as usize % (full - 8);
            some(500, flow::ordered(there, here, 500, size));
        });
        scope
            .spawn(move || flow::echo_within(10, here, there, [0, 1, 2 * mtu, 8191, 4001, 20_000]));
        scope.spawn(move || odd_packets(here, there));
    });
    lost.into_inner()
}

/// Checks that at least one packet in `part` arrived: beside bulk traffic a queue may overflow for a while.
#[track_caller]
fn some(sent: u64, arrived: u64, part: u64) {
    assert!(arrived >= sent / part, "of {sent} packets {arrived} arrived");
}

fn underlay_lab(mtu: u32, underlay: UnderlayKind) -> TestLab {
    let lab = TestLab::build(Lab::builder().mtu(mtu).underlay(underlay));
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    lab
}

/// Starts both daemons with the settings of `case`; they keep their subnets.
fn start(lab: &mut TestLab, case: &Case) {
    let first = lab.host(0).containers().is_empty();
    for host in 0..2 {
        let flags =
            [format!("--offload={}", case.offload[host]), format!("--workers={}", case.workers)];
        lab.start_daemon(host, DaemonOptions::with_flags(flags)).expect("a daemon");
        if lab.host(host).containers().is_empty() {
            lab.add_container(host).expect("a container");
            TestLab::run(lab.endpoint(host).netns, "sysctl", &["-w", "net.ipv4.tcp_ecn=1"]);
        }
    }
    if first {
        tos::mark_congestion(lab);
    }
    lab.meet(0, 1);
}

impl Case {
    /// Both ends with the same features, one bit each.
    fn alike(on: u8, workers: u32) -> Self {
        Self { offload: [features(on), features(on)], workers }
    }
}

/// Every set of features with every number of workers.
fn all() -> Vec<Case> {
    let sets = (0..16).flat_map(|on| [1, 2, 4].map(|workers| Case::alike(on, workers)));
    sets.collect()
}

/// The features of these bits, as `--offload` takes them.
fn features(on: u8) -> String {
    let names = ["vnet,uso", "gso", "gro", "coalesce"];
    let on: Vec<&str> = names
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| on >> bit & 1 != 0)
        .map(|(_, n)| n)
        .collect();
    if on.is_empty() { "off".into() } else { format!("{},batch", on.join(",")) }
}

/// Each feature alone, each missing, all and none; all numbers of workers.
const SHORT: [(u8, u32); 12] = [
    (0b1111, 1),
    (0b1111, 2),
    (0b1111, 4),
    (0b0000, 1),
    (0b0000, 4),
    (0b0111, 2),
    (0b1011, 4),
    (0b1101, 2),
    (0b1110, 4),
    (0b0001, 1),
    (0b1000, 2),
    (0b0110, 1),
];
