use proptest::prelude::*;

use super::super::samples::{self, TcpSample};
use super::*;

fn cut(vnet: &VnetHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    let segments = Segments::new(vnet, packet).unwrap();
    (0..segments.count())
        .map(|index| {
            let mut header = [0xa5; MAX_HEADER_LEN];
            let payload = segments.write_header(packet, index, &mut header);
            let wire = [&header[..segments.header_len()], &packet[payload]].concat();
            let last = index + 1 == segments.count();
            assert_eq!(wire.len(), if last { segments.last_len() } else { segments.full_len() });
            assert!(header[segments.header_len()..].iter().all(|byte| *byte == 0xa5));
            wire
        })
        .collect()
}

fn tso(size: u16) -> VnetHeader {
    VnetHeader {
        needs_csum: true,
        gso: GsoType::TcpV4,
        gso_size: size,
        csum_start: 20,
        csum_offset: 16,
        ..VnetHeader::NONE
    }
}

fn uso(size: u16) -> VnetHeader {
    VnetHeader { gso: GsoType::UdpL4, csum_offset: 6, ..tso(size) }
}

fn is_valid(packet: &[u8]) -> bool {
    samples::reference_checksum(&packet[..20]) == 0 && samples::transport_checksum(packet) == 0
}

#[test]
fn flags_are_where_they_belong() {
    // CWR, PSH, ACK, FIN.
    let packet = samples::tcp(0xffff_ff00, &[7; 1000], 0x99);
    let wire = cut(&tso(300), &packet);
    let flags: Vec<u8> = wire.iter().map(|packet| packet[33]).collect();
    assert_eq!(flags, [0x90, 0x10, 0x10, 0x19]);
    for (index, packet) in wire.iter().enumerate() {
        let ip = Ipv4::parse(&packet[..]).unwrap();
        let tcp = Tcp::parse(ip.payload()).unwrap();
        assert_eq!(ip.id(), 7 + index as u16);
        assert_eq!(tcp.sequence(), 0xffff_ff00u32.wrapping_add(300 * index as u32));
        assert_eq!(tcp.payload().len(), if index == 3 { 100 } else { 300 });
        assert!(is_valid(packet), "{index}");
    }
}

/// RFC 3168's ECE and RFC 9768's AE stand on every segment, CWR on the first only, as the kernel has
/// it (`tests/kernel` asks it).
#[test]
fn ecn_of_both_kinds_is_kept() {
    let mut packet = samples::tcp(1, &[7; 1000], 0xd8);
    packet[32] |= 0x0f;
    samples::fix_transport_checksum(&mut packet, 16);
    for ecn in [false, true] {
        let wire = cut(&VnetHeader { ecn, ..tso(300) }, &packet);
        let flags: Vec<_> = wire.iter().map(|packet| (packet[32] & 0x0f, packet[33])).collect();
        assert_eq!(flags, [(0x0f, 0xd0), (0x0f, 0x50), (0x0f, 0x50), (0x0f, 0x58)]);
        assert!(wire.iter().all(|packet| is_valid(packet)));
    }
}

#[test]
fn one_segment_keeps_all_flags() {
    for size in [1000, 2000] {
        let packet = samples::tcp(1, &[7; 1000], 0x99);
        assert_eq!(cut(&tso(size), &packet), [packet]);
    }
    // No payload at all is still one packet.
    let packet = samples::tcp(1, &[], 0x10);
    assert_eq!(cut(&tso(100), &packet), [packet]);
}

#[test]
fn whole_packets_pass_untouched() {
    for packet in [samples::icmp(8, 0), samples::udp(b"x"), vec![1, 2, 3], Vec::new()] {
        let segments = Segments::new(&VnetHeader::NONE, &packet).unwrap();
        assert_eq!((segments.count(), segments.header_len()), (1, 0));
        assert_eq!((segments.full_len(), segments.last_len()), (packet.len(), packet.len()));
        assert_eq!(segments.write_header(&packet, 0, &mut []), 0..packet.len());
        assert_eq!(segments.write_header(&packet, 1, &mut []), 0..0);
        let mut same = packet.clone();
        complete_checksum(&VnetHeader::NONE, &mut same).unwrap();
        assert_eq!(same, packet);
    }
}

#[test]
fn partial_checksums_are_completed() {
    let partial = |mut packet: Vec<u8>, field: usize| {
        let len = packet.len() as u16 - 20;
        let pseudo = checksum::pseudo_v4(samples::CLIENT, samples::SERVER, packet[9], len);
        packet[20 + field..22 + field].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
        packet
    };
    for (packet, field) in [(samples::tcp(1, b"", 2), 16), (samples::udp(b"odd"), 6)] {
        let vnet =
            VnetHeader { gso: GsoType::None, gso_size: 0, csum_offset: field as u16, ..tso(0) };
        let mut asked = partial(packet.clone(), field);
        assert_eq!(cut(&vnet, &asked), std::slice::from_ref(&packet));
        complete_checksum(&vnet, &mut asked).unwrap();
        assert_eq!(asked, packet);
    }
}

