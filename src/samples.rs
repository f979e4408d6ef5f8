//! Packets for unit tests.

use std::net::Ipv4Addr;

use crate::packet::{ipv4, protocol, udp};

/// A UDP datagram over IPv4 to port 53, both checksums right.
pub(crate) fn udp(payload: &[u8]) -> Vec<u8> {
    udp_between((4000, 53), 0, payload)
}

/// A UDP datagram over IPv4 with source and destination port and the IP identification `id`.
pub(crate) fn udp_between(ports: (u16, u16), id: u16, payload: &[u8]) -> Vec<u8> {
    let (source, destination) = (Ipv4Addr::new(10, 5, 20, 2), Ipv4Addr::new(10, 5, 31, 3));
    let udp = udp::Header::new(ports.0, ports.1, payload.len() as u16);
    let ip = ipv4::Header::new(protocol::UDP, source, destination, udp.total_len);
    let ip = ipv4::Header { id, ..ip };
    let udp = udp.with_checksum(ip.pseudo_header(), payload);
    [&ip.to_bytes()[..], &udp.to_bytes(), payload].concat()
}
