//! `ping`: peers that answer and paths that are damaged in one way at a time.

use std::process::{Command, Output, Stdio};

use flannel_udp::lab::{self, DaemonOptions, Lab};
use serde_json::Value;

use crate::doctor_lab::sh;
use crate::remedies;
use crate::support::exclusive;
use crate::support::test_lab::TestLab;

/// The host that pings. Leases are in a directory.
const HERE: usize = 0;
const PEER: usize = 1;

fn hosts(number: usize) -> TestLab {
    let mut lab = TestLab::build(Lab::builder().hosts(number));
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    lab.start_daemons(&DaemonOptions::with_flags::<&str>([])).expect("the daemons");
    for host in 0..number {
        lab.add_container(host).expect("a container");
    }
    lab.meet(HERE, PEER);
    lab
}

fn ping(lab: &TestLab, arguments: &[&str]) -> Output {
    let socket = lab.host(HERE).daemon().expect("a daemon").socket();
    let mut command = Command::new(env!("CARGO_BIN_EXE_flannel-udp"));
    command.arg("ping").args(arguments).arg("--socket").arg(socket).stdin(Stdio::null());
    let netns = lab.host(HERE).netns();
    netns.enter(|| command.output()).and_then(|output| output).expect("ping runs")
}

/// Pings, and returns the report, whose exit code must be this. The commands of a remedy must run.
#[track_caller]
fn report(lab: &TestLab, arguments: &[&str], code: i32) -> Value {
    let output = ping(lab, &[arguments, &["--json"]].concat());
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let commands = report["commands"].as_array().expect("commands");
    remedies::check(commands.iter().filter_map(|text| text.as_str().map(str::to_owned)));
    report
}

fn path<'a>(report: &'a Value, name: &str) -> &'a Value {
    let paths = report["paths"].as_array().expect("paths");
    paths.iter().find(|path| path["path"] == name).unwrap_or_else(|| panic!("{name}: {report:#}"))
}

#[track_caller]
fn has_cause(report: &Value, words: &str) {
    let cause = report["cause"].as_str().unwrap_or_default();
    assert!(cause.contains(words), "{words}: {report:#}");
}

