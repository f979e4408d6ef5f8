//! Parsing: verdicts and fields.

use flannel_packet::checksum::Sum;
use flannel_packet::icmpv4::Icmpv4;
use flannel_packet::icmpv6::Icmpv6;
use flannel_packet::ipv4::Ipv4;
use flannel_packet::ipv6::Ipv6;
use flannel_packet::tcp::Tcp;
use flannel_packet::udp::Udp;
use proptest::prelude::*;
use smoltcp::wire;

use super::inputs::{FORMS, captured, mutated, packets_of};

/// A case in which another library comes to another verdict, and why ours stands.
struct Exception {
    library: &'static str,
    protocol: &'static str,
    /// Whether it is we who accept the bytes.
    we_accept: bool,
    why: &'static str,
    /// Of the bytes, with zeros behind them, and of their number.
    applies: fn(&[u8; 64], usize) -> bool,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        library: "smoltcp",
        protocol: "ipv4",
        we_accept: false,
        why: "its view does not look at the version: the caller has done so",
        applies: |bytes, _| bytes[0] >> 4 != 4,
    },
    Exception {
        library: "smoltcp",
        protocol: "ipv4",
        we_accept: false,
        why: "a header length below 20 passes its checks, and the addresses lie in the payload",
        applies: |bytes, _| bytes[0] & 15 < 5,
    },
    Exception {
        library: "smoltcp",
        protocol: "ipv6",
        we_accept: false,
        why: "its view does not look at the version: the caller has done so",
        applies: |bytes, _| bytes[0] >> 4 != 6,
    },
    Exception {
        library: "smoltcp",
        protocol: "ipv6",
        we_accept: false,
        why: "it leaves the extension headers to other views, so it cannot miss their end",
        applies: |bytes, _| matches!(bytes[6], 0 | 43 | 44 | 51 | 60 | 135),
    },
    Exception {
        library: "etherparse",
        protocol: "ipv4",
        we_accept: true,
        why: "it reads an authentication header as a part of IPv4; to us it is a protocol above",
        applies: |bytes, _| bytes[9] == 51,
    },
    Exception {
        library: "etherparse",
        protocol: "ipv6",
        we_accept: true,
        why: "it insists that hop-by-hop options come first; receivers must not (RFC 8200 §4.1)",
        applies: |_, _| true,
    },
    Exception {
        library: "etherparse",
        protocol: "ipv6",
        we_accept: false,
        why: "a payload length of 0 is a jumbogram to it, and reaches to the end of the slice",
        applies: |bytes, _| bytes[4..6] == [0, 0],
    },
    Exception {
        library: "etherparse",
        protocol: "ipv6",
        we_accept: false,
        why: "it takes mobility and other headers for a protocol above, whose length it ignores",
        applies: |bytes, _| bytes.contains(&135),
    },
    Exception {
        library: "etherparse",
        protocol: "udp",
        we_accept: false,
        why: "a length of 0 is a jumbogram's (RFC 2675) to it, and no datagram's to us",
        applies: |bytes, _| bytes[4..6] == [0, 0],
    },
    Exception {
        library: "etherparse",
        protocol: "icmpv4",
        we_accept: true,
        why: "it holds timestamp messages to their 20 bytes; our view is of the common header",
        applies: |bytes, _| matches!(bytes[0], 13 | 14),
    },
    Exception {
        library: "smoltcp",
        protocol: "icmpv4",
        we_accept: false,
        why: "types that it does not know need 4 bytes; RFC 792 has no message below 8",
        applies: |_, len| len < 8,
    },
    Exception {
        library: "smoltcp",
        protocol: "icmpv6",
        we_accept: true,
        why: "it refuses types that it has no reader for, and holds the others to their bodies",
        applies: |bytes, _| !matches!(bytes[0], 1..=4 | 128 | 129),
    },
    Exception {
        library: "smoltcp",
        protocol: "icmpv6",
        we_accept: false,
        why: "some messages of RPL (RFC 6550) have 6 bytes; our view is of RFC 4443's eight",
        applies: |bytes, len| bytes[0] == 155 && len < 8,
    },
];

