//! Captures of real daemons' traffic, read back by tshark.

use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flannel_udp::cli::Code;
use flannel_udp::lab::{self, DaemonOptions, Lab};
use flannel_udp::observe::pcapng::BlockReader;
use flannel_udp::sys::process::Signal;

use crate::support::raw::{EXPERIMENT, Ip};
use crate::support::test_lab::TestLab;
use crate::support::{accounting, bulk, exclusive, flow, net, wait_for};

mod frames;
mod programs;
mod running;
mod text;

use frames::{Frame, IN, OUT, count, first, read};
use running::{Running, ask, capture_command, code};

#[test]
fn every_packet_is_seen_where_it_passed_with_what_became_of_it() {
    let Some(_exclusive) = exclusive::with_programs(&["tshark", "capinfos"]) else { return };
    // The junk comes from another port than the daemon's.
    const HEARD: &str = "--source-check=log";
    for flags in [&[HEARD][..], &[HEARD, "--offload=off"]] {
        let lab = two_hosts(flags);
        let (here, there) = (lab.endpoint(0), lab.endpoint(1));
        let peer = lab.host(1).address();
        let capture = Running::start(&lab, 0, &[]);
        for _ in 0..3 {
            lab::ping::ping(here.netns, there.address, net::TIMEOUT).expect("a ping");
        }
        // Super-packets where the kernel makes them: they are shown as the wire has them.
        bulk::transfer(here, there, 300_000, 1);
        // Nobody has a lease for it.
        let nowhere = Ipv4Addr::new(10, 0, 250, 9);
        let socket = net::raw_sender(here.netns);
        net::send_raw(&socket, &Ip::new(here.address, nowhere, EXPERIMENT).packet(b"lost"))
            .expect("it");
        // The host takes one hop off, the daemon the last.
        let dying = Ip { ttl: 2, ..Ip::new(here.address, there.address, EXPERIMENT) };
        net::send_raw(&socket, &dying.packet(b"dying")).expect("it");
        // Junk from the other host's address.
        let junk = net::udp(lab.host(1).netns(), peer);
        let port = junk.local_addr().expect("an address").port();
        let daemon = (lab.host(0).address(), 8285);
        let dying =
            Ip { ttl: 1, ..Ip::new(there.address, here.address, EXPERIMENT) }.packet(b"dying");
        for datagram in [b"junk".as_slice(), &[0x66; 40], &dying] {
            junk.send_to(datagram, daemon).expect("junk");
        }
        std::thread::sleep(Duration::from_millis(300));
        let file = capture.stop();
        let frames = read(&file, &["-d", "udp.port==8285,ip"]);

        let pings = |interface: &str, direction: &str, kind: &str| {
            count(&frames, |f| {
                f.interface == interface && f.direction == direction && f.icmp_type.ends_with(kind)
            })
        };
        assert_eq!(pings("flannel0", OUT, "8"), 3, "{flags:?}: requests at the device");
        assert_eq!(pings("eth0", OUT, "8"), 3, "requests as datagrams");
        assert_eq!((pings("eth0", IN, "0"), pings("flannel0", IN, "0")), (3, 3), "replies");
        let carried = format!("carried, peer {peer}:8285");
        for frame in frames.iter().filter(|f| f.protocols.contains("tcp")) {
            assert_eq!(frame.comment, carried);
            assert!(frame.len <= 1500, "a packet of the wire, not a super-packet: {frame:?}");
            assert!(!frame.bad_checksum, "{frame:?}");
        }
        let bytes: usize = (frames.iter())
            .filter(|f| f.interface == "flannel0" && f.direction == OUT)
            .filter_map(|f| f.tcp_len.parse::<usize>().ok())
            .sum();
        assert!(bytes >= 300_000, "{flags:?}: {bytes} bytes of payload seen");
        let twice = ["flannel0", "eth0"].map(|interface| {
            count(&frames, |f| f.interface == interface && f.comment.starts_with("carried"))
        });
        assert_eq!(twice[0], twice[1], "{flags:?}: what is carried is seen at both");
        // The other end of each hop has its own view of the time to live.
        let (asked, sent) = (first(&frames, "flannel0", "8"), first(&frames, "eth0", "8"));
        assert_eq!((asked.ttl.as_str(), sent.ttl.as_str()), ("63", "64,62"));
        assert_eq!(
            sent.addresses,
            format!("{},{}>{peer},{}", lab.host(0).address(), here.address, there.address)
        );
        assert!(asked.time <= sent.time);

        // The kernel's own IPv6 comes to the device as well, whenever it likes.
        let is_drop =
            |f: &&Frame| f.comment.starts_with("dropped") && f.comment != "dropped: not-ipv4";
        let drops: Vec<_> = frames.iter().filter(is_drop).collect();
        let from = format!(", peer {peer}:{port}");
        let expected = [
            ("flannel0", "dropped: no-route".to_owned(), 24),
            ("flannel0", format!("dropped: ttl-expired, peer {peer}:8285"), 25),
            ("eth0", format!("dropped: too-short{from}"), 32),
            ("eth0", format!("dropped: not-ipv4{from}"), 68),
            ("eth0", format!("dropped: ttl-expired{from}"), 53),
        ];
        for (interface, comment, len) in &expected {
            let found = drops.iter().find(|f| f.comment == *comment);
            let found = found.unwrap_or_else(|| panic!("{flags:?}: no {comment} in {drops:#?}"));
            assert_eq!((found.interface.as_str(), found.len), (*interface, *len), "{comment}");
        }
        assert_eq!(drops.len(), expected.len(), "{flags:?}: {drops:#?}");
        let made = |interface: &str, direction: &str| {
            count(&frames, |f| {
                f.comment.starts_with("ICMP error")
                    && f.interface == interface
                    && f.direction == direction
            })
        };
        assert_eq!((made("flannel0", IN), made("eth0", OUT)), (2, 1), "errors sent back");
    }
}

