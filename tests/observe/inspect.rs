//! The commands that ask a running daemon: what they say is what is so.

use std::os::unix::fs::FileTypeExt;
use std::process::{Command, Output};
use std::time::Duration;

use flannel_udp::lab::{self, DaemonOptions, Lab};
use serde_json::Value;

use crate::support::test_lab::{TestLab, etcd};
use crate::support::{exclusive, flow, wait_for};

/// Runs a command of the program against the daemon of `host`.
fn ask(lab: &TestLab, host: usize, args: &[&str]) -> Output {
    let socket = lab.host(host).directory().join("flannel-udp.sock");
    Command::new(env!("CARGO_BIN_EXE_flannel-udp"))
        .args(args)
        .env("FLANNELD_SOCKET", socket)
        .output()
        .expect("the program")
}

/// What a command says when all is well.
#[track_caller]
pub fn told(lab: &TestLab, host: usize, args: &[&str]) -> String {
    let output = ask(lab, host, args);
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{args:?}: {}: {err}", output.status);
    out
}

/// What it says as JSON.
#[track_caller]
pub fn json(lab: &TestLab, host: usize, args: &[&str]) -> Value {
    let text = told(lab, host, &[args, &["--json"]].concat());
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["version"], 1, "{text}");
    value
}

#[track_caller]
fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn status_from_the_first_moment_to_the_last() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(2));
    lab.start_etcd(1, "not a config").expect("etcd");
    let mut options = etcd(&["--ip-masq=true"]);
    lab.spawn_daemon(0, options.clone()).expect("a daemon");
    // It answers before there is anything to tell.
    let socket = lab.host(0).daemon().expect("a daemon").socket().to_owned();
    wait_for("a status socket", Duration::from_secs(10), || socket.exists());
    let early = told(&lab, 0, &["status", "--interval=0"]);
    contains(&early, &["! not ready: "]);
    wait_for("what is missing", Duration::from_secs(10), || {
        told(&lab, 0, &["status", "--interval=0"])
            .contains("! not ready: waiting for the network config")
    });
    let refused = ask(&lab, 0, &["explain", "10.0.1.2", "10.0.2.2"]);
    assert_eq!(refused.status.code(), Some(65), "{refused:?}");

    lab.put(&format!("{}/config", lab::ETCD_PREFIX), lab::CONFIG).expect("a config");
    lab.wait_for_daemon(0).expect("a daemon");
    lab.add_container(0).expect("a container");
    lab.join(1, &[]);
    lab.meet(0, 1);
    flow::in_order(lab.endpoint(0), lab.endpoint(1), 300, |_| 1000);
    let status = json(&lab, 0, &["status", "--interval=300"]);
    let (now, rates) = (&status["status"], &status["rates"]);
    assert_eq!(status["warnings"], serde_json::json!([]), "{status:#}");
    assert_eq!(now["lease"]["subnet"], lab.subnet(0).to_string());
    assert_eq!(now["process"]["pid"], lab.host(0).daemon().unwrap().pid());
    assert_eq!(now["routes"]["count"], 1);
    assert_eq!(now["registry"]["connected"], true);
    assert!(now["registry"]["revision"].as_i64() > Some(1), "{}", now["registry"]);
    assert!(now["registry"]["last_contact_ago"].as_f64() < Some(5.0), "{}", now["registry"]);
    let left = now["lease"]["expires"].as_f64().unwrap() - now["taken"].as_f64().unwrap();
    assert!((86_000.0..=86_400.0).contains(&left), "a day: {left}");
    assert!(now["stats"]["egress"]["carried_packets"].as_u64() >= Some(300));
    assert!(rates["seconds"].as_f64() > Some(0.25) && rates["out"]["packets"].is_number());
    let mut looked = 0.0;
    for thread in now["threads"].as_array().expect("threads") {
        let (busy, life) = (thread["busy"].as_f64().unwrap(), thread["lifetime"].as_f64().unwrap());
        assert!(0.0 < busy && busy < life, "{thread}");
        let spinning = thread["spinning"].as_f64().expect("a time");
        assert!((0.0..busy).contains(&spinning), "{thread}");
        looked += spinning;
    }
    assert!(looked > 0.0, "by default a thread looks before it sleeps: {now}");
    let screen = told(&lab, 0, &["status", "--interval=100"]);
    let subnet = lab.subnet(0).to_string();
    contains(
        &screen,
        &[
            "ready, nothing wrong",
            &subnet,
            "flannel0",
            "masquerade on",
            "connected",
            "% busy,",
            "% polling",
        ],
    );

    // The peer that was sent to and has answered; the route to it.
    let peers = json(&lab, 0, &["peers", "--interval=100"]);
    let peer = &peers["peers"][0];
    assert_eq!(peer["subnet"], lab.subnet(1).to_string());
    assert_eq!((&peer["state"], &peer["public_ip"]), (&"talking".into(), &address(&lab, 1)));
    assert!(peer["traffic"]["sent_packets"].as_u64() >= Some(300), "{peer}");
    contains(&told(&lab, 0, &["peers", "--interval=100"]), &["talking", "LAST IN"]);
    let routes = json(&lab, 0, &["routes"]);
    let hop = format!("{}:8285", lab.host(1).address());
    assert_eq!(routes["routes"][0]["next_hop"], hop.as_str(), "{routes}");
    contains(&told(&lab, 0, &["routes"]), &[&hop, "here (flannel0)", "1 route"]);

    // A level for our own lines, a filter, what it was before.
    let changed = told(&lab, 0, &["log-level", "debug"]);
    contains(&changed, &["log level warn,flannel_udp=debug, was"]);
    assert_eq!(
        json(&lab, 0, &["log-level", "info,flannel_udp=trace"])["before"],
        "warn,flannel_udp=debug"
    );
    for word in ["nonsense=,=", "verbose"] {
        assert_eq!(ask(&lab, 0, &["log-level", word]).status.code(), Some(64));
    }
    contains(
        &told(&lab, 0, &["log-level"]),
        &["log level warn,flannel_udp=info,flannel_udp=trace\n"],
    );
    contains(&lab.log(0), &["log level changed"]);

    // etcd goes away: told with the reason, and the routes stay.
    lab.etcd().expect("etcd").stop().expect("no etcd");
    wait_for("a warning", Duration::from_secs(10), || {
        told(&lab, 0, &["status", "--interval=0"]).contains("! the lease store cannot be read")
    });
    assert_eq!(json(&lab, 0, &["routes"])["count"], 1);

    // A killed daemon leaves its socket; the next one takes its place.
    let killed = lab.host_mut(0).daemon_mut().expect("a daemon").process().kill();
    killed.expect("its end");
    assert!(socket.metadata().is_ok_and(|m| m.file_type().is_socket()));
    let output = ask(&lab, 0, &["status"]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    contains(&String::from_utf8_lossy(&output.stderr), &["no daemon answers at", "start it"]);
    options.lease_store = lab::StoreKind::Directory;
    lab.create_store_directory(lab::CONFIG).expect("a directory");
    lab.start_daemon(0, options).expect("a daemon");
    contains(&told(&lab, 0, &["status", "--interval=0"]), &["registry   directory"]);
    lab.stop_daemon(0).expect("its end");
    assert!(!socket.exists(), "the socket outlives the daemon");
}

