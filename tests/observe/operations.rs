//! The tables of `docs/operations.md`, row by row: the host is broken in that way, the command is run,
//! and what the row quotes is in its output. The rows of `doctor` are held by `doctor.rs`,
//! `reach.rs` and `tests/subnet/doctor.rs`, those about the network between hosts by `overlap.rs`.

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flannel_udp::lab::{self, DaemonOptions, Lab, StoreKind, ping};
use flannel_udp::sys::process::Signal;

use crate::doctor_lab::{HERE, PEER, examine, ip};
use crate::refusing_store::refused_by_the_store;
use crate::support::peer::PlainPeer;
use crate::support::raw::{EXPERIMENT, Ip, UDP};
use crate::support::test_lab::{TestLab, etcd, lease_key, lease_value};
use crate::support::{exclusive, net, preload, wait_for};
use crate::upkeep::{contested, promised};

const PAGE: &str = include_str!("../../docs/operations.md");

/// The command and the quoted meaning of every row of the tables of symptoms.
fn rows() -> Vec<(String, String)> {
    let tables =
        PAGE.split("| symptom | command | meaning | remedy |\n|---|---|---|---|\n").skip(1);
    let lines = tables.flat_map(|table| table.lines().take_while(|line| line.starts_with('|')));
    let rows = lines.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let [_, command, meaning, _] = cells[..] else { panic!("not four cells: {line}") };
        let quoted = |cell: &str| cell.split('`').nth(1).map(str::to_owned);
        quoted(command).zip(quoted(meaning)).unwrap_or_else(|| panic!("nothing quoted: {line}"))
    });
    rows.collect()
}

/// Holds that the page has this row and that it is true.
#[track_caller]
pub fn row(command: &str, meaning: &str, output: &str) {
    let listed = rows().iter().any(|(c, m)| c == command && m == meaning);
    assert!(listed, "docs/operations.md has no row of `{command}` that says `{meaning}`");
    assert!(output.contains(meaning), "{command}: no `{meaning}` in\n{output}");
}

#[test]
fn every_row_is_broken_in_a_test() {
    let here = [
        include_str!("overlap.rs"),
        include_str!("doctor.rs"),
        include_str!("endpoints.rs"),
        include_str!("firewalls.rs"),
        include_str!("operations.rs"),
        include_str!("checks.rs"),
        include_str!("path_mtu.rs"),
        include_str!("local_store.rs"),
        include_str!("reach.rs"),
        include_str!("refusing_store.rs"),
        include_str!("upkeep.rs"),
        include_str!("../subnet/doctor.rs"),
        include_str!("routing.rs"),
    ];
    let rows = rows();
    assert!(rows.len() > 40, "{}", rows.len());
    for (command, meaning) in rows {
        let quoted = format!("\"{meaning}\"");
        assert!(here.iter().any(|s| s.contains(&quoted)), "no test for `{command}`: {quoted}");
    }
}

/// Hosts with daemons, and one without, where a daemon does not start.
#[test]
fn daemons_that_do_not_start_or_lose_what_they_had() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(3));
    lab.start_etcd(1, lab::CONFIG).expect("etcd");
    lab.start_daemon(HERE, etcd(&[])).expect("a daemon");
    refused(&mut lab);
    silent_name_server(&lab);
    refused_by_the_store(&mut lab);
    contested(&mut lab);
    waiting(&mut lab);
    lease_lost(&mut lab);
}