#[test]
fn a_udp_checksum_is_never_zero() {
    // The last two bytes are chosen so that the sum comes out as 0.
    let mut packet = samples::udp(&[0; 4]);
    let sum = u16::from_be_bytes([packet[26], packet[27]]);
    packet[30..32].copy_from_slice(&sum.to_be_bytes());
    let vnet = VnetHeader { gso: GsoType::None, gso_size: 0, ..uso(0) };
    let pseudo = checksum::pseudo_v4(samples::CLIENT, samples::SERVER, 17, 12);
    packet[26..28].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
    assert_eq!(cut(&vnet, &packet)[0][26..28], [0xff, 0xff]);
    assert_eq!(cut(&uso(4), &packet)[0][26..28], [0xff, 0xff]);
    complete_checksum(&vnet, &mut packet).unwrap();
    assert_eq!(packet[26..28], [0xff, 0xff]);
}

#[test]
fn v6_gets_lengths_and_checksums() {
    let mut segment = samples::hex("0001 0050 00000007 00000008 5018 0100 0000 0000");
    segment.extend([9; 700]);
    let extension = [&[protocol::TCP, 0, 1, 4, 0, 0, 0, 0][..], &segment].concat();
    for (payload, next, start) in
        [(segment, protocol::TCP, 40), (extension, protocol::DESTINATION_OPTIONS, 48)]
    {
        let packet = samples::ipv6(next, &payload);
        let vnet = VnetHeader { gso: GsoType::TcpV6, csum_start: start, ..tso(300) };
        let wire = cut(&vnet, &packet);
        assert_eq!(wire.len(), 3);
        for packet in &wire {
            let ip = Ipv6::parse(&packet[..]).unwrap();
            assert_eq!(ip.total_len(), packet.len());
            assert!(Tcp::parse(ip.payload()).unwrap().verify_checksum(ip.pseudo_header()));
        }
        let partial = VnetHeader { gso: GsoType::None, ..vnet };
        assert_eq!(Segments::new(&partial, &packet).unwrap().count(), 1);
    }
    let mut datagram = samples::hex("0fa0 0035 0000 0000");
    datagram.extend([3; 25]);
    let vnet = VnetHeader { csum_start: 40, ..uso(10) };
    let wire = cut(&vnet, &samples::ipv6(protocol::UDP, &datagram));
    assert_eq!(wire.iter().map(Vec::len).collect::<Vec<_>>(), [58, 58, 53]);
    for packet in &wire {
        let ip = Ipv6::parse(&packet[..]).unwrap();
        let udp = Udp::parse(ip.payload()).unwrap();
        assert!(udp.checksum() != 0 && udp.verify_checksum(ip.pseudo_header()));
    }
}

/// The kernel segments no packet with a fragment header, of whatever kind and number.
#[test]
fn nothing_behind_a_fragment_header_is_cut() {
    let mut segment = samples::hex("0001 0050 00000007 00000008 5018 0100 0000 0000");
    segment.extend([9; 700]);
    let fragment = |next: u8, more: u8| [next, 0, 0, more, 0, 0, 0, 1];
    let (tcp, fragments) = (protocol::TCP, protocol::FRAGMENT);
    for headers in [
        [&fragment(tcp, 1)[..], &[]],
        [&fragment(tcp, 0), &[]],
        [&fragment(fragments, 1), &fragment(tcp, 0)],
        [&fragment(fragments, 0), &fragment(tcp, 1)],
        [&fragment(fragments, 0), &fragment(tcp, 0)],
    ] {
        let headers = headers.concat();
        let packet = samples::ipv6(fragments, &[&headers[..], &segment].concat());
        let start = 40 + headers.len() as u16;
        let vnet = VnetHeader { gso: GsoType::TcpV6, csum_start: start, ..tso(300) };
        let refused = Segments::new(&vnet, &packet).map(|_| ());
        assert_eq!(refused, Err(SegmentError::Fragment), "{headers:?}");
    }
}

