//! What tshark reads in a capture.

use std::path::Path;
use std::process::Command;

/// A packet as tshark tells it; of a datagram, the fields of outer and inner packet with a comma.
#[derive(Debug)]
pub struct Frame {
    pub interface: String,
    pub direction: String,
    pub comment: String,
    pub len: usize,
    pub cap_len: usize,
    pub protocols: String,
    pub icmp_type: String,
    pub tcp_len: String,
    pub ttl: String,
    pub addresses: String,
    pub bad_checksum: bool,
    pub time: f64,
}

pub const IN: &str = "0x00000001";
pub const OUT: &str = "0x00000002";

#[track_caller]
pub fn read(file: &Path, flags: &[&str]) -> Vec<Frame> {
    let fields = [
        "frame.interface_name",
        "frame.packet_flags",
        "frame.comment",
        "frame.len",
        "frame.cap_len",
        "frame.protocols",
        "icmp.type",
        "tcp.len",
        "ip.ttl",
        "ip.src",
        "ip.dst",
        "tcp.checksum.status",
        "frame.time_epoch",
    ];
    let output = Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args(flags)
        .args(["-o", "tcp.check_checksum:TRUE", "-T", "fields"])
        .args(fields.iter().flat_map(|field| ["-e", field]))
        .output()
        .expect("tshark (scripts/setup.sh)");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}");
    String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .map(|line| {
            let field: Vec<&str> = line.split('\t').collect();
            Frame {
                interface: field[0].into(),
                direction: field[1].into(),
                comment: field[2].into(),
                len: field[3].parse().expect("a length"),
                cap_len: field[4].parse().expect("a length"),
                protocols: field[5].into(),
                icmp_type: field[6].into(),
                tcp_len: field[7].into(),
                ttl: field[8].into(),
                addresses: format!("{}>{}", field[9], field[10]),
                bad_checksum: field[11] == "0",
                time: field[12].parse().expect("a time"),
            }
        })
        .collect()
}

pub fn count(frames: &[Frame], is: impl Fn(&Frame) -> bool) -> usize {
    frames.iter().filter(|frame| is(frame)).count()
}

#[track_caller]
pub fn first<'a>(frames: &'a [Frame], interface: &str, icmp_type: &str) -> &'a Frame {
    let is = |frame: &&Frame| frame.interface == interface && frame.icmp_type == icmp_type;
    frames.iter().find(is).expect("such a packet")
}
