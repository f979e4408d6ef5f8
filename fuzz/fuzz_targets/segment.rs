//! A `virtio_net_hdr` and a packet as they come off a TUN, in any state: ten bytes, then the packet.
#![no_main]
use flannel_packet::ipv4::Ipv4;
use flannel_packet::ipv6::Ipv6;
use flannel_packet::protocol;
use flannel_packet::segment::{MAX_HEADER_LEN, Segments, complete_checksum};
use flannel_packet::vnet::{GsoType, VnetHeader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((header, packet)) = bytes.split_first_chunk() else { return };
    let Ok(vnet) = VnetHeader::decode(header) else { return };
    let _ = complete_checksum(&vnet, &mut packet.to_vec());
    let segments = match Segments::new(&vnet, packet) {
        Ok(segments) => segments,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    if vnet.gso != GsoType::None
        && let Ok(ip) = Ipv6::parse(packet)
    {
        assert!(ip.next_header() != protocol::FRAGMENT && !ip.is_fragment());
    }
    let mut payload: Vec<u8> = Vec::new();
    for index in 0..segments.count() {
        let mut out = [0xa5; MAX_HEADER_LEN];
        let range = segments.write_header(packet, index, &mut out);
        let last = index + 1 == segments.count();
        let len = if last { segments.last_len() } else { segments.full_len() };
        assert_eq!(segments.header_len() + range.len(), len);
        payload.extend(&packet[range.clone()]);
        if matches!(vnet.gso, GsoType::TcpV4) {
            let wire = [&out[..segments.header_len()], &packet[range]].concat();
            let ip = Ipv4::parse(&wire[..]).unwrap();
            assert!(ip.total_len() == wire.len() && ip.verify_checksum());
        }
    }
    assert_eq!(payload, &packet[segments.header_len()..]);
});