fn address(lab: &TestLab, host: usize) -> Value {
    lab.host(host).address().to_string().into()
}

#[test]
fn explain_agrees_with_what_happens() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(2));
    lab.create_store_directory(lab::CONFIG).expect("a directory");
    let flags = ["--ip-masq=true", "--source-check=enforce"];
    lab.start_daemons(&DaemonOptions::with_flags(flags)).expect("the daemons");
    for host in 0..2 {
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    let (here, there) = (lab.endpoint(0).address.to_string(), lab.endpoint(1).address.to_string());
    let hosts = [0, 1].map(|host| lab.host(host).address().to_string());
    let explain = |args: &[&str]| json(&lab, 0, &[&["explain"], args].concat());
    let ping = |args: &[&str]| {
        let flags = ["-n", "-c", "1", "-W", "2"];
        TestLab::run(lab.endpoint(0).netns, "ping", &[&flags, args].concat())
    };

    // To the peer and back: the time to live that arrives is the one that was told.
    let way = explain(&[&here, &there]);
    assert_eq!(way["sent"]["outcome"], "carried", "{way:#}");
    assert_eq!(way["sent"]["peer"], format!("{}:8285", hosts[1]));
    assert_eq!(way["sent"]["lease"], lab.subnet(1).to_string());
    assert_eq!(way["sent"]["interface"], "flannel0");
    assert_eq!(way["sent"]["masquerade"]["source"], Value::Null);
    assert_eq!(way["sent"]["mtu"], lab.mtu() - 28);
    let back = explain(&[&there, &here]);
    assert_eq!(back["received"]["outcome"], "carried", "{back:#}");
    assert_eq!(back["received"]["peer"], hosts[1].as_str());
    let hops = back["received"]["ttl"].as_array().expect("hops");
    let ttl = hops.last().expect("a hop")["ttl"].to_string();
    contains(&ping(&[&there]), &[&format!("ttl={ttl} ")]);

    // Nobody's subnet, and a time to live that ends: the ICMP errors come as told.
    let way = explain(&[&here, "10.0.99.1"]);
    assert_eq!(
        (&way["sent"]["outcome"], &way["sent"]["reason"]),
        (&"dropped".into(), &"no-route".into())
    );
    same("net unreachable, from 10.0.0.0", &way["sent"]["icmp"]);
    contains(&ping(&["10.0.99.1"]), &["From 10.0.0.0", "Net Unreachable"]);
    let way = explain(&[&here, &there, "--ttl=2"]);
    same("ttl-expired", &way["sent"]["reason"]);
    same("time exceeded, from 10.0.0.0", &way["sent"]["icmp"]);
    contains(&ping(&["-t", "2", &there]), &["From 10.0.0.0", "Time to live exceeded"]);

    // A source that is not the sender's, in a mode that enforces it.
    let forged = explain(&[&there, &here, "--from", &hosts[0]]);
    same("source-mismatch", &forged["received"]["reason"]);
    contains(forged["received"]["source_check"].as_str().unwrap(), &["fails, dropped", &hosts[1]]);
    let foreign = explain(&["192.0.2.1", &here]);
    same("dropped", &foreign["received"]["outcome"]);

    // What is not the daemon's business, and the rule that a packet meets in the kernel.
    let out = explain(&[&here, "192.0.2.1", "tcp", "443"]);
    same("not-here", &out["sent"]["outcome"]);
    contains(out["sent"]["verdict"].as_str().unwrap(), &["the kernel has no route"]);
    contains(
        out["sent"]["masquerade"]["rule"].as_str().unwrap(),
        &["! -d 224.0.0.0/4", "MASQUERADE"],
    );
    let own = explain(&[&there, &here, "udp", "5000", "53"]);
    contains(own["sent"]["verdict"].as_str().unwrap(), &["own subnet"]);
    let masked = explain(&[&hosts[0], &there]);
    contains(
        masked["sent"]["masquerade"]["source"].as_str().unwrap(),
        &["the address of flannel0"],
    );
    contains(masked["sent"]["source_check"].as_str().unwrap(), &["passes at the peer"]);

    let words = told(&lab, 0, &["explain", &here, &there, "tcp", "80"]);
    contains(&words, &["sent from or through this host: yes", "next hop", "TTL", "-> "]);
    let wrong = ask(&lab, 0, &["explain", &here, &there, "icmp", "80"]);
    assert_eq!(wrong.status.code(), Some(64), "{wrong:?}");
}