/// Runs a daemon that ends by itself; returns its exit code and all it said.
pub fn start(
    lab: &mut TestLab,
    host: usize,
    through: &[&str],
    flags: &[&str],
) -> (Option<i32>, String) {
    let endpoints = format!("--etcd-endpoints={}", lab.etcd().expect("etcd").endpoints().join(","));
    let own = [
        format!("--iface={}", lab.host(host).address()),
        format!("--subnet-file={}/second.env", lab.host(host).directory().display()),
        endpoints,
    ];
    let words: Vec<&str> =
        through.iter().copied().chain([env!("CARGO_BIN_EXE_flannel-udp")]).collect();
    let mut command = Command::new("timeout");
    command.arg("10").args(words).args(own).args(flags).stdin(Stdio::null());
    command.env("FLANNELD_SOCKET", lab.host(host).directory().join("second.sock"));
    let netns = lab.host(host).netns();
    let output = netns.enter(|| command.output()).and_then(|output| output).expect("a daemon");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn refused(lab: &mut TestLab) {
    let (code, said) = start(lab, PEER, &[], &["--ifcae=eth0"]);
    assert_eq!(code, Some(64), "{said}");
    row("journalctl -u flannel-udp", "unexpected argument '--ifcae'", &said);

    let (code, said) = start(lab, PEER, &[], &["--outer-tos=46"]);
    assert_eq!(code, Some(64), "{said}");
    row("journalctl -u flannel-udp", "are ECN and must be zero", &said);

    let empty = lab.host(PEER).directory().join("empty.pem");
    std::fs::write(&empty, "").expect("a file");
    let flag = format!("--etcd-cafile={}", empty.display());
    let (code, said) = start(lab, PEER, &[], &[&flag]);
    assert_eq!(code, Some(78), "{said}");
    row("journalctl -u flannel-udp", "the file is empty", &said);

    let (code, said) = start(lab, HERE, &[], &["--tun-name=flannel7"]);
    assert_eq!(code, Some(71), "{said}");
    row("journalctl -u flannel-udp", "cannot listen on UDP", &said);

    let without = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
    let (code, said) = start(lab, PEER, &without, &["--iptables-forward-rules=false"]);
    assert_eq!(code, Some(77), "{said}");
    row("journalctl -u flannel-udp", "CAP_NET_ADMIN is needed", &said);

    let hidden = [
        "unshare",
        "-m",
        "sh",
        "-c",
        "mount -t tmpfs none /dev/net && exec setpriv --bounding-set -mknod \"$0\" \"$@\"",
    ];
    let (code, said) = start(lab, PEER, &hidden, &[]);
    assert_eq!(code, Some(72), "{said}");
    row("journalctl -u flannel-udp", "the device node is missing and cannot be created", &said);

    let (code, said) = start(lab, PEER, &[], &["--iface=eth7"]);
    assert!(code == Some(68) || said.contains("10.211.55"), "{code:?} {said}");
}

/// A name server that never answers is named, and does not delay the end of the daemon.
fn silent_name_server(lab: &TestLab) {
    let host = lab.host(PEER);
    let netns = host.netns();
    let _silent = netns.enter(|| UdpSocket::bind("127.0.0.1:53")).expect("a namespace");
    let resolver = host.directory().join("resolv.conf");
    std::fs::write(&resolver, "nameserver 127.0.0.1\n").expect("a file");
    let script =
        format!("mount --bind {} /etc/resolv.conf && exec \"$0\" \"$@\"", resolver.display());
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, "timeout", "--preserve-status", "3"]);
    command.args([env!("CARGO_BIN_EXE_flannel-udp"), "--etcd-endpoints=http://etcd.example:2379"]);
    command.arg(format!("--iface={}", host.address())).stdin(Stdio::null());
    command.arg(format!("--subnet-file={}/second.env", host.directory().display()));
    command.env("FLANNELD_SOCKET", host.directory().join("second.sock"));
    let began = Instant::now();
    let output = netns.enter(|| command.output()).and_then(|output| output).expect("a daemon");
    let (took, said) = (began.elapsed(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("no name server has answered yet for etcd.example"), "{said}");
    assert!(took < Duration::from_secs(4), "{took:?}: {said}");
}

/// Daemons that wait for something are not ready, and say for what.
fn waiting(lab: &mut TestLab) {
    for (flag, meaning) in [
        ("--etcd-prefix=/wrong", "flannel config not found"),
        ("--etcd-prefix=coreos.com/network", "which has no leading slash"),
        ("--etcd-endpoints=http://no-such-host.invalid:2379", "name resolution failed"),
        ("--etcd-endpoints=http://10.211.55.10:9", "connection refused"),
    ] {
        lab.spawn_daemon(PEER, etcd(&[flag])).expect("a daemon");
        wait_for(meaning, Duration::from_secs(10), || lab.log(PEER).contains(meaning));
        row("journalctl -u flannel-udp", meaning, &lab.log(PEER));
    }
    // With none of this in the way it starts where it did not. It lacks something, and says so while it does.
    let wrapper = lab.host(PEER).directory().join("without-bpf");
    let program = env!("CARGO_BIN_EXE_flannel-udp");
    let script = format!(
        "#!/bin/sh\nexec setpriv --bounding-set -bpf,-sys_admin --inh-caps -bpf,-sys_admin {program} \"$@\"\n"
    );
    std::fs::write(&wrapper, script).expect("a script");
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    lab.host(PEER).sysctl("net/ipv4/ip_forward", "0").expect("sysctl");
    lab.start_daemon(PEER, DaemonOptions { binary: Some(wrapper), ..etcd(&[]) }).expect("a daemon");
    let unforwarded = "does not forward packets between its containers and the overlay";
    status_row(lab, PEER, unforwarded);
    let lenient = std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    if lenient.is_ok_and(|value| value.trim() == "0") {
        eprintln!("SKIPPED: this kernel grants the steering program to every process");
    } else {
        status_row(lab, PEER, "continuing without steering packets to queues");
    }
    lab.host(PEER).sysctl("net/ipv4/ip_forward", "1").expect("sysctl");
    wait_for("forwarding", Duration::from_secs(10), || !status(lab, PEER).contains(unforwarded));
    lab.stop_daemon(PEER).expect("a stop");
}

