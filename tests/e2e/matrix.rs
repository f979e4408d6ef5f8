//! Every way of talking to the kernel delivers the same bytes, in order.

use std::thread;

use flannel_udp::lab::{self, DaemonOptions, Lab, Underlay};

use crate::containers::odd_packets;
use crate::support::world::{Place, World};
use crate::support::{books, bulk, flow, gate, long};

/// One way of running the daemons of both hosts.
#[derive(Debug, Clone)]
struct Case {
    offload: [String; 2],
    workers: u32,
}

#[test]
fn at_mtu_1500_every_way_delivers_the_same() {
    let Some(_turn) = gate::turn() else { return };
    let mut cases: Vec<Case> =
        SHORT.iter().map(|(on, workers)| Case::alike(*on, *workers)).collect();
    if long() {
        cases = all();
    }
    run(1500, Underlay::Nic, &cases);
}

#[test]
fn at_mtu_9000_every_way_delivers_the_same() {
    let Some(_turn) = gate::turn() else { return };
    let mut cases: Vec<Case> =
        [(0b1111, 2), (0, 1), (0b1010, 4), (0b0101, 2)].map(|(on, w)| Case::alike(on, w)).into();
    if long() {
        cases = all();
    }
    run(9000, Underlay::Nic, &cases);
}

#[test]
fn an_offloading_daemon_and_a_plain_one_understand_each_other() {
    let Some(_turn) = gate::turn() else { return };
    let ends = |one: &str, other: &str| Case { offload: [one.into(), other.into()], workers: 2 };
    let mut cases = vec![ends("auto", "off"), ends("off", "auto")];
    if long() {
        cases.extend((0..16).map(|on| ends(&features(on), "off")));
        cases.extend((0..16).map(|on| ends(&features(on), "auto")));
    }
    for underlay in [Underlay::Veth, Underlay::Nic, Underlay::None] {
        run(1500, underlay, &cases);
    }
}

#[test]
fn many_flows_over_four_queues_stay_in_order() {
    let Some(_turn) = gate::turn() else { return };
    let mut world = world(1500, Underlay::Veth);
    start(&mut world, &Case::alike(0b1111, 4));
    let (here, there) = (world.place(0), world.place(1));
    let count = if long() { 100_000 } else { 5_000 };
    thread::scope(|scope| {
        for number in 0..16 {
            let (from, to) = if number % 2 == 0 { (here, there) } else { (there, here) };
            let size = [18, 64, 200, 1200][number / 4];
            scope.spawn(move || flow::in_order(from, to, count, |_| size));
        }
    });
    books::check(&mut world);
}

/// The same traffic without any tunnel: what fails here is the tests' own fault, or the kernel's.
#[test]
fn plain_routes_deliver_the_same() {
    let Some(_turn) = gate::turn() else { return };
    let mut world = World::build(Lab::builder().underlay(Underlay::Nic));
    world.route_plainly().expect("plain routes");
    world.meet(0, 1);
    mixed(world.place(0), world.place(1), 1500);
}

fn run(mtu: u32, underlay: Underlay, cases: &[Case]) {
    let mut world = world(mtu, underlay);
    for case in cases {
        println!("MTU {mtu}, underlay {underlay}: {case:?}");
        start(&mut world, case);
        for (one, other) in [(0, 1), (1, 0)] {
            mixed(world.place(one), world.place(other), mtu as usize);
        }
        books::check(&mut world);
    }
}

/// Bulk TCP both ways at once (one with ECN), small and large UDP, odd sizes, fragments, IP options
/// and UDP without a checksum: all at the same time.
fn mixed(here: Place<'_>, there: Place<'_>, mtu: usize) {
    let full = mtu - 28 - 28;
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
}

/// Beside bulk traffic a queue may overflow, yet not for long.
#[track_caller]
fn some(sent: u64, arrived: u64) {
    assert!(arrived >= sent / 2, "of {sent} packets {arrived} arrived");
}

fn world(mtu: u32, underlay: Underlay) -> World {
    let world = World::build(Lab::builder().mtu(mtu).underlay(underlay));
    world.create_file_registry(lab::CONFIG).expect("the directory");
    world
}

/// Starts both daemons as `case` says, on the subnets they had.
fn start(world: &mut World, case: &Case) {
    for host in 0..2 {
        let flags =
            [format!("--offload={}", case.offload[host]), format!("--workers={}", case.workers)];
        world.start_daemon(host, DaemonOptions::with_flags(flags)).expect("a daemon");
        if world.host(host).containers().is_empty() {
            world.add_container(host).expect("a container");
            World::run(world.place(host).netns, "sysctl", &["-w", "net.ipv4.tcp_ecn=1"]);
        }
    }
    world.meet(0, 1);
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
