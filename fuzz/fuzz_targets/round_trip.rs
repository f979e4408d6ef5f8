//! A super-packet, cut and joined again, is itself.
#![no_main]
use arbitrary::Arbitrary;
use flannel_packet::checksum::{self, Sum};
use flannel_packet::coalesce::{Coalescer, MAX_TCP_SEGMENTS, MAX_UDP_SEGMENTS};
use flannel_packet::ipv4::Ipv4;
use flannel_packet::segment::{MAX_HEADER_LEN, Segments};
use flannel_packet::vnet::{GsoType, VnetHeader};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Super {
    udp: bool,
    push: bool,
    fin: bool,
    /// Of TCP's flags those that all segments have.
    ece: bool,
    reserved: u8,
    id: u16,
    sequence: u32,
    window: u16,
    tos: u8,
    ttl: u8,
    fragment_bit: bool,
    size: u16,
    options: Vec<[u8; 4]>,
    payload: Vec<u8>,
}

fuzz_target!(|input: Super| {
    let size = input.size % 1_480 + 1;
    let (packet, vnet) = input.build(size);
    let Ok(segments) = Segments::new(&vnet, &packet) else { panic!("a good packet was refused") };
    let most = if input.udp { MAX_UDP_SEGMENTS } else { MAX_TCP_SEGMENTS };
    if segments.count() < 2 || segments.count() > most {
        return;
    }
    let wire: Vec<Vec<u8>> = (0..segments.count())
        .map(|index| {
            let mut header = [0; MAX_HEADER_LEN];
            let payload = segments.write_header(&packet, index, &mut header);
            [&header[..segments.header_len()], &packet[payload]].concat()
        })
        .collect();
    let mut coalescer = Box::new(Coalescer::<128, 4>::default());
    for packet in &wire {
        coalescer.push(&Ipv4::parse(&packet[..]).unwrap()).unwrap();
    }
    assert_eq!(coalescer.groups().len(), 1);
    let group = coalescer.groups().next().unwrap();
    let mut joined = wire[0].clone();
    assert_eq!(group.finish(&mut joined), vnet);
    for packet in &wire[1..] {
        joined.extend(&packet[group.header_len()..]);
    }
    assert_eq!(joined, packet);
});

impl Super {
    /// The packet as the kernel would have it: the sum of the pseudo-header for a checksum.
    fn build(&self, size: u16) -> (Vec<u8>, VnetHeader) {
        let options: Vec<u8> = if self.udp {
            Vec::new()
        } else {
            self.options.iter().take(10).flatten().copied().collect()
        };
        let mut packet = vec![0x45, self.tos, 0, 0];
        packet.extend(self.id.to_be_bytes());
        let df = if self.fragment_bit { 0x40 } else { 0 };
        packet.extend([df, 0, self.ttl, if self.udp { 17 } else { 6 }, 0, 0]);
        packet.extend([10, 5, 20, 2, 10, 5, 31, 3, 15, 160, 0, 80]);
        let payload = &self.payload[..self.payload.len().min(60_000)];
        let (offset, header_len) = if self.udp {
            packet.extend((8 + payload.len() as u16).to_be_bytes());
            packet.extend([0, 0]);
            (6, 28)
        } else {
            packet.extend(self.sequence.to_be_bytes());
            let flags = 0x10
                | u8::from(self.fin)
                | u8::from(self.push) << 3
                | u8::from(self.ece) << 6;
            let offset = (20 + options.len()) as u8 * 4 | self.reserved & 0x0f;
            packet.extend([0, 0, 0, 9, offset, flags]);
            packet.extend(self.window.to_be_bytes());
            packet.extend([0, 0, 0, 0]);
            packet.extend(&options);
            (16, 40 + options.len())
        };
        packet.extend(payload);
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        let sum = checksum::finish(checksum::sum(&packet[..20], Sum::ZERO));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let pseudo = checksum::fold(Ipv4::parse(&packet[..]).unwrap().pseudo_header());
        packet[20 + offset..22 + offset].copy_from_slice(&pseudo.to_be_bytes());
        let vnet = VnetHeader {
            needs_csum: true,
            gso: if self.udp { GsoType::UdpL4 } else { GsoType::TcpV4 },
            hdr_len: header_len as u16,
            gso_size: size,
            csum_start: 20,
            csum_offset: offset as u16,
            ..VnetHeader::NONE
        };
        (packet, vnet)
    }
}
