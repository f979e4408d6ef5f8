//! IPv4 packets built and checked independently of the packet library under test, checksums included.

use std::net::Ipv4Addr;

/// Protocol numbers.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
/// For experiments (RFC 3692): no host answers it.
pub const EXPERIMENT: u8 = 253;

/// The fields of an IPv4 header.
#[derive(Clone, Debug)]
pub struct Ip {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub ttl: u8,
    pub id: u16,
    pub dont_fragment: bool,
    /// A multiple of four bytes.
    pub options: Vec<u8>,
}

impl Ip {
    /// A header with TTL 64, DF set.
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Self {
        Self { source, destination, protocol, ttl: 64, id: 1, dont_fragment: true, options: vec![] }
    }

    /// The whole packet with this payload.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let header = 20 + self.options.len();
        let mut packet = vec![0x40 | (header / 4) as u8, 0];
        packet.extend(((header + payload.len()) as u16).to_be_bytes());
        packet.extend(self.id.to_be_bytes());
        packet.extend([if self.dont_fragment { 0x40 } else { 0 }, 0]);
        packet.extend([self.ttl, self.protocol, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(&self.options);
        let checksum = !sum(&packet, 0);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet.extend(payload);
        packet
    }

    /// A UDP packet between two ports.
    pub fn udp(&self, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(ports.0.to_be_bytes());
        segment.extend(ports.1.to_be_bytes());
        segment.extend(((8 + payload.len()) as u16).to_be_bytes());
        segment.extend([0, 0]);
        segment.extend(payload);
        let checksum = match !sum(&segment, self.pseudo(segment.len())) {
            0 => 0xffff,
            checksum => checksum,
        };
        segment[6..8].copy_from_slice(&checksum.to_be_bytes());
        self.packet(&segment)
    }

    fn pseudo(&self, len: usize) -> u16 {
        pseudo(self.source, self.destination, self.protocol, len)
    }

    /// The whole packet with these layer-4 bytes, whose checksum at offset `at` is 0 and is filled in.
    pub fn sealed(&self, mut segment: Vec<u8>, at: usize) -> Vec<u8> {
        let checksum = !sum(&segment, self.pseudo(segment.len()));
        segment[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        self.packet(&segment)
    }
}

/// The one's complement sum (RFC 1071).
pub fn sum(bytes: &[u8], initial: u16) -> u16 {
    let mut sum = u64::from(initial);
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Checks that `packet` is exactly one IPv4 packet whose checksums are right. Returns the layer-4 bytes.
pub fn whole(packet: &[u8]) -> Result<&[u8], String> {
    if packet.len() < 20 || packet[0] >> 4 != 4 {
        return Err(format!("no IPv4 packet: {packet:02x?}"));
    }
    let header = usize::from(packet[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    if total != packet.len() || header < 20 || header > total {
        return Err(format!("{} bytes hold a packet of {total}", packet.len()));
    }
    if sum(&packet[..header], 0) != 0xffff {
        return Err(format!("wrong header checksum: {:02x?}", &packet[..header]));
    }
    let segment = &packet[header..];
    let pseudo = pseudo(source(packet), destination(packet), packet[9], segment.len());
    let good = match packet[9] {
        _ if packet[6] & 0x3f != 0 || packet[7] != 0 => true, // a fragment's checksum covers the other fragments too
        1 => sum(segment, 0) == 0xffff,
        17 if segment[6..8] == [0, 0] => true,
        6 | 17 => sum(segment, pseudo) == 0xffff,
        _ => true,
    };
    if good { Ok(segment) } else { Err(format!("wrong checksum, protocol {}", packet[9])) }
}

/// The source in an IPv4 header.
pub fn source(packet: &[u8]) -> Ipv4Addr {
    Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15])
}

/// The destination in an IPv4 header.
pub fn destination(packet: &[u8]) -> Ipv4Addr {
    Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19])
}

fn pseudo(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: usize) -> u16 {
    let mut header = source.octets().to_vec();
    header.extend(destination.octets());
    header.extend([0, protocol]);
    header.extend((len as u16).to_be_bytes());
    sum(&header, 0)
}
