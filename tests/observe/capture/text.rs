//! Captures as lines of text.

use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use flannel_udp::lab;
use serde_json::Value;

use super::running::{begun, text_command};
use super::two_hosts;
use crate::support::raw::{EXPERIMENT, Ip};
use crate::support::test_lab::Endpoint;
use crate::support::{exclusive, net, wait_for};

const NOWHERE: Ipv4Addr = Ipv4Addr::new(10, 0, 250, 9);

/// Sends a packet to an address that no lease holds.
fn send_nowhere(from: Endpoint<'_>, payload: &[u8]) {
    let socket = net::raw_sender(from.netns);
    let lost = Ip::new(from.address, NOWHERE, EXPERIMENT).packet(payload);
    net::send_raw(&socket, &lost).expect("it");
}

#[test]
fn drops_are_printed_as_they_happen() {
    let Some(_exclusive) = exclusive() else { return };
    let lab = two_hosts(&[]);
    let (here, there) = (lab.endpoint(0), lab.endpoint(1));
    let ping = || {
        lab::ping::ping(here.netns, there.address, net::TIMEOUT).expect("a ping");
    };
    let mut capture =
        text_command(&lab, 0, &["--verdict=dropped", "--drops=no-route"]).spawn().expect("it");
    begun(&mut capture);
    ping();
    send_nowhere(here, b"\x1b[2J");
    // While it runs: nothing waits for a buffer to fill.
    let mut lines = BufReader::new(capture.stdout.take().expect("a pipe"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[1..4], ["out", "dropped:no-route", "-"], "{line}");
    let packet = format!("IP {} > {NOWHERE}: ", here.address);
    assert!(line.contains(&packet) && line.ends_with(" 4\n"), "{line:?}");
    assert!(!line.contains('\x1b'), "{line:?}");

    // A reader that goes away ends it, without a word.
    drop(lines);
    wait_for("the end of the pipe", net::TIMEOUT, || {
        send_nowhere(here, b"more");
        capture.try_wait().expect("a child").is_some()
    });
    let output = capture.wait_with_output().expect("its end");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");

    // Each packet once, with its peer; the reply comes in.
    let mut capture = text_command(&lab, 0, &["-c", "2", "--proto=icmp"]).spawn().expect("it");
    begun(&mut capture);
    ping();
    let output = capture.wait_with_output().expect("its end");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let peer = format!("{}:8285", lab.host(1).address());
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 2, "{text}");
    assert_eq!(rows[0][1..4], ["out", "carried", &peer], "{text}");
    assert_eq!(rows[1][1..4], ["in", "carried", &peer], "{text}");
    assert!(text.contains("ICMP echo request") && text.contains("ICMP echo reply"), "{text}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("2 packets printed"));
}

#[test]
fn lines_reach_a_terminal_and_come_as_json_or_beside_a_file() {
    let Some(_exclusive) = exclusive::with_programs(&["script", "tcpdump"]) else { return };
    let lab = two_hosts(&[]);
    let (here, there) = (lab.endpoint(0), lab.endpoint(1));
    let ping = || {
        lab::ping::ping(here.netns, there.address, net::TIMEOUT).expect("a ping");
    };
    // util-linux's script gives the program a terminal.
    let command = text_command(&lab, 0, &["-c", "2", "--proto=icmp"]);
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut terminal = Command::new("script")
        .args(["-qec", &words.join(" "), "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script");
    let mut screen = BufReader::new(terminal.stdout.take().expect("a pipe"));
    let mut text = String::new();
    screen.read_line(&mut text).expect("a line");
    assert!(text.starts_with("capturing at flannel0 and eth0"), "{text}");
    ping();
    screen.read_to_string(&mut text).expect("the rest");
    assert!(terminal.wait().expect("its end").success(), "{text}");
    assert!(text.contains(" out carried ") && text.contains(" in  carried "), "{text}");

    let mut capture =
        text_command(&lab, 0, &["-c", "2", "--proto=icmp", "--json"]).spawn().expect("it");
    // It does not say when it begins.
    wait_for("both packets", net::TIMEOUT, || {
        ping();
        capture.try_wait().expect("a child").is_some()
    });
    let output = capture.wait_with_output().expect("its end");
    let rows: Vec<Value> = (String::from_utf8_lossy(&output.stdout).lines())
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(rows.len(), 2, "{rows:#?}");
    assert_eq!((&rows[0]["protocol"], &rows[0]["verdict"]), (&1.into(), &"carried".into()));
    let report: Value = serde_json::from_slice(&output.stderr).expect("a report");
    assert_eq!(report["complete"], true, "{report}");

    let file = lab.directory().join("both.pcapng");
    let name = file.display().to_string();
    let flags = ["-w", &name, "--print", "-c", "2", "--proto=icmp"];
    let mut capture = text_command(&lab, 0, &flags).spawn().expect("it");
    begun(&mut capture);
    ping();
    let output = capture.wait_with_output().expect("its end");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2, "{output:?}");
    let read = Command::new("tcpdump").args(["-n", "-r"]).arg(&file).output().expect("tcpdump");
    assert_eq!(String::from_utf8_lossy(&read.stdout).lines().count(), 4, "{read:?}");
    for bad in [&["--print"][..], &["--print", "-w", "-"]] {
        let output = text_command(&lab, 0, bad).output().expect("it");
        assert_eq!(output.status.code(), Some(64), "{bad:?}: {output:?}");
    }
}
