//! Every captured packet prints as `tcpdump -n -S` prints it.

use flannel_packet::ipv4::Ipv4;
use flannel_packet::ipv6::Ipv6;

use super::inputs::{FORMS, captured, packets_of};

/// `tcpdump -n -S -t -r crates/packet/tests/data/lab.pcap`, version 4.99.
const TCPDUMP: &str = include_str!("../data/lab.tcpdump.txt");

#[test]
fn captured_packets_print_as_tcpdump_prints_them() {
    let packets = captured();
    let lines: Vec<&str> = TCPDUMP.lines().collect();
    assert_eq!(packets.len(), lines.len());
    let mut differing = 0;
    for (packet, line) in packets.iter().zip(lines) {
        let ours = print(packet);
        if is_deeper(line) {
            differing += 1;
            continue;
        }
        // It also names the application behind port 80.
        assert_eq!(ours, line.trim_end_matches(": HTTP"));
    }
    assert_eq!(differing, 4);
}

/// Likewise `forms.pcap`.
const FORMS_BY_TCPDUMP: &str = include_str!("../data/forms.tcpdump.txt");

#[test]
fn every_form_prints_as_tcpdump_prints_it() {
    let packets = packets_of(FORMS);
    assert_eq!(packets.len(), FORMS_BY_TCPDUMP.lines().count());
    for (packet, line) in packets.iter().zip(FORMS_BY_TCPDUMP.lines()) {
        assert_eq!(print(packet), line);
    }
}

fn print(packet: &[u8]) -> String {
    match packet[0] >> 4 {
        4 => Ipv4::parse(packet).unwrap().to_string(),
        _ => Ipv6::parse(packet).unwrap().to_string(),
    }
}

/// Port 53: tcpdump looks into DNS, we do not.
fn is_deeper(line: &str) -> bool {
    line.contains(".53: ")
}
