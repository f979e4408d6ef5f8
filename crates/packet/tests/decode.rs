//! What `examples/decode` prints of captures made by tcpdump, dumpcap and editcap, and how it ends.

#[path = "../examples/decode/capture.rs"]
mod capture;
#[path = "../examples/decode/frame.rs"]
mod frame;

use capture::{Frame, ReadError};
use frame::linktype;

/// The lines that are printed, and how it ended.
fn decode(file: &[u8]) -> (Vec<String>, Result<(), ReadError>) {
    let mut lines = Vec::new();
    let result = capture::read(file, |link, frame| {
        lines.push(frame::describe(link, frame));
        Ok(())
    });
    (lines, result)
}

fn decode_whole(file: &[u8]) -> Vec<String> {
    let (lines, result) = decode(file);
    result.unwrap();
    lines
}

/// Each capture and what is printed of it, read beside `tcpdump -n -S -t -r` when it was made.
#[test]
fn captures_of_every_link_type_print() {
    macro_rules! capture {
        ($name:literal, $format:literal) => {
            (
                $name,
                &include_bytes!(concat!("data/", $name, ".", $format))[..],
                include_str!(concat!("data/", $name, ".decode.txt")),
            )
        };
    }
    for (name, file, expected) in [
        // ARP, neighbour discovery, LLDP, STP, CDP, one and two VLAN tags, flannel's datagrams.
        capture!("ether", "pcap"),
        // tcpdump -i any -y LINUX_SLL, and -y LINUX_SLL2.
        capture!("sll", "pcap"),
        capture!("sll2", "pcap"),
        // tcpdump -s 60.
        capture!("cut", "pcap"),
        // dumpcap -i e0 -i lo.
        capture!("two-interfaces", "pcapng"),
    ] {
        let lines = decode_whole(file);
        let expected: Vec<_> = expected.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{name}");
        for (line, expected) in lines.iter().zip(expected) {
            assert_eq!(line, expected, "{name}");
        }
    }
}

/// A pcap file of one byte order.
fn pcap(link: u32, packets: &[&[u8]], order: fn(u32) -> [u8; 4]) -> Vec<u8> {
    let mut file = order(0xa1b2_c3d4).to_vec();
    let version = if order(1) == [0, 0, 0, 1] { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
    file.extend(version);
    [0, 0, 65_535, link].iter().for_each(|word| file.extend(order(*word)));
    for packet in packets {
        let len = packet.len() as u32;
        [1, 2, len, len].iter().for_each(|word| file.extend(order(*word)));
        file.extend(*packet);
    }
    file
}

const PING: [u8; 28] = [
    0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 1, 0, 0, 10, 5, 20, 2, 10, 5, 31, 3, 8, 0, 0, 0, 0, 1, 0, 2,
];
const LINE: &str = "IP 10.5.20.2 > 10.5.31.3: ICMP echo request, id 1, seq 2, length 8";

#[test]
fn both_byte_orders_are_read() {
    for order in [u32::to_be_bytes, u32::to_le_bytes] {
        for link in [linktype::RAW, linktype::RAW_BSD, linktype::RAW_OPENBSD, linktype::IPV4] {
            assert_eq!(decode_whole(&pcap(link, &[&PING], order)), [LINE]);
        }
    }
}

#[test]
fn null_and_loop_name_the_address_family() {
    let v6 = [&[0x60, 0, 0, 0, 0, 0, 59, 64][..], &[0; 32]].concat();
    for (link, family, packet, line) in [
        (linktype::NULL, [2, 0, 0, 0], &PING[..], LINE),
        (linktype::NULL, [0, 0, 0, 2], &PING, LINE),
        (linktype::LOOP, [0, 0, 0, 2], &PING, LINE),
        (linktype::NULL, [30, 0, 0, 0], &v6, "IP6 :: > ::: no next header"),
        (linktype::LOOP, [0, 0, 0, 24], &v6, "IP6 :: > ::: no next header"),
        (linktype::NULL, [7, 0, 0, 0], &PING, "address family 7, length 28"),
    ] {
        let frame = [&family[..], packet].concat();
        assert_eq!(decode_whole(&pcap(link, &[&frame], u32::to_le_bytes)), [line]);
    }
}

/// A file that ends early is an error, wherever it ends, after the frames before.
#[test]
fn a_file_cut_short_is_an_error() {
    let classic = pcap(linktype::RAW, &[&PING, &PING], u32::to_le_bytes);
    let first = 24 + 16 + PING.len();
    for len in 0..classic.len() {
        let (lines, result) = decode(&classic[..len]);
        let is_whole = len == 24 || len == first;
        assert_eq!(result.is_ok(), is_whole, "{len}: {result:?}");
        assert_eq!(lines.len(), usize::from(len >= first), "{len}");
    }
    let next_generation = include_bytes!("data/two-interfaces.pcapng");
    let len = next_generation.len();
    for cut in [len - 1, (len / 2) | 1, 17] {
        let (lines, result) = decode(&next_generation[..cut]);
        assert!(result.is_err());
        let all = decode_whole(next_generation);
        assert!(all.starts_with(&lines) && lines.len() < all.len());
    }
    assert!(matches!(decode(b"no capture at all, but text").1, Err(ReadError::NoCapture)));
}

#[test]
fn any_frame_of_any_link_type_is_described() {
    let capture = include_bytes!("data/ether.pcap");
    for link in 0..300 {
        for len in (0..capture.len()).step_by(7) {
            let frame = Frame { bytes: &capture[len..(len + 90).min(capture.len())], wire_len: 90 };
            assert!(!frame::describe(link, frame).is_empty());
        }
        for len in 0..40 {
            frame::describe(link, Frame { bytes: &capture[40..40 + len], wire_len: 60 });
        }
    }
}
