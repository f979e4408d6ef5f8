//! The steady state: workers under traffic do not allocate, do not lock, and make only the system calls
//! that move packets and wait for them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use flannel_udp::lab::{self, DaemonOptions, Lab, UnderlayKind};
use flannel_udp::sys::process::{Signal, signal};

use crate::support::test_lab::TestLab;
use crate::support::{accounting, bulk, exclusive, flow, preload};

#[test]
fn workers_allocate_nothing() {
    let Some(_exclusive) = exclusive() else { return };
    for flags in [&["--offload=auto"][..], &["--offload=off"], &["--workers=2"]] {
        let mut lab = two_hosts();
        let counts = [0, 1].map(|host| {
            let (options, counts) =
                preload::with_allocation_counts(lab.host(host).directory(), flags);
            lab.start_daemon(host, options).expect("a daemon");
            lab.add_container(host).expect("a container");
            counts
        });
        lab.meet(0, 1);
        traffic(&lab, Duration::from_millis(300));
        let before = counts.each_ref().map(preload::Counts::now);
        traffic(&lab, Duration::from_secs(1));
        // The control thread allocates when it writes the counters.
        accounting::check_balance(&mut lab);
        let after = counts.each_ref().map(preload::Counts::now);
        for (before, after) in before.into_iter().zip(after) {
            println!("{flags:?}: {before:?}, then {after:?}");
            assert!(before.by_workers > 0, "allocations at the start of a worker are counted");
            assert!(
                after.by_others > before.by_others,
                "allocations of the control thread are counted"
            );
            assert_eq!(after.by_workers, before.by_workers, "{flags:?}: a worker allocated");
            assert_eq!(
                after.freed_by_workers, before.freed_by_workers,
                "{flags:?}: a worker freed memory"
            );
        }
    }
}

#[test]
fn workers_make_only_the_calls_that_move_packets() {
    let Some(_exclusive) = exclusive() else { return };
    // A wake-up between the two threads of a worker is a `write` and a `read` of an eventfd.
    let waiting = ["poll", "ppoll", "sched_yield", "write"];
    for (flags, moving) in [
        (&["--offload=auto"][..], ["read", "writev", "sendmmsg", "recvmmsg"]),
        (&["--offload=off"], ["read", "writev", "sendmsg", "recvmsg"]),
        (&["--workers=2"], ["read", "writev", "sendmmsg", "recvmmsg"]),
    ] {
        let calls = counts(&traced(flags, &["-c"], |lab| traffic(lab, Duration::from_millis(300))));
        println!("{flags:?}: {calls:?}");
        for call in moving {
            assert!(calls.get(call).is_some_and(|n| *n > 50), "{flags:?}: few {call}: {calls:?}");
        }
        let wakeups = calls.get("write").copied().unwrap_or_default();
        let moves: u64 = moving.iter().filter_map(|call| calls.get(*call)).sum();
        assert!(wakeups * 20 < moves, "{flags:?}: too many wake-ups: {calls:?}");
        let known = |call: &&String| !moving.contains(&&***call) && !waiting.contains(&&***call);
        let others: Vec<_> = calls.keys().filter(known).collect();
        assert!(others.is_empty(), "{flags:?}: {others:?} beside {calls:?}");
    }
}

#[test]
fn single_packets_are_received_with_a_batch_of_one() {
    let Some(_exclusive) = exclusive() else { return };
    // Without polling every packet wakes a thread.
    let lines = traced(&["--spin=0"], &["-e", "raw=recvmmsg"], echo);
    // recvmmsg(0xf, 0x55d0c9f0, 0x1, 0x40, 0) = 0x1
    let asked = |line: &str| {
        let (arguments, result) = line.split_once("recvmmsg(")?.1.split_once(')')?;
        (result.trim() == "= 0x1").then(|| arguments.split(", ").nth(2) == Some("0x1"))
    };
    let asked: Vec<bool> = lines.lines().filter_map(asked).collect();
    let single = asked.iter().filter(|single| **single).count();
    println!("{single} of {} messages were received with a batch of one", asked.len());
    assert!(asked.len() > 20, "few round trips: {lines}");
    assert!(single * 10 > asked.len() * 9, "{single} of {}", asked.len());
}