/// Fails unless the verdicts are one or the difference is in the table.
fn compare(library: &str, protocol: &str, bytes: &[u8], ours: bool, theirs: bool) {
    let mut padded = [0; 64];
    padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let excused = EXCEPTIONS.iter().any(|exception| {
        exception.library == library
            && exception.protocol == protocol
            && exception.we_accept == ours
            && !exception.why.is_empty()
            && (exception.applies)(&padded, bytes.len())
    });
    assert!(
        ours == theirs || excused,
        "{protocol}: we say {ours}, {library} says {theirs}: {bytes:02x?}"
    );
}

fn check(bytes: &[u8]) {
    ipv4(bytes);
    ipv6(bytes);
    for offset in [0, 20, 24, 40] {
        if let Some(payload) = bytes.get(offset..) {
            tcp(payload);
            udp(payload);
            icmpv4(payload);
            icmpv6(payload);
        }
    }
}

fn ipv4(bytes: &[u8]) {
    let ours = Ipv4::parse(bytes);
    let theirs = etherparse::Ipv4Slice::from_slice(bytes);
    let wire = wire::Ipv4Packet::new_checked(bytes);
    compare("etherparse", "ipv4", bytes, ours.is_ok(), theirs.is_ok());
    compare("smoltcp", "ipv4", bytes, ours.is_ok(), wire.is_ok());
    let Ok(ours) = ours else { return };
    if let Ok(theirs) = theirs {
        let header = theirs.header();
        assert_eq!(ours.header(), header.slice());
        assert_eq!(ours.source(), header.source_addr());
        assert_eq!(ours.destination(), header.destination_addr());
        assert_eq!((ours.ttl(), ours.id()), (header.ttl(), header.identification()));
        assert_eq!(ours.protocol(), header.protocol().0);
        assert_eq!(ours.fragment_offset(), usize::from(header.fragments_offset().value()) * 8);
        assert_eq!(ours.dont_fragment(), header.dont_fragment());
        assert_eq!(ours.is_fragment(), header.is_fragmenting_payload());
        assert_eq!(ours.options(), header.options());
        // Its header has no place for the reserved flag, and its sum is of a header without it.
        // Nor does it take 0xffff for the other form of 0.
        if bytes[6] & 0x80 == 0 && header.header_checksum() != 0xffff {
            let sum = header.to_header().calc_header_checksum();
            assert_eq!(ours.verify_checksum(), sum == header.header_checksum());
        }
        if ours.protocol() != 51 {
            assert_eq!(ours.payload(), theirs.payload().payload);
        }
    }
    if let Ok(wire) = wire {
        assert_eq!(ours.total_len(), usize::from(wire.total_len()));
        assert_eq!(ours.verify_checksum(), wire.verify_checksum());
        assert_eq!(ours.payload(), wire.payload());
        assert_eq!(ours.more_fragments(), wire.more_frags());
        assert_eq!(ours.tos(), wire.dscp() << 2 | wire.ecn());
    }
}

fn ipv6(bytes: &[u8]) {
    let ours = Ipv6::parse(bytes);
    let theirs = etherparse::Ipv6Slice::from_slice(bytes);
    let wire = wire::Ipv6Packet::new_checked(bytes);
    compare("etherparse", "ipv6", bytes, ours.is_ok(), theirs.is_ok());
    compare("smoltcp", "ipv6", bytes, ours.is_ok(), wire.is_ok());
    let Ok(ours) = ours else { return };
    if let Ok(wire) = wire {
        assert_eq!(ours.source(), wire.src_addr());
        assert_eq!(ours.destination(), wire.dst_addr());
        assert_eq!(ours.total_len(), wire.total_len());
        assert_eq!(ours.hop_limit(), wire.hop_limit());
        assert_eq!(ours.traffic_class(), wire.traffic_class());
        assert_eq!(ours.flow_label(), wire.flow_label());
        assert_eq!(u8::from(wire.next_header()), ours.next_header());
    }
    if let Ok(theirs) = theirs {
        let payload = theirs.payload();
        let jumbo = bytes[4..6] == [0, 0];
        // Its walk ends at headers that ours goes on behind.
        let ends_early = matches!(payload.ip_number.0, 0 | 43 | 60 | 135 | 44 | 51);
        // It takes the payload of a fragment that is not the first for headers, too.
        let walks_on = ours.fragment_offset() != 0;
        if !jumbo && !ends_early && !walks_on {
            assert_eq!((ours.protocol(), ours.payload()), (payload.ip_number.0, payload.payload));
            // It has an atomic fragment for a whole packet.
            let is_part = ours.more_fragments() || ours.fragment_offset() != 0;
            assert_eq!((is_part, ours.is_fragment() || !is_part), (payload.fragmented, true));
        }
    }
}

