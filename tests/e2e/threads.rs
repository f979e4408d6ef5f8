//! Ingress is handed off between the two threads of a worker; no packet is lost or reordered.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::test_lab::TestLab;
use crate::support::{accounting, bulk, exclusive, flow};

#[test]
fn alternating_light_and_bulk_traffic() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&[]);
    let start = Instant::now();
    for round in 0.. {
        let (here, there) = (lab.endpoint(0), lab.endpoint(1));
        let flows = [(here, there), (there, here)];
        let bulk = flows.map(|(from, to)| bulk::Endless::start(from, to, round));
        thread::sleep(Duration::from_millis(300));
        for bulk in bulk {
            bulk.finish();
        }
        thread::scope(|scope| {
            for (from, to) in flows {
                scope.spawn(move || flow::in_order(from, to, 300, |n| 8 + n as usize % 1_000));
            }
        });
        let handoffs = [0, 1].map(|host| handoffs(&mut lab, host));
        // Handed off and back twice, on both hosts.
        if handoffs.iter().all(|handoffs| *handoffs >= 4) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{handoffs:?} handoffs");
    }
    accounting::check_balance(&mut lab);
}

#[test]
fn packets_one_at_a_time_bring_both_directions_back_to_one_thread() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&["--spin=0"]);
    let start = Instant::now();
    for round in 0.. {
        let (here, there) = (lab.endpoint(0), lab.endpoint(1));
        let bulk =
            [(here, there), (there, here)].map(|(from, to)| bulk::Endless::start(from, to, round));
        thread::sleep(Duration::from_millis(300));
        for bulk in bulk {
            bulk.finish();
        }
        flow::echo(here, there, [8; 200]);
        let handoffs = [0, 1].map(|host| handoffs(&mut lab, host));
        assert!(
            handoffs.iter().all(|handoffs| handoffs % 2 == 0),
            "two threads after {handoffs:?} handoffs"
        );
        if handoffs.iter().all(|handoffs| *handoffs > 0) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{handoffs:?} handoffs");
    }
    accounting::check_balance(&mut lab);
}

#[test]
fn every_shape_carries_both_directions() {
    let Some(_exclusive) = exclusive() else { return };
    for threads in ["1", "2", "auto"] {
        let mut lab = TestLab::two_hosts(&[&format!("--worker-threads={threads}")]);
        let (here, there) = (lab.endpoint(0), lab.endpoint(1));
        thread::scope(|scope| {
            scope.spawn(|| bulk::transfer(here, there, 20 << 20, 1));
            scope.spawn(|| bulk::transfer(there, here, 20 << 20, 2));
        });
        flow::echo(here, there, [8, 100, 1_400]);
        let handoffs = handoffs(&mut lab, 0);
        assert!(threads == "auto" || handoffs == 0, "{threads}: {handoffs} handoffs");
        accounting::check_balance(&mut lab);
    }
}

fn handoffs(lab: &mut TestLab, host: usize) -> u64 {
    let daemon = lab.host_mut(host).daemon_mut().expect("a daemon");
    daemon.stats().expect("its counters")["handoffs"].as_u64().expect("a number")
}
