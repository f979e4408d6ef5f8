//! Packets for tests, and an independent checksum to judge them by.

use std::net::Ipv4Addr;

pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 5, 20, 2);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 5, 31, 3);

/// The fields of a TCP segment.
#[derive(Clone, Debug)]
pub(crate) struct TcpSample {
    pub(crate) ports: (u16, u16),
    pub(crate) id: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    pub(crate) flags: u8,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl TcpSample {
    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.ports.0.to_be_bytes());
        tcp.extend(self.ports.1.to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgment.to_be_bytes());
        tcp.extend([((20 + self.options.len()) / 4 * 16) as u8, self.flags]);
        tcp.extend([0x01, 0xf6, 0, 0, 0, 0]);
        tcp.extend(&self.options);
        tcp.extend(&self.payload);
        ipv4(6, self.id, tcp, Some(16))
    }
}

/// A TCP segment without options.
pub(crate) fn tcp(sequence: u32, payload: &[u8], flags: u8) -> Vec<u8> {
    TcpSample {
        ports: (4000, 80),
        id: 7,
        sequence,
        acknowledgment: 99,
        flags,
        options: Vec::new(),
        payload: payload.to_vec(),
    }
    .packet()
}

/// A UDP datagram to port 53.
pub(crate) fn udp(payload: &[u8]) -> Vec<u8> {
    udp_between((4000, 53), 0, payload)
}

pub(crate) fn udp_between(ports: (u16, u16), id: u16, payload: &[u8]) -> Vec<u8> {
    let mut udp = Vec::new();
    udp.extend(ports.0.to_be_bytes());
    udp.extend(ports.1.to_be_bytes());
    udp.extend((8 + payload.len() as u16).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    ipv4(17, id, udp, Some(6))
}

/// An ICMP message of eight bytes and some data.
pub(crate) fn icmp(kind: u8, code: u8) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 1, 0, 2];
    message.extend(b"abcdefgh");
    let sum = reference_checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(1, 3, message, None)
}

/// A packet with DF and a time to live of 64; completes the checksum at `field` of its payload.
pub(crate) fn ipv4(protocol: u8, id: u16, payload: Vec<u8>, field: Option<usize>) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend(id.to_be_bytes());
    packet.extend([0x40, 0, 64, protocol, 0, 0]);
    packet.extend(CLIENT.octets());
    packet.extend(SERVER.octets());
    packet.extend(payload);
    fix_ip_checksum(&mut packet);
    if let Some(field) = field {
        fix_transport_checksum(&mut packet, field);
    }
    packet
}

/// An IPv6 packet whose payload's checksum is at `field`.
pub(crate) fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0x12, 0x34, 0x56];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend(payload);
    packet
}

pub(crate) fn fix_ip_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let len = usize::from(packet[0] & 15) * 4;
    let sum = reference_checksum(&packet[..len]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Completes the checksum of TCP or UDP over IPv4 without options.
pub(crate) fn fix_transport_checksum(packet: &mut [u8], field: usize) {
    packet[20 + field..22 + field].fill(0);
    let sum = transport_checksum(packet);
    packet[20 + field..22 + field].copy_from_slice(&sum.to_be_bytes());
}

/// The checksum over pseudo-header and payload as they stand: 0 if the checksum in it is right.
pub(crate) fn transport_checksum(packet: &[u8]) -> u16 {
    let mut covered = packet[12..20].to_vec();
    covered.extend([0, packet[9]]);
    covered.extend((packet.len() as u16 - 20).to_be_bytes());
    covered.extend(&packet[20..]);
    match reference_checksum(&covered) {
        0 if packet[9] == 17 && packet[26..28] == [0, 0] => 0xffff,
        sum => sum,
    }
}

/// RFC 1071 word by word, folding at every step: slow and plain.
pub(crate) fn reference_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The bytes with these hexadecimal digits.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