fn lease_lost(lab: &mut TestLab) {
    let key = lab.subnet(HERE).to_string().replace('/', "-");
    let thief = lease_value("10.211.55.66".parse().expect("an address"));
    lab.put(&lease_key(&key), &thief).expect("a theft");
    let meaning = "our lease was lost: another host holds our subnet now";
    wait_for(meaning, Duration::from_secs(10), || lab.log(HERE).contains(meaning));
    row("journalctl -u flannel-udp", meaning, &lab.log(HERE));
    wait_for("another subnet", Duration::from_secs(10), || {
        lab.log(HERE).contains("the subnet of this host has changed")
    });
}

#[test]
fn packets_that_do_not_arrive() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(3));
    lab.start_etcd(1, lab::CONFIG).expect("etcd");
    lab.join(PEER, &[]);
    lab.join(HERE, &["--source-check=enforce"]);
    lab.meet(HERE, PEER);
    assert!(status(&lab, HERE).contains("ready, nothing wrong"));
    unreachable(&lab);
    underlay_lost(&lab);
    promised(&mut lab);
    forged(&mut lab);
    etcd_away(&mut lab);
    overflow(&mut lab);
    feature_lost(&mut lab);
}

/// Asks the daemon of a host.
pub fn ask(lab: &TestLab, host: usize, words: &[&str]) -> String {
    let socket = lab.host(host).daemon().expect("a daemon").socket().display().to_string();
    let words = [words, &["--socket", &socket]].concat();
    TestLab::run(lab.host(host).netns(), env!("CARGO_BIN_EXE_flannel-udp"), &words)
}

pub fn status(lab: &TestLab, host: usize) -> String {
    ask(lab, host, &["status", "--interval=0"])
}

/// Asks for the status until it says `meaning`.
#[track_caller]
pub fn status_row(lab: &TestLab, host: usize, meaning: &str) {
    wait_for(meaning, Duration::from_secs(20), || status(lab, host).contains(meaning));
    row("flannel-udp status", meaning, &status(lab, host));
}

fn unreachable(lab: &TestLab) {
    let (here, there) = (lab.endpoint(HERE), lab.endpoint(PEER));
    let explain = |to: &str| ask(lab, HERE, &["explain", &here.address.to_string(), to]);
    let sent = |said: &str| said.contains("sent from or through this host: yes");
    let peer = there.address.to_string();
    let ping =
        |flags: &[&str]| TestLab::run(here.netns, "ping", &[&["-c1", "-W2"], flags].concat());

    row("ping -c1 -t2 ADDRESS", "Time to live exceeded", &ping(&["-t2", &peer]));
    status_row(lab, HERE, "ttl-expired");
    let meaning = "message too long, mtu=1472";
    row("ping -c1 -Mdo -s1472 ADDRESS", meaning, &ping(&["-Mdo", "-s1472", &peer]));
    row("ping -c1 ADDRESS", "Destination Net Unreachable", &ping(&[NOBODY]));
    status_row(lab, HERE, "no-route");
    row("flannel-udp explain SRC DST", "no lease contains", &explain(NOBODY));
    assert!(sent(&explain(&peer)), "{}", explain(&peer));

    let theft = format!("{} dev eth0", lab.subnet(PEER));
    ip(lab, HERE, &format!("route add {theft}"));
    row("flannel-udp explain SRC DST", "another route is more specific", &explain(&peer));
    ip(lab, HERE, &format!("route del {theft}"));
    assert!(sent(&explain(&peer)), "{}", explain(&peer));
}

/// The address that `--iface` names is taken away and comes back.
fn underlay_lost(lab: &TestLab) {
    let address = format!("{}/24 dev eth0", lab.host(HERE).address());
    ip(lab, HERE, &format!("addr del {address}"));
    status_row(lab, HERE, "has lost the underlay address");
    let found = status(lab, HERE);
    assert!(found.contains("no interface of this host has this address"), "{found}");
    ip(lab, HERE, &format!("addr add {address}"));
    wait_for("readiness", PATIENCE, || !status(lab, HERE).contains("underlay address"));
    ping::between(lab.host(HERE).container(), lab.host(PEER).container(), PATIENCE)
        .expect("an answer");
}

