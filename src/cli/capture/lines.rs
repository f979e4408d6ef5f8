//! One line per packet, as `tcpdump -l` prints it, with what happened to the packet.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use humantime::format_rfc3339_micros;
use serde_json::json;

use super::CaptureSide;
use crate::humanize::printable;
use crate::observe::pcapng::{CapturedPacket, PacketDirection};
use crate::observe::protocol::capture::{PacketOutcome, Verdict};
use crate::packet::ipv4::Ipv4;
use crate::packet::ipv6::Ipv6;
use crate::packet::wire::OVERHEAD;

/// Turns captured packets into lines. Nothing of a packet but numbers reaches the terminal.
pub(super) struct PacketLines {
    /// The one interface that is captured, if not both are.
    only: Option<CaptureSide>,
    /// The names of the inner and the outer interface.
    names: [String; 2],
    json: bool,
    /// Number of lines so far.
    pub(super) count: u64,
}

impl PacketLines {
    pub(super) fn new(only: Option<CaptureSide>, names: [String; 2], json: bool) -> Self {
        Self { only, names, json, count: 0 }
    }

    /// The lines of these packets. A packet that both interfaces have seen has one.
    pub(super) fn of<'a>(&mut self, packets: impl Iterator<Item = CapturedPacket<'a>>) -> String {
        let mut out = String::new();
        for packet in packets {
            let outer = match self.only {
                Some(side) => side == CaptureSide::Outer,
                None => packet.interface == 1,
            };
            let outcome = PacketOutcome::parse(packet.comment);
            if self.only.is_none() && is_second_sight(&packet, outer, outcome) {
                continue;
            }
            let header = if outer { OVERHEAD } else { 0 };
            let inner = InnerPacket {
                bytes: packet.bytes.get(header..).unwrap_or_default(),
                len: (packet.len as usize).saturating_sub(header),
            };
            let line = if self.json {
                inner.json(&packet, outcome, &self.names[usize::from(outer)])
            } else {
                inner.line(&packet, outcome)
            };
            out.push_str(&line);
            out.push('\n');
            self.count += 1;
        }
        out
    }
}

/// Whether a packet that both interfaces see was sent here. Its line is where it was read: at the device on its
/// way out, as a datagram on its way in.
fn is_second_sight(
    packet: &CapturedPacket<'_>,
    outer: bool,
    outcome: Option<PacketOutcome<'_>>,
) -> bool {
    let is_carried = outcome.is_some_and(|outcome| outcome.verdict == Verdict::Carried);
    let read_at_outer = packet.direction != Some(PacketDirection::Outbound);
    is_carried && outer != read_at_outer
}

/// The packet of a container or host, without the headers of the datagram.
struct InnerPacket<'a> {
    /// The bytes that were kept.
    bytes: &'a [u8],
    /// Length of the whole packet, in bytes.
    len: usize,
}

impl InnerPacket<'_> {
    /// Time, direction, verdict, peer and the packet, separated by blanks.
    fn line(&self, packet: &CapturedPacket<'_>, outcome: Option<PacketOutcome<'_>>) -> String {
        let verdict = match outcome {
            Some(PacketOutcome { verdict: Verdict::Carried, .. }) => "carried".into(),
            Some(PacketOutcome { verdict: Verdict::IcmpError, .. }) => "icmp-error".into(),
            Some(PacketOutcome { reason, .. }) => format!("dropped:{}", printable(reason)),
            None => "-".into(),
        };
        let peer = outcome.and_then(|outcome| outcome.peer);
        let peer = peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string());
        let (time, direction) = (time(packet), direction(packet));
        format!("{time} {direction:<3} {verdict:<22} {peer:<20} {}", self.describe())
    }

    fn json(
        &self,
        packet: &CapturedPacket<'_>,
        outcome: Option<PacketOutcome<'_>>,
        interface: &str,
    ) -> String {
        let ip = Ipv4::parse_truncated(self.bytes).ok();
        let ports = ip.as_ref().and_then(Ipv4::ports);
        json!({
            "time": time(packet),
            "direction": direction(packet),
            "interface": interface,
            "verdict": outcome.map(|outcome| outcome.verdict),
            "reason": outcome.map(|outcome| outcome.reason).filter(|reason| !reason.is_empty()),
            "peer": outcome.and_then(|outcome| outcome.peer),
            "source": ip.as_ref().map(Ipv4::source),
            "destination": ip.as_ref().map(Ipv4::destination),
            "protocol": ip.as_ref().map(Ipv4::protocol),
            "source_port": ports.map(|ports| ports.0),
            "destination_port": ports.map(|ports| ports.1),
            "length": self.len,
            "packet": self.describe(),
        })
        .to_string()
    }

    /// The packet as `tcpdump -n -S` prints it.
    fn describe(&self) -> String {
        if let Ok(ip) = Ipv4::parse_truncated(self.bytes) {
            return match ip.total_len().saturating_sub(self.len) {
                0 => ip.to_string(),
                missing => format!("truncated-ip - {missing} bytes missing! {ip}"),
            };
        }
        if let Ok(ip) = Ipv6::parse_truncated(self.bytes) {
            return ip.to_string();
        }
        let mut text = format!("not IP, length {}:", self.len);
        for byte in self.bytes.iter().take(JUNK_SHOWN) {
            let _ = write!(text, " {byte:02x}");
        }
        if self.len > JUNK_SHOWN {
            text.push_str(" ...");
        }
        text
    }
}