#[test]
fn filters_and_bounds_hold() {
    let Some(_exclusive) = exclusive::with_programs(&["tshark", "capinfos"]) else { return };
    let lab = two_hosts(&[]);
    let (here, there) = (lab.endpoint(0), lab.endpoint(1));
    let ping = || {
        lab::ping::ping(here.netns, there.address, net::TIMEOUT).expect("a ping");
    };

    let capture = Running::start(&lab, 0, &["-c", "3", "--proto", "icmp"]);
    let second = capture_command(&lab, 0, Path::new("-"), &[]).output().expect("a second");
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(code(&second), Code::BadData as i32, "{words}");
    assert!(words.contains("another capture is running"), "{words}");
    (0..2).for_each(|_| ping());
    let (file, output) = capture.wait();
    assert!(output.status.success() && read(&file, &[]).len() == 6, "three packets, seen twice");

    let file = lab.directory().join("max.pcapng");
    let flags = ["--max-bytes", "2000", "--json"];
    let bounded = capture_command(&lab, 0, &file, &flags).spawn().expect("a capture");
    wait_for("the capture", net::TIMEOUT, || file.metadata().is_ok_and(|file| file.len() > 0));
    flow::in_order(here, there, 100, |_| 100);
    let output = bounded.wait_with_output().expect("its end");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!((&report["lost"], &report["complete"]), (&0.into(), &true.into()), "{report}");

    let begun = Instant::now();
    let flags = [
        "--duration",
        "0.6",
        "--interface",
        "outer",
        "--direction",
        "in",
        "--proto",
        "icmp",
        "-s",
        "60",
    ];
    let capture = Running::start(&lab, 0, &flags);
    ping();
    flow::in_order(here, there, 20, |_| 100);
    let (file, output) = capture.wait();
    assert!(output.status.success() && begun.elapsed() < Duration::from_secs(5));
    let frames = read(&file, &[]);
    assert_eq!(frames.len(), 1, "the reply: {frames:#?}");
    assert_eq!((frames[0].interface.as_str(), frames[0].cap_len), ("eth0", 60));
    assert!(frames[0].len > 60);

    let address = there.address.to_string();
    let flags =
        ["--drops=no-route", "--host", "10.0.250.0/24", "--host", &here.address.to_string()];
    let capture = Running::start(&lab, 0, &flags);
    ping();
    let socket = net::raw_sender(here.netns);
    for last in [9, 10] {
        let lost =
            Ip::new(here.address, Ipv4Addr::new(10, 0, 250, last), EXPERIMENT).packet(b"lost");
        net::send_raw(&socket, &lost).expect("it");
    }
    let lost = Ip::new(here.address, Ipv4Addr::new(10, 0, 251, 9), EXPERIMENT).packet(b"other");
    net::send_raw(&socket, &lost).expect("it");
    std::thread::sleep(Duration::from_millis(200));
    let frames = read(&capture.stop(), &[]);
    assert_eq!(frames.len(), 2, "{frames:#?}");

    // Into a program that reads some packets and goes away.
    let mut capture = capture_command(&lab, 0, Path::new("-"), &["--host", &address])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a capture");
    let tshark = Command::new("tshark")
        .args(["-c", "4", "-r", "-"])
        .stdin(capture.stdout.take().expect("a pipe"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tshark");
    wait_for("the end of the pipe", net::TIMEOUT, || {
        ping();
        capture.try_wait().expect("a child").is_some()
    });
    assert!(capture.wait().expect("its end").success(), "a pipe that is read no more is no error");
    let printed = tshark.wait_with_output().expect("tshark").stdout;
    assert_eq!(String::from_utf8_lossy(&printed).lines().count(), 4);
}

#[test]
fn a_reader_that_does_not_read_delays_nobody_and_learns_what_it_lost() {
    let Some(_exclusive) = exclusive::with_programs(&["tshark", "capinfos"]) else { return };
    let mut lab = two_hosts(&[]);
    let (mut stream, line) = ask(&lab, r#"{"version":1,"command":"capture"}"#);
    assert!(line.contains("\"ok\""), "{line}");
    // Much more than all buffers hold.
    let begun = Instant::now();
    bulk::transfer(lab.endpoint(0), lab.endpoint(1), 100 << 20, 7);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    flow::in_order(lab.endpoint(0), lab.endpoint(1), 500, |_| 400);
    accounting::check_balance(&mut lab);
    let dropped: u64 = (0..2)
        .map(|host| {
            let counters = accounting::DaemonCounters::of(&mut lab, host);
            // The kernel's own IPv6 comes to the device as well, whenever it likes.
            [counters.egress, counters.ingress]
                .iter()
                .flat_map(|way| &way.drops)
                .filter(|(reason, _)| reason != "not-ipv4")
                .map(|drop| drop.1)
                .sum::<u64>()
        })
        .sum();
    assert_eq!(dropped, 0, "nothing is dropped for a capture's sake");
    stream.get_mut().shutdown(std::net::Shutdown::Write).expect("its end");
    let (mut blocks, mut rest) = (BlockReader::default(), vec![]);
    stream.read_to_end(&mut rest).expect("the rest");
    blocks.input().extend_from_slice(&rest);
    let file = blocks.whole_blocks().expect("a capture");
    assert!(blocks.is_complete && blocks.lost > 10_000 && blocks.packets > 1_000, "{blocks:?}");
    assert_eq!(file.len(), rest.len(), "whole blocks");
    let path = lab.directory().join("slow.pcapng");
    fs::write(&path, &file).expect("a file");
    let info = Command::new("capinfos").arg(&path).output().expect("capinfos");
    assert!(info.status.success(), "{info:?}");
    // Some releases of capinfos do not print the comments of interface statistics.
    let said = b"packets are missing from the capture";
    assert!(file.windows(said.len()).any(|bytes| bytes == said), "the loss is told in the file");
}

#[test]
fn the_end_of_the_daemon_ends_the_capture() {
    let Some(_exclusive) = exclusive::with_programs(&["tshark", "capinfos"]) else { return };
    let mut lab = two_hosts(&[]);
    let capture = Running::start(&lab, 0, &["--proto", "icmp"]);
    lab::ping::ping(lab.endpoint(0).netns, lab.endpoint(1).address, net::TIMEOUT).expect("a ping");
    assert!(lab.stop_daemon(0).expect("its end").success());
    let (file, output) = capture.wait();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "with its last words: {words}");
    assert_eq!(read(&file, &[]).len(), 4, "request and reply, twice each");

    // Killed, it says nothing more; what there is is whole.
    let capture = Running::start(&lab, 1, &["--drops=too-short"]);
    let head = capture.file.metadata().expect("a file").len();
    let from = lab.host(0).address();
    let junk = net::udp(lab.host(0).netns(), from);
    junk.send_to(b"junk", (lab.host(1).address(), 8285)).expect("junk");
    wait_for("a packet", net::TIMEOUT, || {
        capture.file.metadata().is_ok_and(|file| file.len() > head)
    });
    let daemon = lab.host_mut(1).daemon_mut().expect("a daemon");
    daemon.process().signal(Signal::Kill).expect("a kill");
    let (file, output) = capture.wait();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&output), Code::Unavailable as i32, "{words}");
    assert!(words.contains("the daemon stopped"), "{words}");
    assert_eq!(read(&file, &[]).len(), 1);
}

#[test]
fn nonsense_is_answered_in_words() {
    let Some(_exclusive) = exclusive::with_programs(&["tshark", "capinfos"]) else { return };
    let lab = two_hosts(&[]);
    for (arguments, said) in [
        (r#""snap_len":0"#, "snap length"),
        (r#""drops":["nonsense"]"#, "is not a drop reason"),
        (r#""inner_only":true,"outer_only":true"#, "neither"),
        (r#""hosts":["10.0.0.0/40"]"#, "arguments of capture"),
    ] {
        let request = format!(r#"{{"version":1,"command":"capture",{arguments}}}"#);
        let (_, line) = ask(&lab, &request);
        assert!(line.contains("\"error\"") && line.contains(said), "{request}: {line}");
    }
    // None of them has left a capture behind.
    let (_, line) = ask(&lab, r#"{"version":1,"command":"capture"}"#);
    assert!(line.contains("\"ok\""), "{line}");
}

/// Two hosts with a daemon and a container each, which have met.
fn two_hosts(flags: &[&str]) -> TestLab {
    let mut lab = TestLab::build(Lab::builder().hosts(2));
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    lab.start_daemons(&DaemonOptions::with_flags(flags)).expect("the daemons");
    for host in 0..2 {
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    lab
}