/// A third host, which runs no daemon, sends in the name of a container of the peer.
fn forged(lab: &mut TestLab) {
    let forger = PlainPeer::open(lab, 0, HERE);
    let [victim, target] = [PEER, HERE].map(|host| lab.endpoint(host).address);
    forger.send(&Ip::new(victim, target, EXPERIMENT).packet(b"forged"));
    status_row(lab, HERE, "source-mismatch");
    let meaning = "has an inner source that is not its sender's";
    status_row(lab, HERE, meaning);
    row("journalctl -u flannel-udp", meaning, &lab.log(HERE));
    let sender = format!("{}:8285", lab.host(0).address());
    assert!(status(lab, HERE).contains(&sender), "{}", status(lab, HERE));
    let found = examine(lab, &["--peers=no"]);
    row("flannel-udp doctor", meaning, &found.text);
    assert!(found.has("warning", "forged senders", &sender), "{found:?}");
    assert_eq!(found.code, Some(2), "{found:?}");
    // Another program of the peer's host, and a datagram inside a datagram.
    let [here, there] = [HERE, PEER].map(|host| lab.host(host).address());
    let program = net::udp(lab.host(PEER).netns(), there);
    let packet = Ip::new(victim, target, EXPERIMENT).packet(b"forged");
    program.send_to(&packet, (here, 8285)).expect("a datagram");
    status_row(lab, HERE, "whose daemon sends from another port");
    forger.send(&Ip::new(victim, here, UDP).udp((8285, 8285), b"nested"));
    status_row(lab, HERE, "own-datagram");
    // It is not the peer's traffic, and the peer's own is not in its way.
    ping::between(lab.host(PEER).container(), lab.host(HERE).container(), PATIENCE)
        .expect("an answer");
}

fn etcd_away(lab: &mut TestLab) {
    lab.etcd().expect("etcd").stop().expect("etcd stops");
    let meaning = "the lease store cannot be read, routes stay unchanged";
    status_row(lab, HERE, meaning);
    let said = status(lab, HERE);
    assert!(said.contains("NOT READ, last contact") && said.contains("last error: "), "{said}");
    // And so it is.
    ping::between(lab.host(HERE).container(), lab.host(PEER).container(), PATIENCE)
        .expect("an answer without etcd");
    lab.restart_etcd().expect("etcd starts");
    wait_for("etcd again", Duration::from_secs(20), || !status(lab, HERE).contains(meaning));
}

/// The daemon is away for a moment, and more comes than its socket holds.
fn overflow(lab: &mut TestLab) {
    let daemon = lab.host_mut(HERE).daemon_mut().expect("a daemon");
    daemon.process().signal(Signal::Stop).expect("a signal");
    let to = (lab.host(HERE).address(), 8285);
    let flooded = lab.host(PEER).netns().enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        for _ in 0..FLOOD {
            // Datagrams lost here are none that come too many there.
            let _ = socket.send_to(&[0; 1200], to);
        }
        std::io::Result::Ok(())
    });
    flooded.and_then(|outcome| outcome).expect("a flood");
    let daemon = lab.host_mut(HERE).daemon_mut().expect("a daemon");
    daemon.process().signal(Signal::Continue).expect("a signal");
    let found = examine(lab, &["--peers=no"]);
    let meaning = "were dropped: the daemon was not fast";
    row("flannel-udp doctor", meaning, &found.text);
    assert!(found.has("warning", "socket overflow", meaning), "{found:?}");
    status_row(lab, HERE, "socket buffer full");
}

/// The kernel refuses a feature: here a library that stands before it does.
fn feature_lost(lab: &mut TestLab) {
    let mut options = preload::with_faults(lab.host(HERE).directory(), "no-vnet", &[]);
    options.lease_store = StoreKind::Etcd;
    lab.start_daemon(HERE, options).expect("a daemon");
    status_row(lab, HERE, "continuing without vnet");
    let warning = status(lab, HERE);
    let warning = warning.lines().find(|line| line.contains("continuing without vnet"));
    assert!(warning.is_some_and(|line| line.ends_with(" s ago)")), "{warning:?}");
    let told = ask(lab, HERE, &["status", "--interval=0", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let features = told["status"]["features"].as_array().expect("features");
    let vnet = features.iter().find(|feature| feature["name"] == "vnet").expect("vnet");
    let lost = vnet["lost"].as_str().expect("a moment").to_owned();
    let date = TestLab::run(lab.host(HERE).netns(), "date", &["-u", "-d", &lost, "+%FT%TZ"]);
    assert_eq!(date.trim(), lost, "it is a moment that others can read");
    assert!(features.iter().any(|feature| feature["lost"].is_null()), "{features:?}");
    lab.start_daemon(HERE, etcd(&[])).expect("a daemon");
    assert!(status(lab, HERE).contains("ready, nothing wrong"), "{}", status(lab, HERE));
}

/// Twice what 16 MiB of buffer hold of datagrams that take 2,304 bytes each.
const FLOOD: usize = 15_000;

/// An address of the overlay in nobody's lease.
const NOBODY: &str = "10.0.200.1";

const PATIENCE: Duration = Duration::from_secs(3);
