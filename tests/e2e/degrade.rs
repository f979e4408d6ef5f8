//! Kernel features that are missing or fail under traffic: the daemon continues without them, logs it
//! once, and loses no packets of other destinations.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use flannel_udp::lab::{self, DaemonOptions, Lab, UnderlayKind};
use serde_json::Value;

use crate::support::test_lab::{Endpoint, TestLab};
use crate::support::{accounting, bulk, exclusive, flow, net, preload, wait_for};

/// A fault of the kernel.
struct Fault {
    /// As `faults.c` spells it.
    faults: String,
    /// The features that the daemon disables.
    disables: &'static [&'static str],
    /// Part of the line in the log.
    logs: &'static str,
}

#[test]
fn a_feature_that_the_kernel_lacks_is_disabled() {
    let Some(_exclusive) = exclusive() else { return };
    let without = |name: &str, disables, logs| Fault { faults: name.into(), disables, logs };
    each_fault(&[
        without("no-vnet", &["vnet", "uso", "tcp-coalesce", "udp-coalesce"], "TUNSETIFF"),
        without("no-offload", &["uso", "udp-coalesce"], "TUNSETOFFLOAD"),
        without("no-uso", &["uso", "udp-coalesce"], "TUNSETOFFLOAD"),
        without("no-segment", &["gso"], "UDP_SEGMENT"),
        without("no-gro", &["gro"], "UDP_GRO"),
        without("no-mmsg", &["batch"], "sendmmsg"),
        // A kernel of the 3.x series.
        without(
            "no-vnet,no-segment,no-gro",
            &["vnet", "uso", "gso", "gro", "tcp-coalesce", "udp-coalesce"],
            "UDP_SEGMENT",
        ),
    ]);
}

#[test]
fn a_feature_that_fails_under_traffic_is_disabled() {
    let Some(_exclusive) = exclusive() else { return };
    let fault = |call: &str, error: i32, disables, logs| Fault {
        faults: format!("{call}={error}"),
        disables,
        logs,
    };
    each_fault(&[
        fault("gso-send", libc::EIO, &["gso"], "segments: Input/output error"),
        fault("gso-send", libc::EOPNOTSUPP, &["gso"], "segments: Operation not supported"),
        // Attributed to the path, not to the kernel.
        fault("gso-send", libc::EMSGSIZE, &[], "one by one"),
        fault("gso-send", libc::EINVAL, &[], "one by one"),
        fault("gso-write", libc::EINVAL, &["tcp-coalesce"], "tcp-coalesce"),
    ]);
}

/// Sends the same traffic under each fault: no byte is lost or changed, and the log has one line.
fn each_fault(faults: &[Fault]) {
    let mut lab = two_hosts(UnderlayKind::Nic);
    lab.start_daemon(1, DaemonOptions::default()).expect("a daemon");
    for Fault { faults, disables, logs } in faults {
        println!("{faults}");
        let before = lab.log(0).len();
        let options = preload::with_faults(lab.host(0).directory(), faults, &[]);
        lab.start_daemon(0, options).expect("a faulty daemon");
        for host in 0..2 {
            if lab.host(host).containers().is_empty() {
                lab.add_container(host).expect("a container");
            }
        }
        lab.meet(0, 1);
        traffic(lab.endpoint(0), lab.endpoint(1));
        accounting::check_balance(&mut lab);
        let log = lab.log(0)[before..].to_owned();
        let lines = log.lines().filter(|line| line.contains(logs)).count();
        assert_eq!(lines, 1, "{faults}: {logs:?} is logged once:\n{log}");
        for (name, on) in features(&mut lab, 0) {
            let expected = !disables.contains(&&*name);
            // Joining UDP is only tried, and given up, where UDP comes in runs.
            if faults.starts_with("gso-write") && name == "udp-coalesce" {
                continue;
            }
            assert_eq!(on, expected, "{faults}: {name}:\n{log}");
        }
    }
}