#[track_caller]
fn same(expected: &str, told: &Value) {
    assert_eq!(told, expected);
}

#[test]
fn a_second_daemon_leaves_the_first_its_socket() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(2));
    lab.create_store_directory(lab::CONFIG).expect("a directory");
    lab.start_daemon(0, DaemonOptions::default()).expect("a daemon");
    let socket = lab.host(0).daemon().expect("a daemon").socket().display().to_string();
    let flags = DaemonOptions::with_flags([format!("--socket={socket}")]);
    lab.spawn_daemon(1, flags).expect("a daemon");
    wait_for("its end", Duration::from_secs(5), || ended(&mut lab, 1).is_some());
    assert_eq!(ended(&mut lab, 1), Some(Some(69)));
    contains(&lab.log(1), &["another daemon answers", "--socket=PATH"]);
    contains(&told(&lab, 0, &["status", "--interval=0"]), &["on "]);
    // Without a socket it runs as well.
    lab.start_daemon(1, DaemonOptions::with_flags(["--socket="])).expect("a daemon");
    assert_eq!(ask(&lab, 1, &["status"]).status.code(), Some(69));
}

fn ended(lab: &mut TestLab, host: usize) -> Option<Option<i32>> {
    let daemon = lab.host_mut(host).daemon_mut().expect("a daemon");
    daemon.process().ended().map(|status| status.code())
}