fn time(packet: &CapturedPacket<'_>) -> String {
    format_rfc3339_micros(UNIX_EPOCH + Duration::from_nanos(packet.time)).to_string()
}

fn direction(packet: &CapturedPacket<'_>) -> &'static str {
    match packet.direction {
        Some(PacketDirection::Inbound) => "in",
        Some(PacketDirection::Outbound) => "out",
        None => "-",
    }
}

/// Bytes that are shown of what is not an IP packet.
const JUNK_SHOWN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn packet<'a>(interface: u32, bytes: &'a [u8], comment: &'a str) -> CapturedPacket<'a> {
        CapturedPacket {
            interface,
            time: 1_795_000_000_123_456_789,
            len: bytes.len() as u32,
            bytes,
            direction: Some(PacketDirection::Outbound),
            comment,
        }
    }

    fn lines(json: bool) -> PacketLines {
        PacketLines::new(None, ["flannel0".into(), "eth0".into()], json)
    }

    #[test]
    fn a_carried_packet_has_one_line() {
        let inner = samples::udp_between((4000, 5000), 1, b"payload");
        let outer = [&[0; OVERHEAD][..], &inner].concat();
        let comment = "carried, peer 10.211.55.2:8285";
        for (direction, name) in
            [(PacketDirection::Outbound, "out"), (PacketDirection::Inbound, "in ")]
        {
            let seen = [packet(0, &inner, comment), packet(1, &outer, comment)]
                .map(|packet| CapturedPacket { direction: Some(direction), ..packet });
            let mut lines = lines(false);
            let text = lines.of(seen.into_iter());
            let start = "2026-11-18T11:06:40.123456Z";
            let start = format!("{start} {name} carried                10.211.55.2:8285     IP ");
            assert!(text.starts_with(&start), "{text}");
            assert!(text.ends_with(".5000: UDP, length 7\n") && lines.count == 1, "{text}");
        }
        // The daemon's own errors, and what is dropped, are seen at one interface.
        for comment in ["ICMP error made here", "dropped: no-route"] {
            let text = lines(false).of([packet(1, &outer, comment)].into_iter());
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }

    #[test]
    fn no_escape_sequence_reaches_the_terminal() {
        let escape = b"\x1b]0;title\x07\x1b[2J";
        let inner = samples::udp_between((4000, 53), 1, escape);
        for bytes in [&inner[..], &escape[..], &[], &inner[..24]] {
            for comment in ["dropped: \x1b[31mred", "\x1b[31m", "carried"] {
                for json in [false, true] {
                    let text = lines(json).of([packet(0, bytes, comment)].into_iter());
                    assert!(text.trim_end().chars().all(|c| !c.is_control()), "{text:?}");
                }
            }
        }
        let text = lines(false).of([packet(0, b"junk", "dropped: too-short")].into_iter());
        assert!(text.contains(" dropped:too-short "), "{text}");
        assert!(text.ends_with("not IP, length 4: 6a 75 6e 6b\n"), "{text}");
    }

    #[test]
    fn json_has_the_fields_of_the_packet() {
        let inner = samples::udp_between((4000, 53), 1, b"payload");
        let text = lines(true).of([packet(0, &inner, "dropped: no-route")].into_iter());
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["verdict"], &line["reason"]), (&json!("dropped"), &json!("no-route")));
        assert_eq!((&line["protocol"], &line["destination_port"]), (&json!(17), &json!(53)));
        assert_eq!((&line["interface"], &line["peer"]), (&json!("flannel0"), &json!(null)));
        assert_eq!(line["length"], inner.len());
    }

    #[test]
    fn a_packet_shorter_than_its_header_says_is_marked() {
        let inner = samples::udp_between((4000, 5000), 1, b"payload");
        let text = lines(false).of([packet(0, &inner[..30], "dropped: truncated")].into_iter());
        assert!(text.contains("truncated-ip - 5 bytes missing! IP "), "{text}");
    }
}