#[test]
fn a_packet_that_wakes_a_thread_takes_two_calls() {
    let Some(_exclusive) = exclusive() else { return };
    for flags in [&["--spin=0"][..], &["--offload=off"]] {
        // A machine that was busy with something else lets packets arrive together, and then the
        // worker rightly looks for more. Looking after every packet makes two receive calls for each.
        let is_frugal = (0..3).any(|_| {
            let calls = counts(&traced(flags, &["-c"], echo));
            let sum =
                |names: &[&str]| names.iter().filter_map(|name| calls.get(*name)).sum::<u64>();
            let (asked, carried) =
                (sum(&["read", "recvmsg", "recvmmsg"]), sum(&["writev", "sendmsg", "sendmmsg"]));
            println!("{flags:?}: {asked} receive calls for {carried} packets: {calls:?}");
            assert!(carried > 40, "few round trips");
            asked * 4 < carried * 5
        });
        assert!(is_frugal, "{flags:?}: too many receive calls, three times");
    }
}

/// What strace prints about the workers of the first of two hosts, whose daemons have `flags`, while
/// `traffic` is repeated. The counters must balance afterwards.
fn traced(flags: &[&str], options: &[&str], traffic: impl Fn(&TestLab)) -> String {
    assert!(lab::tool::exists("strace"), "strace is missing (scripts/setup.sh)");
    let mut lab = two_hosts();
    for host in 0..2 {
        lab.start_daemon(host, DaemonOptions::with_flags(flags)).expect("a daemon");
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    let pid = lab.host(0).daemon().expect("a daemon").pid();
    let file = lab.host(0).directory().join("strace");
    let output = thread::scope(|scope| {
        let tracing = scope.spawn(|| strace(pid, options, &file));
        while !tracing.is_finished() {
            traffic(&lab);
        }
        tracing.join().expect("strace")
    });
    accounting::check_balance(&mut lab);
    output
}

/// Round trips, one after the other.
fn echo(lab: &TestLab) {
    flow::echo_within(5, lab.endpoint(0), lab.endpoint(1), [18; 50]);
}

/// Bulk TCP, datagrams and round trips in both directions, for `length`.
fn traffic(lab: &TestLab, length: Duration) {
    let (here, there) = (lab.endpoint(0), lab.endpoint(1));
    let bulks = [bulk::Endless::start(here, there, 1), bulk::Endless::start(there, here, 2)];
    let flows = [flow::Background::start(here, there), flow::Background::start(there, here)];
    flow::echo_within(5, here, there, [0, 18, 1444, 5_000]);
    thread::sleep(length);
    for bulk in bulks {
        bulk.finish();
    }
    for flow in flows {
        // Beside bulk traffic a queue may overflow; the matrix checks where packets are dropped.
        flow.end();
    }
}

/// The output of strace for the workers of `pid` during [`TRACED`].
fn strace(pid: u32, options: &[&str], file: &Path) -> String {
    let mut strace = Command::new("strace");
    strace.args(options).arg("-o").arg(file).stderr(Stdio::piped());
    for worker in workers(pid) {
        strace.args(["-p", &worker]);
    }
    let running = strace.spawn().expect("strace");
    thread::sleep(TRACED);
    signal(&running, Signal::Interrupt).expect("an end");
    let errors = running.wait_with_output().expect("its end").stderr;
    let output = fs::read_to_string(file).unwrap_or_default();
    assert!(!output.is_empty(), "{}", String::from_utf8_lossy(&errors));
    output
}

/// The number of calls of each system call, from the table of `strace -c`.
fn counts(table: &str) -> BTreeMap<String, u64> {
    // % time, seconds, usecs/call, calls, errors (or nothing), name.
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let calls = words.get(3)?.parse().ok()?;
        let name = words.last().filter(|name| **name != "total")?;
        Some(((*name).to_owned(), calls))
    };
    table.lines().filter_map(row).collect()
}

/// The thread ids of the packet workers.
fn workers(pid: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").flatten();
    let is_worker =
        |name: &str| ["egress-", "ingress-", "worker-"].iter().any(|kind| name.starts_with(kind));
    let found: Vec<String> = threads
        .filter(|task| is_worker(&fs::read_to_string(task.path().join("comm")).unwrap_or_default()))
        .filter_map(|task| task.file_name().into_string().ok())
        .collect();
    assert!(!found.is_empty(), "no workers");
    found
}

fn two_hosts() -> TestLab {
    let lab = TestLab::build(Lab::builder().underlay(UnderlayKind::Nic));
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    lab
}

/// Duration of a trace.
const TRACED: Duration = Duration::from_millis(1500);