fn tcp(bytes: &[u8]) {
    let ours = Tcp::parse(bytes);
    let theirs = etherparse::TcpSlice::from_slice(bytes);
    let wire = wire::TcpPacket::new_checked(bytes);
    compare("etherparse", "tcp", bytes, ours.is_ok(), theirs.is_ok());
    compare("smoltcp", "tcp", bytes, ours.is_ok(), wire.is_ok());
    let (Ok(ours), Ok(theirs), Ok(wire)) = (ours, theirs, wire) else { return };
    assert_eq!((ours.source_port(), ours.destination_port()), (wire.src_port(), wire.dst_port()));
    assert_eq!((ours.sequence(), ours.window()), (theirs.sequence_number(), wire.window_len()));
    assert_eq!(ours.acknowledgment(), theirs.acknowledgment_number());
    assert_eq!(ours.urgent_pointer(), theirs.urgent_pointer());
    assert_eq!(ours.header_len(), usize::from(wire.header_len()));
    assert_eq!((ours.payload(), ours.option_bytes()), (theirs.payload(), theirs.options()));
    use flannel_packet::tcp::Flags;
    let flags = ours.flags();
    for (flag, theirs) in [
        (Flags::FIN, theirs.fin()),
        (Flags::SYN, theirs.syn()),
        (Flags::RST, theirs.rst()),
        (Flags::PSH, theirs.psh()),
        (Flags::ACK, theirs.ack()),
        (Flags::URG, theirs.urg()),
        (Flags::ECE, theirs.ece()),
        (Flags::CWR, theirs.cwr()),
    ] {
        assert_eq!(flags.contains(flag), theirs);
    }
    assert_eq!(ours.reserved() & 1 != 0, theirs.ns());
}

fn udp(bytes: &[u8]) {
    let ours = Udp::parse(bytes);
    let theirs = etherparse::UdpSlice::from_slice(bytes);
    let wire = wire::UdpPacket::new_checked(bytes);
    compare("etherparse", "udp", bytes, ours.is_ok(), theirs.is_ok());
    compare("smoltcp", "udp", bytes, ours.is_ok(), wire.is_ok());
    let (Ok(ours), Ok(wire)) = (ours, wire) else { return };
    assert_eq!((ours.source_port(), ours.destination_port()), (wire.src_port(), wire.dst_port()));
    assert_eq!((ours.payload(), ours.checksum()), (wire.payload(), wire.checksum()));
}

fn icmpv4(bytes: &[u8]) {
    let ours = Icmpv4::parse(bytes);
    let theirs = etherparse::Icmpv4Slice::from_slice(bytes);
    let wire = wire::Icmpv4Packet::new_checked(bytes);
    compare("etherparse", "icmpv4", bytes, ours.is_ok(), theirs.is_ok());
    compare("smoltcp", "icmpv4", bytes, ours.is_ok(), wire.is_ok());
    let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return };
    assert_eq!((ours.kind(), ours.code()), (theirs.type_u8(), theirs.code_u8()));
    assert_eq!((ours.checksum(), ours.rest_of_header()), (theirs.checksum(), theirs.bytes5to8()));
    if let Ok(wire) = wire {
        assert_eq!(ours.verify_checksum(), wire.verify_checksum());
    }
}

