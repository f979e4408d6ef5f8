//! Packets: captured in the lab, made by `etherparse`, and those with some bytes changed.

use proptest::prelude::*;

/// A capture of the project's own lab: ping, TCP, UDP, fragments, options and ICMP errors, both IPs.
pub(crate) const CAPTURE: &[u8] = include_bytes!("../data/lab.pcap");

/// Made by hand: each extension header of IPv6, alone and in chains, fragments of several headers, MLD,
/// and every ICMP error about every kind of packet, also cut.
pub(crate) const FORMS: &[u8] = include_bytes!("../data/forms.pcap");

/// The packets of [`CAPTURE`].
pub(crate) fn captured() -> Vec<Vec<u8>> {
    packets_of(CAPTURE)
}

/// The packets of a capture without a link layer.
pub(crate) fn packets_of(capture: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &capture[24..];
    let mut packets = Vec::new();
    while let Some((header, after)) = rest.split_first_chunk::<16>() {
        let len = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
        packets.push(after[..len].to_vec());
        rest = &after[len..];
    }
    packets
}

/// A captured packet with up to five bytes changed, mostly in its headers, and its end maybe cut
/// off or added to.
pub(crate) fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let packets = captured();
    let change = (prop_oneof![4 => 0usize..64, 1 => 0usize..1_500], any::<u8>());
    let changes = proptest::collection::vec(change, 0..5);
    (0..packets.len(), changes, -3i32..4, any::<bool>()).prop_map(
        move |(index, changes, grow, resize)| {
            let mut packet = packets[index].clone();
            for (at, value) in changes {
                if let Some(byte) = packet.get_mut(at) {
                    *byte = value;
                }
            }
            if resize {
                let len = (packet.len() as i32 + grow).max(0);
                packet.resize(len as usize, 0xee);
            }
            packet
        },
    )
}