/// Bulk TCP in both directions and datagrams of odd sizes.
fn traffic(here: Endpoint<'_>, there: Endpoint<'_>) {
    thread::scope(|scope| {
        scope.spawn(move || bulk::transfer(here, there, 4 << 20, 1));
        scope.spawn(move || bulk::transfer(there, here, 4 << 20, 2));
    });
    flow::in_order(here, there, 1_000, |_| 18);
    flow::in_order(there, here, 300, |n| 8 + (n * 97 % 1_400) as usize);
    flow::echo(here, there, [0, 1, 1444, 5_000, 40_000]);
}

#[test]
fn a_path_that_takes_less_than_a_segment_gets_single_packets() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = two_hosts(UnderlayKind::Nic);
    for host in 0..2 {
        lab.start_daemon(host, DaemonOptions::default()).expect("a daemon");
        lab.add_container(host).expect("a container");
    }
    let route = format!("route add {} dev eth0 mtu 1300", lab.host(1).address());
    lab::tool::ip_in(lab.host(0).netns_name(), &route).expect("a narrow path");
    wait_for("the daemon to go by it", Duration::from_secs(5), || {
        lab.log(0).contains("path MTU discovery between hosts is on")
    });
    lab.meet(0, 1);
    traffic(lab.endpoint(0), lab.endpoint(1));
    accounting::check_balance(&mut lab);
    let log = lab.log(0);
    assert_eq!(log.matches("one by one").count(), 1, "logged once:\n{log}");
    let stats = stats(&mut lab, 0);
    assert!(stats["egress"]["gso_refused"].as_u64().expect("a count") > 0, "{stats:#}");
    assert!(features(&mut lab, 0).iter().all(|(_, on)| *on), "no feature is given up");
}

#[test]
fn an_interface_that_does_no_checksums_carries_everything() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = two_hosts(UnderlayKind::Nic);
    for host in 0..2 {
        TestLab::run(lab.host(host).netns(), "ethtool", &["-K", "eth0", "tx", "off"]);
        lab.start_daemon(host, DaemonOptions::default()).expect("a daemon");
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    traffic(lab.endpoint(0), lab.endpoint(1));
    accounting::check_balance(&mut lab);
    // Before Linux 6.11 the kernel refuses to cut here (EIO); later it does the checksums itself.
    let given_up = features(&mut lab, 0).iter().any(|(name, on)| name == "gso" && !on);
    assert_eq!(lab.log(0).matches("without a kernel feature").count(), usize::from(given_up));
}

#[test]
fn a_host_that_cannot_be_sent_to_costs_the_others_nothing() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(3).underlay(UnderlayKind::Nic));
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    for host in 0..3 {
        lab.start_daemon(host, DaemonOptions::default()).expect("a daemon");
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    lab.meet(0, 2);
    let node = lab.host(0).netns_name().to_owned();
    let bad = lab.host(2).address();
    let firewall = |verb| format!("iptables -w {verb} OUTPUT -d {bad} -j DROP");
    let route = |verb, kind| format!("ip route {verb} {kind} {bad}");
    for (damage, repair, reason) in [
        (firewall("-A"), firewall("-D"), "send-refused"),
        (route("add", "prohibit"), route("del", "prohibit"), "send-unreachable"),
        (route("add", "unreachable"), route("del", "unreachable"), "send-unreachable"),
        (route("add", "blackhole"), route("del", "blackhole"), "send-failed"),
    ] {
        println!("{damage}");
        run(&node, &damage);
        beside_a_bad_host(&mut lab, reason);
        run(&node, &repair);
        flow::in_order(lab.endpoint(0), lab.endpoint(2), 100, |_| 100);
    }
    // Within the first minute each reason is logged once.
    let log = lab.log(0);
    for reason in ["send-refused", "send-unreachable", "send-failed"] {
        let lines = log.lines().filter(|line| line.contains(&format!("reason=\"{reason}\"")));
        assert_eq!(lines.count(), 1, "{reason} is logged once:\n{log}");
    }
    for (error, reason) in [
        (libc::ENOBUFS, "send-no-buffers"),
        (libc::EMSGSIZE, "send-too-big"),
        (libc::EIO, "send-failed"),
    ] {
        println!("errno {error}");
        let faults = format!("to={bad}:{error}");
        let options = preload::with_faults(lab.host(0).directory(), &faults, &[]);
        lab.start_daemon(0, options).expect("a faulty daemon");
        lab.meet(0, 1);
        beside_a_bad_host(&mut lab, reason);
        // What failed for one host is no reason to give a feature up.
        assert!(features(&mut lab, 0).iter().all(|(_, on)| *on), "{error}");
    }
}

