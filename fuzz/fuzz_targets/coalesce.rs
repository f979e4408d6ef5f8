//! Batches of similar packets: each is the one before it with a few bytes changed.
#![no_main]
use arbitrary::Arbitrary;
use flannel_packet::coalesce::{Coalescer, MAX_TOTAL_LEN, Protocols};
use flannel_packet::ipv4::Ipv4;
use flannel_packet::segment::{MAX_HEADER_LEN, Segments};
use flannel_packet::{checksum, protocol};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Step {
    flow: u8,
    /// Bytes to change before the packet is pushed, and whether to mend the checksums after.
    changes: Vec<(u8, u8)>,
    mend: bool,
    /// Goes on in sequence and identification.
    follows: bool,
    payload: u8,
}

fuzz_target!(|input: (bool, bool, Vec<Step>)| {
    let (tcp, udp, steps) = input;
    let mut coalescer = Box::new(Coalescer::<128, 4>::new(Protocols { tcp, udp }));
    let mut batch = Vec::new();
    let mut next = [(0u16, 0u32); 4];
    for step in steps.into_iter().take(128) {
        let flow = usize::from(step.flow % 4);
        let mut packet = packet(flow, next[flow], usize::from(step.payload % 64));
        if step.follows {
            next[flow].0 = next[flow].0.wrapping_add(1);
            next[flow].1 = next[flow].1.wrapping_add(u32::from(step.payload % 64));
        }
        for (at, value) in &step.changes {
            if let Some(byte) = packet.get_mut(usize::from(*at)) {
                *byte = *value;
            }
        }
        if step.mend {
            mend(&mut packet);
        }
        if let Ok(view) = Ipv4::parse(&packet[..]) {
            assert_eq!(coalescer.push(&view), Ok(batch.len()));
            batch.push(view.as_bytes().to_vec());
        }
    }
    let mut seen = vec![0; batch.len()];
    let mut written = Vec::new();
    for group in coalescer.groups() {
        let members: Vec<usize> = coalescer.members(group).collect();
        assert!(members.is_sorted() && members.len() == group.count());
        members.iter().for_each(|member| seen[*member] += 1);
        let mut whole = batch[group.first()].clone();
        let vnet = group.finish(&mut whole[..group.header_len()]);
        for member in &members[1..] {
            whole.extend(&batch[*member][group.header_len()..]);
        }
        assert!(whole.len() == group.total_len() && whole.len() <= MAX_TOTAL_LEN);
        let segments = Segments::new(&vnet, &whole).expect("what we write can be cut");
        assert_eq!(segments.count(), members.len());
        for member in members.iter().filter(|_| members.len() > 1) {
            let packet = &batch[*member];
            assert!(packet[6] & 0xbf == 0 && packet[7] == 0, "only DF");
            // SYN, RST, URG, CWR.
            assert!(packet[9] != protocol::TCP || packet[33] & 0xa6 == 0);
        }
        for (index, member) in members.iter().enumerate() {
            let mut header = [0; MAX_HEADER_LEN];
            let payload = segments.write_header(&whole, index, &mut header);
            let mut cut = [&header[..segments.header_len()], &whole[payload]].concat();
            let original = &batch[*member];
            // A constant identification with DF counts up when it is cut again.
            if cut[4..6] != original[4..6] {
                assert!(original[6] & 0x40 != 0);
                let (old, new) = ([cut[4], cut[5]], [original[4], original[5]]);
                let sum = checksum::update(
                    u16::from_be_bytes([cut[10], cut[11]]),
                    u16::from_be_bytes(old),
                    u16::from_be_bytes(new),
                );
                cut[4..6].copy_from_slice(&new);
                cut[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            assert_eq!(&cut, original);
            written.push(*member);
        }
    }
    assert!(seen.iter().all(|times| *times == 1));
    // Nothing overtakes within a flow.
    for flow in written.iter().map(|member| flow(&batch[*member])).collect::<Vec<_>>() {
        assert!(written.iter().filter(|member| self::flow(&batch[**member]) == flow).is_sorted());
    }
});

fn flow(packet: &[u8]) -> (u8, Vec<u8>, Vec<u8>) {
    let ip = Ipv4::parse(packet).unwrap();
    let ports = match ip.protocol() {
        protocol::TCP | protocol::UDP if !ip.is_fragment() => {
            ip.payload().get(..4).unwrap_or_default().to_vec()
        }
        _ => Vec::new(),
    };
    (ip.protocol(), packet[12..20].to_vec(), ports)
}

fn packet(flow: usize, (id, sequence): (u16, u32), payload: usize) -> Vec<u8> {
    let is_tcp = flow < 2;
    let mut packet = vec![0x45, 0, 0, 0];
    packet.extend(id.to_be_bytes());
    packet.extend([0x40, 0, 63, if is_tcp { 6 } else { 17 }, 0, 0, 10, 5, 20, 2, 10, 5, 31, 3]);
    packet.extend([15, 160 + flow as u8, 0, 80]);
    if is_tcp {
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 9, 0x80, 0x10, 1, 0xf6, 0, 0, 0, 0]);
        packet.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    } else {
        packet.extend((8 + payload as u16).to_be_bytes());
        packet.extend([0, 0]);
    }
    packet.resize(packet.len() + payload, flow as u8);
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    mend(&mut packet);
    packet
}

/// Makes both checksums right where the packet has them.
fn mend(packet: &mut [u8]) {
    if let Ok(ip) = Ipv4::parse(&*packet) {
        let header = ip.header_len();
        packet[10..12].fill(0);
        let sum = checksum::finish(checksum::sum(&packet[..header], checksum::Sum::ZERO));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let Ok(ip) = Ipv4::parse(&*packet) else { return };
    let (start, end) = (ip.header_len(), ip.total_len());
    let field = start + if ip.protocol() == protocol::TCP { 16 } else { 6 };
    let pseudo = ip.pseudo_header();
    if field + 2 <= end {
        packet[field..field + 2].fill(0);
        let sum = checksum::finish_udp(checksum::sum(&packet[start..end], pseudo));
        packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
}
