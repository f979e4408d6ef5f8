//! Captures read by the programs that people use, from a file and from a pipe.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use flannel_udp::lab;

use super::running::{Running, begun, capture_command};
use super::two_hosts;
use crate::support::raw::{EXPERIMENT, Ip};
use crate::support::{exclusive, net};

/// Each reads a capture from the file named last, or from standard input if that is `-`.
const READERS: [(&str, &[&str]); 2] = [("tcpdump", &["-n", "-r"]), ("tshark", &["-n", "-r"])];

/// Both interfaces of a ping: at each, a request and its reply.
#[track_caller]
fn has_a_ping_at_both_interfaces(program: &str, text: &str) {
    let lines: Vec<String> = text.lines().map(str::to_lowercase).collect();
    let count = |is: fn(&str) -> bool| lines.iter().filter(|line| is(line)).count();
    let replies = count(|line| line.contains("reply"));
    // tshark says beside a reply where its request is.
    let requests = count(|line| line.contains("request") && !line.contains("reply"));
    assert_eq!((requests, replies), (1, 1), "{program}: {text}");
    let datagrams = count(|line| line.contains("8285"));
    assert_eq!((datagrams, lines.len()), (2, 4), "{program}: {text}");
}

#[test]
fn tcpdump_and_tshark_read_a_file_and_a_pipe() {
    let Some(_exclusive) = exclusive::with_programs(&["tcpdump", "tshark"]) else { return };
    let lab = two_hosts(&[]);
    let (here, there) = (lab.endpoint(0), lab.endpoint(1));
    let ping = || {
        lab::ping::ping(here.netns, there.address, net::TIMEOUT).expect("a ping");
    };
    let capture = Running::start(&lab, 0, &["--proto", "icmp"]);
    ping();
    let file = capture.stop();
    for (program, flags) in READERS {
        let output = Command::new(program).args(flags).arg(&file).output().expect(program);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {said}");
        has_a_ping_at_both_interfaces(program, &String::from_utf8_lossy(&output.stdout));
    }
    for (program, flags) in READERS {
        let flags_of_capture = ["-c", "2", "--proto", "icmp"];
        let mut capture =
            capture_command(&lab, 0, Path::new("-"), &flags_of_capture).spawn().expect("a capture");
        begun(&mut capture);
        let reader = Command::new(program)
            .args(flags)
            .arg("-")
            .stdin(capture.stdout.take().expect("a pipe"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect(program);
        ping();
        assert!(capture.wait().expect("its end").success(), "{program}");
        let output = reader.wait_with_output().expect(program);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {said}");
        has_a_ping_at_both_interfaces(program, &String::from_utf8_lossy(&output.stdout));
    }

    // tcpdump's own filters work too, and the reason of a drop is in the file for whoever shows comments.
    let capture = Running::start(&lab, 0, &["--verdict", "dropped", "--host", "10.0.250.9"]);
    let socket = net::raw_sender(here.netns);
    let lost = Ip::new(here.address, Ipv4Addr::new(10, 0, 250, 9), EXPERIMENT).packet(b"lost");
    net::send_raw(&socket, &lost).expect("it");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let file = capture.stop();
    let read = |filter: &str| {
        let output = Command::new("tcpdump").args(["-n", "-r"]).arg(&file).arg(filter).output();
        String::from_utf8_lossy(&output.expect("tcpdump").stdout).lines().count()
    };
    assert_eq!((read("dst 10.0.250.9"), read("icmp")), (1, 0));
}