/// Floods the third host, to which sends fail, during a flow and a transfer to the second host: these lose
/// nothing, and the packets of the flood are counted under `reason`.
#[track_caller]
fn beside_a_bad_host(lab: &mut TestLab, reason: &str) {
    let dropped = |lab: &mut TestLab| accounting::balanced(lab, 0).egress.dropped(reason);
    let before = dropped(lab);
    let (here, good, bad) = (lab.endpoint(0), lab.endpoint(1), lab.endpoint(2));
    let flood = net::udp(here.netns, here.address);
    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let mut sent = 0u64;
            while !done.load(Ordering::Relaxed) {
                for size in [100, 100, 100, 1_400] {
                    flood.send_to(&vec![7; size], (bad.address, 9)).expect("sending");
                    sent += 1;
                }
                thread::sleep(Duration::from_micros(300));
            }
            sent
        });
        let transfer = scope.spawn(move || bulk::transfer(here, good, 4 << 20, 3));
        let flow =
            scope.spawn(move || flow::in_order(here, good, 1_500, |n| 50 + n as usize % 900));
        let ended = [transfer.join(), flow.join()];
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "the good host lost something");
        flooding.join().expect("the flood")
    });
    // Beside bulk traffic some of it may not get as far as the daemon.
    wait_for("most of the flood in the counter", Duration::from_secs(3), || {
        dropped(lab) - before >= sent / 2
    });
}

#[test]
fn a_link_that_goes_and_comes_back_is_counted_and_forgotten() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = two_hosts(UnderlayKind::Nic);
    for host in 0..2 {
        lab.start_daemon(host, DaemonOptions::default()).expect("a daemon");
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    let node = lab.host(0).netns_name().to_owned();
    lab::tool::ip_in(&node, "link set eth0 down").expect("down");
    let (here, there) = (lab.endpoint(0), lab.endpoint(1));
    let sender = net::udp(here.netns, here.address);
    for _ in 0..50 {
        sender.send_to(&[1; 100], (there.address, 9)).expect("sending");
    }
    wait_for("the packets in their counter", Duration::from_secs(3), || {
        accounting::balanced(&mut lab, 0).egress.dropped("send-unreachable") >= 50
    });
    lab::tool::ip_in(&node, "link set eth0 up").expect("up");
    lab.meet(0, 1);
    flow::in_order(lab.endpoint(0), lab.endpoint(1), 200, |_| 100);
}

fn two_hosts(underlay: UnderlayKind) -> TestLab {
    let lab = TestLab::build(Lab::builder().underlay(underlay));
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    lab
}

fn stats(lab: &mut TestLab, host: usize) -> Value {
    lab.host_mut(host).daemon_mut().expect("a daemon").stats().expect("its counters")
}

/// Each feature's name and whether it is in use.
fn features(lab: &mut TestLab, host: usize) -> Vec<(String, bool)> {
    let stats = stats(lab, host);
    let features = stats["features"].as_array().expect("features");
    let one = |feature: &Value| {
        let name = feature["name"].as_str().expect("a name").to_owned();
        let (on, why) = (feature["on"].as_bool().expect("on"), &feature["why"]);
        assert!(on == why.is_null(), "a disabled feature has a reason: {feature}");
        (name, on)
    };
    features.iter().map(one).collect()
}

#[track_caller]
fn run(netns: &str, line: &str) {
    let words = ["netns", "exec", netns].into_iter().chain(line.split_whitespace());
    lab::tool::run("ip", &words.collect::<Vec<_>>()).expect(line);
}
