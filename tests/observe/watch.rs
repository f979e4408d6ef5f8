//! `peers --watch`, and the names of hosts in `peers`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flannel_udp::lab::{DaemonOptions, Lab};
use serde_json::Value;

use crate::inspect;
use crate::support::exclusive;
use crate::support::test_lab::TestLab;

fn two_hosts() -> TestLab {
    let mut lab = TestLab::build(Lab::builder().hosts(2));
    lab.create_store_directory(flannel_udp::lab::CONFIG).expect("the directory");
    lab.start_daemons(&DaemonOptions::default()).expect("the daemons");
    for host in 0..2 {
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    lab
}

/// A command that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(lab: &TestLab, program: &str, words: &[&str]) -> Running {
    let socket = lab.host(0).directory().join("flannel-udp.sock");
    let child = Command::new(program)
        .args(words)
        .env("FLANNELD_SOCKET", socket)
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    Running(child.expect(program))
}

#[test]
fn it_repeats_as_its_reader_needs_it() {
    let Some(_exclusive) = exclusive::with_programs(&["script", "stty"]) else { return };
    let lab = two_hosts();
    let program = env!("CARGO_BIN_EXE_flannel-udp");
    let watch = ["peers", "--watch", "--interval=200"];

    let mut json = start(&lab, program, &[&watch[..], &["--json"]].concat());
    let lines = BufReader::new(json.0.stdout.take().expect("a pipe")).lines();
    for line in lines.take(3) {
        let document: Value =
            serde_json::from_str(&line.expect("a line")).expect("a document per line");
        assert!(document["rate_seconds"].as_f64() > Some(0.1), "{document}");
        assert_eq!(document["peers"].as_array().map(Vec::len), Some(1), "{document}");
    }

    let mut tables = start(&lab, program, &watch);
    let lines = BufReader::new(tables.0.stdout.take().expect("a pipe")).lines();
    let lines: Vec<_> = lines.take(5).map(|line| line.expect("a line")).collect();
    assert!(lines[0].starts_with("SUBNET") && lines[3].starts_with("SUBNET"), "{lines:#?}");
    assert!(lines[2].is_empty() && !lines.concat().contains('\u{1b}'), "{lines:#?}");
    // Its reader is gone: it ends by itself.
    let begun = Instant::now();
    let code = tables.0.wait().expect("its end").code();
    assert_eq!((code, begun.elapsed() < Duration::from_secs(5)), (Some(0), true));

    let inner = format!("stty rows 24 cols 80; exec {program} {}", watch.join(" "));
    let mut terminal = start(&lab, "script", &["-q", "-f", "-c", &inner, "/dev/null"]);
    let mut screen = Vec::new();
    let mut output = terminal.0.stdout.take().expect("a pipe");
    let mut bytes = [0; 4096];
    while screen.windows(3).filter(|part| part == b"\x1b[H").count() < 4 {
        let read = output.read(&mut bytes).expect("a screen");
        assert!(read > 0, "{}", String::from_utf8_lossy(&screen));
        screen.extend_from_slice(&bytes[..read]);
    }
    let screen = String::from_utf8_lossy(&screen).into_owned();
    assert!(screen.contains("\x1b[2J") && screen.contains("SUBNET"), "{screen:?}");
    let is_narrow =
        |line: &str| line.replace("\x1b[H", "").replace("\x1b[K", "").chars().count() <= 90;
    assert!(screen.lines().all(is_narrow), "{screen}");

    let refused = Command::new(program).args(["peers", "--watch", "--interval=0"]).output();
    assert_eq!(refused.expect("it runs").status.code(), Some(64));
}

#[test]
fn names_are_those_of_the_resolver_and_never_waited_for() {
    let Some(_exclusive) = exclusive() else { return };
    let lab = two_hosts();
    let (address, hosts) = (lab.host(1).address(), lab.directory().join("hosts"));
    std::fs::write(&hosts, format!("{address} node-b.example\n")).expect("a file");
    let socket = lab.host(0).directory().join("flannel-udp.sock");
    // A name server that is silent, and a file that knows one host.
    let silent = lab.host(0).netns().enter(|| std::net::UdpSocket::bind("127.0.0.1:53"));
    let _silent = silent.and_then(|socket| socket).expect("a silent name server");
    let resolver = lab.directory().join("resolv.conf");
    std::fs::write(&resolver, "nameserver 127.0.0.1\n").expect("a file");
    let peers = |hosts: &str, flags: &[&str]| {
        let script = format!(
            "mount --bind {hosts} /etc/hosts && mount --bind {} /etc/resolv.conf && exec \"$0\" \"$@\"",
            resolver.display()
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_flannel-udp"), "peers"]);
        command.args(flags).env("FLANNELD_SOCKET", &socket);
        let begun = Instant::now();
        let output = lab.host(0).netns().enter(|| command.output()).and_then(|output| output);
        let output = output.expect("peers");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (String::from_utf8_lossy(&output.stdout).into_owned(), begun.elapsed())
    };
    let known = hosts.display().to_string();
    let (table, _) = peers(&known, &["--interval=0"]);
    assert!(table.contains("NAME") && table.contains("node-b.example"), "{table}");
    let (json, _) = peers(&known, &["--interval=0", "--json"]);
    assert!(json.contains("\"name\": \"node-b.example\""), "{json}");
    let (table, _) = peers(&known, &["--interval=0", "-n"]);
    assert!(!table.contains("NAME"), "{table}");
    let (table, took) = peers("/dev/null", &["--interval=0"]);
    assert!(!table.contains("NAME") && table.contains(&address.to_string()), "{table}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(inspect::json(&lab, 0, &["peers", "--numeric"])["peers"][0]["name"], Value::Null);
}