fn icmpv6(bytes: &[u8]) {
    let ours = Icmpv6::parse(bytes);
    let theirs = etherparse::Icmpv6Slice::from_slice(bytes);
    let wire = wire::Icmpv6Packet::new_checked(bytes);
    compare("etherparse", "icmpv6", bytes, ours.is_ok(), theirs.is_ok());
    compare("smoltcp", "icmpv6", bytes, ours.is_ok(), wire.is_ok());
    let (Ok(ours), Ok(theirs)) = (ours, theirs) else { return };
    assert_eq!((ours.kind(), ours.code()), (theirs.type_u8(), theirs.code_u8()));
    assert_eq!((ours.checksum(), ours.rest_of_header()), (theirs.checksum(), theirs.bytes5to8()));
    if let (Ok(wire), Some((id, sequence))) = (wire, ours.echo()) {
        assert_eq!((id, sequence), (wire.echo_ident(), wire.echo_seq_no()));
    }
}

/// Checksums of what a packet carries, by smoltcp's own arithmetic.
fn transport_checksums(bytes: &[u8]) {
    if let Ok(ip) = Ipv4::parse(bytes) {
        let (from, to) = (ip.source().into(), ip.destination().into());
        checksums(ip.protocol(), ip.payload(), ip.pseudo_header(), from, to);
    }
    if let Ok(ip) = Ipv6::parse(bytes) {
        let (from, to) = (ip.source().into(), ip.destination().into());
        checksums(ip.protocol(), ip.payload(), ip.pseudo_header(), from, to);
    }
}

fn checksums(
    protocol: u8,
    payload: &[u8],
    pseudo: Sum,
    from: wire::IpAddress,
    to: wire::IpAddress,
) {
    if let (6, Ok(ours), Ok(wire)) =
        (protocol, Tcp::parse(payload), wire::TcpPacket::new_checked(payload))
    {
        assert_eq!(ours.verify_checksum(pseudo), wire.verify_checksum(&from, &to));
    }
    // A datagram shorter than its packet has another pseudo-header; its length is what counts.
    // Over IPv6 there is none without a checksum, which is for the caller of ours to see.
    if let (17, Ok(ours), Ok(wire)) =
        (protocol, Udp::parse(payload), wire::UdpPacket::new_checked(payload))
        && ours.total_len() == payload.len()
        && !(ours.checksum() == 0 && matches!(from, wire::IpAddress::Ipv6(_)))
    {
        assert_eq!(ours.verify_checksum(pseudo), wire.verify_checksum(&from, &to));
    }
    if let (58, Ok(ours), Ok(wire), wire::IpAddress::Ipv6(from), wire::IpAddress::Ipv6(to)) =
        (protocol, Icmpv6::parse(payload), wire::Icmpv6Packet::new_checked(payload), from, to)
    {
        assert_eq!(ours.verify_checksum(pseudo), wire.verify_checksum(&from, &to));
    }
}

#[test]
fn captured_packets_are_read_alike() {
    for packet in captured().into_iter().chain(packets_of(FORMS)) {
        check(&packet);
        transport_checksums(&packet);
        for len in 0..packet.len().min(200) {
            check(&packet[..len]);
        }
        let mut reserved_flag = packet.clone();
        reserved_flag[6] |= 0x80;
        check(&reserved_flag);
    }
}

/// Each byte that says how to read the others takes every value, so that none waits for chance.
#[test]
fn headers_with_any_one_byte_are_read_alike() {
    for packet in captured() {
        for at in (0..10).chain([20, 21, 24, 25, 32, 40, 41, 44, 45, 52]) {
            for value in 0..=255 {
                let mut packet = packet.clone();
                if let Some(byte) = packet.get_mut(at) {
                    *byte = value;
                    check(&packet);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn changed_packets_are_read_alike(packet in mutated()) {
        check(&packet);
        transport_checksums(&packet);
    }

    #[test]
    fn noise_is_refused_alike(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        check(&bytes);
    }
}
