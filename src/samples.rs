//! Packets for unit tests.

use std::net::Ipv4Addr;

use crate::packet::checksum::{self, Sum};

/// A UDP datagram over IPv4 to port 53, both checksums right.
pub(crate) fn udp(payload: &[u8]) -> Vec<u8> {
    udp_between((4000, 53), 0, payload)
}

/// A UDP datagram over IPv4 with source and destination port and the IP identification `id`.
pub(crate) fn udp_between(ports: (u16, u16), id: u16, payload: &[u8]) -> Vec<u8> {
    let udp_len = 8 + payload.len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp_len).to_be_bytes());
    packet.extend(id.to_be_bytes());
    packet.extend([0x40, 0, 64, 17, 0, 0]);
    packet.extend(Ipv4Addr::new(10, 5, 20, 2).octets());
    packet.extend(Ipv4Addr::new(10, 5, 31, 3).octets());
    let header_checksum = checksum::finish(Sum::ZERO.add_bytes(&packet));
    packet[10..12].copy_from_slice(&header_checksum.to_be_bytes());
    packet.extend(ports.0.to_be_bytes());
    packet.extend(ports.1.to_be_bytes());
    packet.extend(udp_len.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    let udp_checksum = {
        let ip = crate::packet::ipv4::Ipv4::parse(&packet[..]).expect("a valid packet");
        checksum::finish(ip.pseudo_header().add_bytes(ip.payload()))
    };
    packet[26..28].copy_from_slice(&udp_checksum.to_be_bytes());
    packet
}
