//! What a super-packet becomes, as whole packets.

use flannel_packet::segment::{MAX_HEADER_LEN, Segments};
use flannel_packet::vnet::VnetHeader;

pub(crate) fn cut(vnet: &VnetHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    let segments = Segments::new(vnet, packet).unwrap();
    (0..segments.count())
        .map(|index| {
            let mut header = [0; MAX_HEADER_LEN];
            let payload = segments.write_header(packet, index, &mut header);
            [&header[..segments.header_len()], &packet[payload]].concat()
        })
        .collect()
}