#[test]
fn a_peer_is_reached_by_each_of_its_names() {
    let Some(_exclusive) = exclusive() else { return };
    let lab = hosts(2);
    let host = lab.host(PEER).address().to_string();
    let subnet = lab.subnet(PEER);
    let container = lab.host(PEER).container().address().to_string();
    for target in [&host, &subnet.to_string(), &subnet.network().to_string()] {
        let report = report(&lab, &[target, "-c", "3", "-i", "0.05"], 0);
        assert_eq!(report["peer"]["public_ip"], host, "{report:#}");
        assert_eq!(report["cause"], Value::Null, "{report:#}");
        for (name, address, mtu) in
            [("overlay", subnet.network().to_string(), 1472), ("underlay", host.clone(), 1500)]
        {
            let path = path(&report, name);
            assert_eq!((&path["sent"], &path["answered"]), (&3.into(), &3.into()), "{report:#}");
            assert_eq!(path["address"], address);
            let times = ["min", "avg", "max"].map(|key| path["round_trip_ms"][key].as_f64());
            assert!(Some(0.0) < times[0] && times[0] <= times[1] && times[1] <= times[2]);
            for direction in ["there", "back"] {
                assert_eq!(path["mtu"][direction]["bytes"], mtu, "{report:#}");
            }
        }
    }
    let report = report(&lab, &[&container, "-c", "2", "-i", "0.05"], 0);
    assert_eq!(path(&report, "container")["answered"], 2, "{report:#}");
    let output = ping(&lab, &[&host, "-c", "2", "-i", "0.05"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for words in [
        "PING ",
        "seq 1 ",
        "2 sent, 2 answered, 0 % lost, round trip min/avg/max ",
        "overlay   path MTU: 1472 bytes in both directions",
        "underlay  path MTU: 1500 bytes in both directions",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }

    // What cannot be tried is 2, as for ping(8).
    let own = lab.host(HERE).address().to_string();
    for (target, words) in [
        (own.as_str(), "is on this host"),
        ("10.0.250.9", "no host holds a lease"),
        ("192.0.2.1", "neither a host of the overlay"),
        ("no-such-host.invalid", "no-such-host.invalid"),
    ] {
        let output = ping(&lab, &[target]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{target}: {said}");
        assert!(said.contains(words), "{target}: {said}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_flannel-udp"))
        .args(["ping", &host, "--socket", "/nowhere.sock"])
        .output()
        .expect("ping runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no daemon answers"), "{output:?}");
}

#[test]
fn the_cause_of_silence_is_named() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = hosts(2);
    let host = lab.host(PEER).address().to_string();
    let quick = [host.as_str(), "-c", "3", "-i", "0.05", "-W", "0.5"];
    for (at, harm, code, words, mend) in [
        (
            PEER,
            "iptables -I INPUT -p udp --dport 8285 -j DROP",
            1,
            "answers pings, but nothing comes back through the overlay: UDP 8285 is dropped",
            "iptables -D INPUT 1",
        ),
        (
            PEER,
            "iptables -I INPUT -p udp --dport 8285 -j REJECT --reject-with icmp-admin-prohibited",
            1,
            "rejects UDP 8285",
            "iptables -D INPUT 1",
        ),
        (
            HERE,
            "iptables -I OUTPUT -p udp --dport 8285 -j DROP",
            1,
            "firewall",
            "iptables -D OUTPUT 1",
        ),
        (
            PEER,
            "iptables -I INPUT -i eth0 -p icmp -j DROP",
            0,
            "ICMP is filtered",
            "iptables -D INPUT 1",
        ),
        (PEER, "ip link set eth0 down", 1, "does not answer at all", "ip link set eth0 up"),
        (
            PEER,
            "iptables -I INPUT -i eth0 -j DROP",
            1,
            "or a firewall drops both ICMP and UDP 8285",
            "iptables -D INPUT 1",
        ),
    ] {
        sh(&lab, at, harm);
        let report = report(&lab, &quick, code);
        has_cause(&report, words);
        sh(&lab, at, mend);
    }
    // Half of the datagrams are lost, and none of the pings beside them.
    sh(
        &lab,
        PEER,
        "nft 'add table ip l; add chain ip l i { type filter hook input priority 0; }; \
         add rule ip l i udp dport 8285 numgen inc mod 2 0 drop'",
    );
    let report_of_loss = report(&lab, &[&host, "-c", "20", "-i", "0.02", "-W", "0.5"], 0);
    let loss = path(&report_of_loss, "overlay")["loss"].as_f64().expect("a share");
    assert!((0.3..=0.7).contains(&loss), "{report_of_loss:#}");
    assert_eq!(path(&report_of_loss, "underlay")["loss"], 0.0);
    sh(&lab, PEER, "nft delete table ip l");

    let container = lab.host(PEER).container().address();
    let nobody = std::net::Ipv4Addr::from_bits(container.to_bits() + 100).to_string();
    let silent = report(&lab, &[&nobody, "-c", "1", "-W", "0.5"], 1);
    has_cause(&silent, "no container has the address");
    assert_eq!(path(&silent, "overlay")["answered"], 1, "{silent:#}");

    lab.stop_daemon(PEER).expect("a stop");
    has_cause(&report(&lab, &quick, 1), "no process listens on UDP 8285");
}

#[test]
fn the_path_mtu_is_told_for_each_direction() {
    let Some(_exclusive) = exclusive() else { return };
    // Three hosts have a switch between them.
    let lab = hosts(3);
    let host = lab.host(PEER).address().to_string();
    let quick = [host.as_str(), "-c", "2", "-i", "0.05", "-W", "0.3"];
    let switch = format!("{}switch", lab.prefix());
    let limits = |report: &Value, name: &str| {
        let mtu = &path(report, name)["mtu"];
        ["there", "back"].map(|way| {
            let limit = &mtu[way];
            (limit["bytes"].as_u64().expect("a length"), limit["at_least"] == true)
        })
    };
    let narrow =
        "iptables -I INPUT -i eth0 -p udp --dport 8285 -m length --length 1401:65535 -j DROP";
    // Narrow on the way there; narrow on the way back, which this side cannot tell from a link that is narrow in
    // both directions.
    for (at, there, back) in
        [(PEER, (1372, false), (1472, true)), (HERE, (1372, true), (1372, true))]
    {
        sh(&lab, at, narrow);
        let report = report(&lab, &quick, 0);
        assert_eq!(limits(&report, "overlay"), [there, back], "{at}: {report:#}");
        has_cause(&report, "packets of more than 1372 bytes are lost");
        assert_eq!(limits(&report, "underlay"), [(1500, true), (1500, true)], "{report:#}");
        sh(&lab, at, "iptables -D INPUT 1");
    }
    // A port of the switch with a small MTU drops longer frames in both directions without a word, but for the four
    // bytes of a VLAN tag (`is_skb_forwardable` in `net/core/dev.c`).
    lab::tool::ip_in(&switch, "link set port1 mtu 1400").expect("a narrow port");
    let link = report(&lab, &quick, 0);
    let [there, back] = limits(&link, "overlay");
    assert!((1372..=1376).contains(&there.0) && there == back, "{link:#}");
    has_cause(&link, "nothing reports this to the sender");
    lab::tool::ip_in(&switch, "link set port1 mtu 1500").expect("a wide port");
    // The peer's own route is narrow: its replies on the underlay come in fragments.
    let here = lab.host(HERE).address();
    sh(&lab, PEER, &format!("ip route add {here}/32 dev eth0 mtu lock 1400"));
    let report = report(&lab, &quick, 0);
    assert_eq!(path(&report, "underlay")["mtu"]["replies_in_fragments"], true, "{report:#}");
    assert_eq!(limits(&report, "underlay"), [(1500, true), (1396, false)], "{report:#}");
}
