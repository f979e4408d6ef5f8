//! Prints the packets of a capture as tcpdump would, with the packet library alone.
//!
//! ```text
//! cargo run -p flannel-packet --example decode -- crates/packet/tests/data/lab.pcap
//! ```
//!
//! Reads classic pcap files of either byte order whose link layer is raw IP, Ethernet or Linux
//! "cooked"; where a capture of the overlay's outer side holds datagrams of port 8285, the inner
//! packet is printed behind the outer one.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use flannel_packet::ipv4::Ipv4;
use flannel_packet::ipv6::Ipv6;
use flannel_packet::udp::Udp;
use flannel_packet::{Malformed, protocol, wire};

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: decode CAPTURE.pcap");
        return ExitCode::from(2);
    };
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("decode: cannot read {path}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let capture = match Capture::open(&bytes) {
        Ok(capture) => capture,
        Err(reason) => {
            eprintln!("decode: {path} is not a capture that can be read: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let mut out = std::io::stdout().lock();
    for frame in capture {
        // A reader that has seen enough, such as `head`, is no error.
        if writeln!(out, "{}", describe(frame)).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// One line for one packet.
fn describe(packet: &[u8]) -> String {
    let outer = match packet.first().map(|first| first >> 4) {
        Some(4) => Ipv4::parse(packet).map(|ip| ip.to_string()),
        Some(6) => Ipv6::parse(packet).map(|ip| ip.to_string()),
        _ => return format!("not IP, {} bytes", packet.len()),
    };
    let mut line = outer.unwrap_or_else(|error: Malformed| format!("malformed: {error}"));
    if let Some(inner) = inner(packet) {
        // Writing to a String cannot fail.
        let _ = match wire::parse(inner, usize::MAX) {
            Ok(ip) => write!(line, " | {ip}"),
            Err(error) => write!(line, " | no inner packet: {error}"),
        };
    }
    line
}

/// What a datagram of flannel's udp backend carries.
fn inner(packet: &[u8]) -> Option<&[u8]> {
    let ip = Ipv4::parse(packet).ok()?;
    let whole = ip.protocol() == protocol::UDP && !ip.is_fragment();
    let udp = Udp::parse(packet.get(ip.header_len()..ip.total_len())?).ok()?;
    let ours = udp.destination_port() == wire::DEFAULT_PORT;
    (whole && ours).then(|| packet.get(ip.header_len() + 8..ip.header_len() + udp.total_len()))?
}

/// A classic pcap file, as an iterator over its packets without their link layer.
struct Capture<'a> {
    rest: &'a [u8],
    swapped: bool,
    /// Bytes of link layer before each packet.
    link: usize,
}

impl<'a> Capture<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let (header, rest) = bytes.split_at_checked(24).ok_or("it is too short")?;
        let swapped = match word(header, 0, false) {
            MAGIC | MAGIC_NANOSECONDS => false,
            magic if [MAGIC, MAGIC_NANOSECONDS].contains(&magic.swap_bytes()) => true,
            _ => return Err("it does not begin as a pcap file does (pcapng is another format)"),
        };
        let link = match word(header, 20, swapped) & 0xffff {
            LINKTYPE_RAW | LINKTYPE_RAW_BSD => 0,
            LINKTYPE_ETHERNET => 14,
            LINKTYPE_LINUX_SLL => 16,
            _ => return Err("its link layer is neither raw IP, Ethernet nor Linux cooked"),
        };
        Ok(Self { rest, swapped, link })
    }
}

impl<'a> Iterator for Capture<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (header, after) = self.rest.split_at_checked(16)?;
        let len = word(header, 8, self.swapped) as usize;
        let (frame, rest) = after.split_at_checked(len)?;
        self.rest = rest;
        Some(frame.get(self.link..).unwrap_or(&[]))
    }
}

/// The 32-bit word at `at`, which the caller knows to be there.
fn word(bytes: &[u8], at: usize, swapped: bool) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; 4]);
    let word = u32::from_le_bytes(word);
    if swapped { word.swap_bytes() } else { word }
}

const MAGIC: u32 = 0xa1b2_c3d4;
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const LINKTYPE_ETHERNET: u32 = 1;
const LINKTYPE_RAW_BSD: u32 = 12;
const LINKTYPE_RAW: u32 = 101;
const LINKTYPE_LINUX_SLL: u32 = 113;
