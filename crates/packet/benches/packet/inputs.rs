//! The same packets for every library, made by `etherparse`, which is not measured on them except in
//! parsing and checksums.

use etherparse::{PacketBuilder, TcpOptionElement};

/// Payload bytes of a segment in the overlay of a 1,500 byte underlay: 1,472 less the headers.
pub(crate) const SEGMENT: usize = 1_420;

/// A TCP segment over IPv4 with timestamps, checksums right.
pub(crate) fn tcp(port: u16, id: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut ip = etherparse::Ipv4Header::new(
        0,
        64,
        etherparse::IpNumber::TCP,
        [10, 5, 20, 2],
        [10, 5, 31, 3],
    )
    .unwrap();
    ip.identification = id;
    let builder = PacketBuilder::ip(etherparse::IpHeaders::Ipv4(ip, Default::default()))
        .tcp(port, 80, sequence, 502)
        .ack(77)
        .options(&[
            TcpOptionElement::Noop,
            TcpOptionElement::Noop,
            TcpOptionElement::Timestamp(1, 2),
        ])
        .unwrap();
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).unwrap();
    packet
}

/// A UDP datagram over IPv4, checksums right.
pub(crate) fn udp(port: u16, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut ip = etherparse::Ipv4Header::new(
        0,
        64,
        etherparse::IpNumber::UDP,
        [10, 5, 20, 2],
        [10, 5, 31, 3],
    )
    .unwrap();
    ip.identification = id;
    let builder =
        PacketBuilder::ip(etherparse::IpHeaders::Ipv4(ip, Default::default())).udp(port, 53);
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).unwrap();
    packet
}

/// Bytes without a pattern that a checksum could profit from.
pub(crate) fn payload(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491u32;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .collect()
}

/// `count` full segments of `flows` flows in turn.
pub(crate) fn train(count: usize, flows: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|index| {
            let (flow, place) = (index % flows, index / flows);
            tcp(4_000 + flow as u16, place as u16, (place * SEGMENT) as u32, &payload(SEGMENT))
        })
        .collect()
}

/// `count` datagrams of 18 bytes of one flow.
pub(crate) fn small(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| udp(4_000, index as u16, &payload(18))).collect()
}
