use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

/// Every block once, with every option.
fn file(order: Order) -> BytesMut {
    let writer = BlockWriter::new(order);
    let mut out = BytesMut::new();
    writer.section(&mut out, "x86_64", "Linux", "flannel-udp");
    let inner = Interface {
        link_type: LINKTYPE_IPV4,
        snap_len: 65_535,
        name: "flannel0",
        description: "inner",
    };
    writer.interface(&mut out, &inner);
    let packet = Packet {
        interface: 0,
        time: 0x0102_0304_0506_0708,
        len: 29,
        bytes: [&IP[..20], &IP[20..]],
        direction: PacketDirection::Outbound,
        lost: 5,
        comment: "carried",
    };
    writer.packet(&mut out, &packet);
    let statistics = Statistics {
        interface: 0,
        start: 0x0102_0304_0506_0000,
        end: 0x0102_0304_0506_0808,
        accepted: 6,
        lost: 5,
        delivered: 1,
        comment: "slow",
    };
    writer.statistics(&mut out, &statistics);
    out
}

/// A UDP packet of 29 bytes.
const IP: &[u8] =
    b"\x45\0\0\x1d\0\x01\0\0\x40\x11\x66\xcd\x0a\0\0\x01\x0a\0\0\x02\x0f\xa0\0\x35\0\x09\0\0\x41";

/// The blocks as the draft draws them, byte by byte.
#[test]
fn blocks_are_laid_out_as_drawn() {
    #[rustfmt::skip]
    let expected: &[&[u8]] = &[
        // 4.1: type, length, magic, version 1.0, length of the section unknown.
        &[0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 72, 0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0],
        &[0xff; 8],
        &[0, 2, 0, 6], b"x86_64\0\0", &[0, 3, 0, 5], b"Linux\0\0\0",
        &[0, 4, 0, 11], b"flannel-udp\0", &[0, 0, 0, 0], &[0, 0, 0, 72],
        // 4.2: type, length, link type, reserved, snap length.
        &[0, 0, 0, 1, 0, 0, 0, 56, 0, 228, 0, 0, 0, 0, 0xff, 0xff],
        &[0, 2, 0, 8], b"flannel0", &[0, 3, 0, 5], b"inner\0\0\0",
        &[0, 9, 0, 1, 9, 0, 0, 0], &[0, 0, 0, 0], &[0, 0, 0, 56],
        // 4.3: type, length, interface, time, length kept, length; the packet, padded.
        &[0, 0, 0, 6, 0, 0, 0, 100, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 29, 0, 0, 0, 29],
        IP, &[0; 3],
        &[0, 2, 0, 4, 0, 0, 0, 2], &[0, 4, 0, 8, 0, 0, 0, 0, 0, 0, 0, 5],
        &[0, 1, 0, 7], b"carried\0", &[0, 0, 0, 0], &[0, 0, 0, 100],
        // 4.6: type, length, interface, time.
        &[0, 0, 0, 5, 0, 0, 0, 96, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 8, 8],
        &[0, 2, 0, 8, 1, 2, 3, 4, 5, 6, 0, 0], &[0, 3, 0, 8, 1, 2, 3, 4, 5, 6, 8, 8],
        &[0, 5, 0, 8, 0, 0, 0, 0, 0, 0, 0, 5], &[0, 6, 0, 8, 0, 0, 0, 0, 0, 0, 0, 6],
        &[0, 8, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0, 1, 0, 4], b"slow", &[0, 0, 0, 0], &[0, 0, 0, 96],
    ];
    let big = file(Order::Big);
    assert_eq!(big, expected.concat());
    // The other order differs in nothing but the order: each number of the fixed parts is turned.
    let little = file(Order::Little);
    assert_eq!(little.len(), big.len());
    for word in [1, 2, 17, 18, 19].map(|word| word * 4..word * 4 + 4) {
        let turned: Vec<_> = little[word.clone()].iter().rev().copied().collect();
        assert_eq!(turned, big[word.clone()], "{word:?}");
    }
    assert_eq!(little[12..16], [1, 0, 0, 0], "the version is two numbers");
}

#[test]
fn a_text_too_long_for_an_option_is_cut() {
    let mut out = BytesMut::new();
    BlockWriter::new(Order::NATIVE).section(&mut out, "", "", &"x".repeat(70_000));
    assert_eq!(out.len(), 24 + 4 + 65_536 + 4 + 4);
}

/// tshark reads both byte orders, and finds in them what was put in.
#[test]
fn tshark_reads_both_byte_orders() {
    let fields = "frame.interface_name frame.len frame.packet_flags frame.drop_count frame.comment ip.src ip.dst \
                  udp.srcport udp.dstport frame.time_epoch";
    let fields = fields.split_whitespace().flat_map(|field| ["-e", field]);
    let flags: Vec<&str> = ["-r", "-", "-T", "fields"].into_iter().chain(fields).collect();
    for order in [Order::Little, Order::Big] {
        let Some(read) = printed("tshark", &flags, &file(order)) else { return };
        let expected = "flannel0\t29\t0x00000002\t5\tcarried\t10.0.0.1\t10.0.0.2\t4000\t53\t72623859.790382856\n";
        assert_eq!(read, expected, "{order:?}");
    }
}

/// tcpdump reads a file with both interfaces, and packets that are not IPv4 in it.
#[test]
fn tcpdump_reads_both_interfaces() {
    for order in [Order::Little, Order::Big] {
        let writer = BlockWriter::new(order);
        let mut out = BytesMut::new();
        writer.section(&mut out, "x86_64", "Linux", "flannel-udp");
        for name in ["flannel0", "eth0"] {
            let interface =
                Interface { link_type: LINKTYPE_IPV4, snap_len: 65_535, name, description: "" };
            writer.interface(&mut out, &interface);
        }
        for (interface, bytes) in [(0, IP), (1, IP), (0, IP6)] {
            let packet = Packet {
                interface,
                time: 1,
                len: bytes.len() as u32,
                bytes: [bytes, &[]],
                direction: PacketDirection::Outbound,
                lost: 0,
                comment: "carried",
            };
            writer.packet(&mut out, &packet);
        }
        let Some(read) = printed("tcpdump", &["-t", "-n", "-r", "-"], &out) else { return };
        let udp = "IP 10.0.0.1.4000 > 10.0.0.2.53: domain [length 1 < 12] (invalid)\n";
        let ip6 = "IP6 fe80::1 > ff02::2: ICMP6, router solicitation, length 8\n";
        assert_eq!(read, [udp, udp, ip6].concat(), "{order:?}");
    }
}

/// A router solicitation, as the kernel sends it into any device that has an IPv6 address.
const IP6: &[u8] = b"\x60\0\0\0\0\x08\x3a\xff\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\
    \xff\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\x85\0\x7d\x34\0\0\0\0";

/// What a program prints of the packets; `None`, after a line on standard error, where it is missing.
fn printed(program: &str, flags: &[&str], file: &[u8]) -> Option<String> {
    let spawned = Command::new(program)
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        let required = std::env::var_os("FLANNEL_UDP_REQUIRE_ROOT").is_some_and(|v| v != "0");
        assert!(!required, "{program} is missing (scripts/setup.sh)");
        let _ = writeln!(std::io::stderr(), "SKIPPED reading with {program}: it is missing");
        return None;
    };
    child.stdin.take().unwrap().write_all(file).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}
