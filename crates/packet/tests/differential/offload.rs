//! Cutting and joining, against `tun-rs`.

use flannel_packet::coalesce::Coalescer;
use flannel_packet::ipv4::Ipv4;
use flannel_packet::vnet::{GsoType, VnetHeader};
use proptest::prelude::*;

use super::cut::cut;

/// A super-packet as the kernel hands it over, but for the checksum field, which none of us reads.
fn super_packet(
    tcp: bool,
    flags: u8,
    id: u16,
    sequence: u32,
    options: usize,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0];
    packet.extend(id.to_be_bytes());
    packet.extend([0x40, 0, 64, if tcp { 6 } else { 17 }, 0, 0, 10, 5, 20, 2, 10, 5, 31, 3]);
    packet.extend([15, 160, 0, 80]);
    if tcp {
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 9, (20 + options * 4) as u8 * 4, flags, 1, 0xf6, 0, 0, 0, 0]);
        packet.extend(vec![1; options * 4]);
    } else {
        packet.extend((8 + payload.len() as u16).to_be_bytes());
        packet.extend([0, 0]);
    }
    packet.extend(payload);
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    let sum = !tun_rs::checksum(&packet[..20], 0);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn vnet(tcp: bool, header_len: usize, size: u16) -> VnetHeader {
    VnetHeader {
        needs_csum: true,
        gso: if tcp { GsoType::TcpV4 } else { GsoType::UdpL4 },
        hdr_len: header_len as u16,
        gso_size: size,
        csum_start: 20,
        csum_offset: if tcp { 16 } else { 6 },
        ..VnetHeader::NONE
    }
}

fn cut_by_tun_rs(vnet: &VnetHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    let header = tun_rs::VirtioNetHdr {
        flags: 1,
        gso_type: if vnet.gso == GsoType::TcpV4 { 1 } else { 5 },
        hdr_len: vnet.hdr_len,
        gso_size: vnet.gso_size,
        csum_start: vnet.csum_start,
        csum_offset: vnet.csum_offset,
    };
    let mut out = vec![vec![0u8; 2_000]; 700];
    let mut sizes = vec![0; 700];
    let mut input = packet.to_vec();
    let count =
        tun_rs::gso_split(&mut input, header, &mut out, &mut sizes, 0, false).expect("splits");
    out.into_iter().zip(sizes).take(count).map(|(out, size)| out[..size].to_vec()).collect()
}

proptest! {
    #[test]
    fn cuts_are_the_same(
        tcp in any::<bool>(),
        flags in any::<u8>(),
        id in any::<u16>(),
        sequence in any::<u32>(),
        options in 0usize..=10,
        len in 1usize..60_000,
        size in 100u16..1_500,
    ) {
        let options = if tcp { options } else { 0 };
        let payload: Vec<u8> = (0..len).map(|index| (index * 7 % 251) as u8).collect();
        let packet = super_packet(tcp, flags, id, sequence, options, &payload);
        let vnet = vnet(tcp, if tcp { 40 + options * 4 } else { 28 }, size);
        prop_assert_eq!(cut(&vnet, &packet), cut_by_tun_rs(&vnet, &packet));
    }

    #[test]
    fn trains_are_joined_to_the_same(
        tcp in any::<bool>(),
        push in any::<bool>(),
        id in any::<u16>(),
        sequence in any::<u32>(),
        options in 0usize..=10,
        len in 2usize..40_000,
        size in 700u16..1_400,
    ) {
        prop_assume!(len > usize::from(size));
        let options = if tcp { options } else { 0 };
        let payload: Vec<u8> = (0..len).map(|index| (index * 7 % 251) as u8).collect();
        let flags = if push { 0x18 } else { 0x10 };
        let packet = super_packet(tcp, flags, id, sequence, options, &payload);
        let header_len = if tcp { 40 + options * 4 } else { 28 };
        let batch = cut(&vnet(tcp, header_len, size), &packet);

        let mut coalescer = Box::new(Coalescer::<128>::default());
        for packet in &batch {
            coalescer.push(&Ipv4::parse(&packet[..]).unwrap()).unwrap();
        }
        prop_assert_eq!(coalescer.groups().len(), 1);
        let group = coalescer.groups().next().unwrap();
        let mut ours = batch[0].clone();
        let header = group.finish(&mut ours).encode();
        for packet in &batch[1..] {
            ours.extend(&packet[header_len..]);
        }

        let mut buffers: Vec<Vec<u8>> = batch
            .iter()
            .map(|packet| {
                let mut buffer = Vec::with_capacity(70_000);
                buffer.extend([0; 10]);
                buffer.extend(packet);
                buffer
            })
            .collect();
        tun_rs::GROTable::new().apply_gro(&mut buffers, 10, true).unwrap();
        prop_assert_eq!(&buffers[0][..10], &header);
        prop_assert_eq!(&buffers[0][10..], &ours);
    }
}