#[test]
fn refuses_claims_that_the_packet_denies() {
    let packet = samples::tcp(1, &[0; 100], 0x10);
    let refuse = |vnet: VnetHeader, packet: &[u8]| Segments::new(&vnet, packet).unwrap_err();
    let changed = |at: usize, value: u8| {
        let mut packet = packet.clone();
        packet[at] = value;
        packet
    };
    assert_eq!(refuse(tso(0), &packet), SegmentError::ZeroSize);
    assert_eq!(refuse(uso(10), &packet), SegmentError::WrongProtocol);
    assert_eq!(refuse(tso(10), &samples::udp(b"x")), SegmentError::WrongProtocol);
    assert_eq!(refuse(tso(10), &changed(3, 100)), SegmentError::BadLength);
    assert_eq!(refuse(tso(10), &changed(6, 0x20)), SegmentError::Fragment);
    let ufo = VnetHeader { gso: GsoType::UdpFragments, ..tso(10) };
    assert_eq!(refuse(ufo, &packet), SegmentError::UnsupportedType);
    let moved = VnetHeader { csum_start: 22, ..tso(10) };
    assert_eq!(refuse(moved, &packet), SegmentError::BadChecksumField);
    let v6 = VnetHeader { gso: GsoType::TcpV6, ..tso(10) };
    assert!(matches!(refuse(v6, &packet), SegmentError::Malformed(_)));
    assert!(matches!(refuse(tso(10), &changed(32, 0x40)), SegmentError::Malformed(_)));
    assert!(matches!(refuse(uso(10), &[]), SegmentError::Malformed(_)));

    let partial = |start, offset| VnetHeader {
        gso: GsoType::None,
        csum_start: start,
        csum_offset: offset,
        ..tso(10)
    };
    assert_eq!(refuse(partial(18, 16), &packet), SegmentError::BadChecksumField);
    assert_eq!(refuse(partial(20, 119), &packet), SegmentError::BadChecksumField);
    assert_eq!(refuse(partial(20, 118), &packet), SegmentError::HeaderTooLong);
    assert_eq!(refuse(partial(u16::MAX, u16::MAX), &packet), SegmentError::BadChecksumField);
    let mut whole = packet.clone();
    assert_eq!(complete_checksum(&tso(10), &mut whole), Err(SegmentError::UnsupportedType));
    for error in
        [SegmentError::ZeroSize, SegmentError::Malformed(super::super::Malformed::TooShort)]
    {
        assert!(!error.to_string().is_empty());
    }
}

proptest! {
    #[test]
    fn payloads_concatenate_and_checksums_hold(
        len in 0usize..5_000,
        size in 1u16..2_000,
        options in 0usize..=10,
        flags in any::<u8>(),
        sequence in any::<u32>(),
        id in any::<u16>(),
    ) {
        let payload: Vec<u8> = (0..len).map(|index| (index * 7 % 251) as u8).collect();
        let packet = TcpSample {
            ports: (1, 2), id, sequence, acknowledgment: 3, flags,
            options: vec![1; options * 4], payload: payload.clone(),
        }.packet();
        let wire = cut(&tso(size), &packet);
        let mut joined: Vec<u8> = Vec::new();
        for (index, packet) in wire.iter().enumerate() {
            prop_assert!(is_valid(packet));
            let ip = Ipv4::parse(&packet[..]).unwrap();
            let tcp = Tcp::parse(ip.payload()).unwrap();
            prop_assert_eq!(ip.id(), id.wrapping_add(index as u16));
            prop_assert_eq!(tcp.sequence(), sequence.wrapping_add(joined.len() as u32));
            joined.extend(tcp.payload());
        }
        prop_assert_eq!(joined, payload);
    }

    #[test]
    fn datagrams_too(len in 0usize..5_000, size in 1u16..2_000) {
        let payload: Vec<u8> = (0..len).map(|index| (index * 11 % 253) as u8).collect();
        let mut joined: Vec<u8> = Vec::new();
        for packet in cut(&uso(size), &samples::udp(&payload)) {
            prop_assert!(is_valid(&packet));
            joined.extend(&packet[28..]);
        }
        prop_assert_eq!(joined, payload);
    }

    #[test]
    fn nothing_panics(
        vnet in proptest::array::uniform10(any::<u8>()),
        packet in proptest::collection::vec(any::<u8>(), 0..200),
        v6 in any::<bool>(),
    ) {
        let mut packet = packet;
        if let [first, ..] = &mut packet[..] {
            *first = if v6 { 0x60 } else { 0x45 };
        }
        if packet.len() > 20 {
            let len = (packet.len() - if v6 { 40.min(packet.len()) } else { 0 }) as u16;
            let at = if v6 { 4 } else { 2 };
            packet[at..at + 2].copy_from_slice(&len.to_be_bytes());
        }
        if let Ok(vnet) = VnetHeader::decode(&vnet) {
            if let Ok(segments) = Segments::new(&vnet, &packet) {
                for index in 0..=segments.count() {
                    segments.write_header(&packet, index, &mut [0; MAX_HEADER_LEN]);
                    segments.write_header(&[], index, &mut [0; 4]);
                }
            }
            let _ = complete_checksum(&vnet, &mut packet);
        }
    }
}
