//! What holds for any batch.

use proptest::prelude::*;

use super::*;

type Small = Coalescer<256, 4>;

proptest! {
    /// Any flows, interleaved in any way, some packets of another kind between them: what is
    /// written is the batch, in order within each flow, nothing lost, nothing twice.
    #[test]
    fn no_flow_is_reordered_or_changed(
        steps in proptest::collection::vec((0u16..9, 0u8..12, 1usize..60), 1..250),
    ) {
        let mut next = [(0u16, 1_000u32); 9];
        let mut batch = Vec::new();
        for (flow, kind, size) in steps {
            let (id, sequence) = &mut next[usize::from(flow)];
            let payload = vec![flow as u8; size.min(40)];
            let packet = if flow < 5 {
                let flags =
                    match kind { 0 => 0x18, 1 => 0x11, 2 | 5 => 0x50, 6 => 0x90, _ => 0x10 };
                let payload = if kind == 3 { Vec::new() } else { payload };
                let packet = TcpSample {
                    ports: (flow, 80), id: *id, sequence: *sequence,
                    acknowledgment: u32::from(kind == 4), flags,
                    options: Vec::new(), payload: payload.clone(),
                }.packet();
                *sequence = sequence.wrapping_add(payload.len() as u32);
                packet
            } else {
                let mut packet = samples::udp_between((flow, 53), *id, &payload);
                match kind {
                    0 => packet[26..28].fill(0),
                    1 => { packet[7] = 1; samples::fix_ip_checksum(&mut packet); }
                    2 => *packet.last_mut().unwrap() ^= 0x55,
                    _ => {}
                }
                packet
            };
            *id = id.wrapping_add(1);
            batch.push(packet);
        }
        let written = written(&batch);
        let by_flow = |packets: &[Vec<u8>]| {
            let mut flows = std::collections::BTreeMap::<_, Vec<Vec<u8>>>::new();
            for packet in packets {
                // A fragment belongs to all flows of its protocol: give it to one of its own.
                flows.entry((packet[9], packet[20..24].to_vec())).or_default().push(packet.clone());
            }
            flows
        };
        prop_assert_eq!(by_flow(&written), by_flow(&batch));
        // With fewer slots than flows less is joined, but order holds all the same.
        let groups = join(&mut Small::default(), &batch);
        for flow in 0..9u16 {
            let of_flow = |number: &usize| batch[*number][20..22] == flow.to_be_bytes();
            let numbers: Vec<_> = groups.concat().into_iter().filter(of_flow).collect();
            prop_assert!(numbers.is_sorted());
        }
        // And a fragment is behind all that came before it, and before all that came after.
        let order = groups_of(&batch).concat();
        for (place, number) in order.iter().enumerate() {
            if batch[*number][7] == 1 {
                prop_assert!(order[..place].iter().filter(|n| batch[**n][9] == 17).all(|n| n < number));
            }
        }
    }

    #[test]
    fn joins_what_was_cut(
        len in 2usize..60_000,
        size in 100u16..1_500,
        options in 0usize..=10,
        flags in prop::sample::select(vec![0x10u8, 0x18, 0x11, 0x19, 0x50, 0x59]),
    ) {
        let payload: Vec<u8> = (0..len).map(|index| (index * 7 % 251) as u8).collect();
        let whole = TcpSample {
            ports: (1, 2), id: 65_500, sequence: 7, acknowledgment: 3, flags,
            options: vec![1; options * 4], payload,
        }.packet();
        let vnet = VnetHeader {
            needs_csum: true, gso: GsoType::TcpV4, gso_size: size, csum_start: 20,
            csum_offset: 16, hdr_len: 40 + options as u16 * 4, ..VnetHeader::NONE
        };
        let segments = Segments::new(&vnet, &whole).unwrap();
        prop_assume!(segments.count() <= MAX_TCP_SEGMENTS && segments.count() > 1);
        let batch: Vec<_> = (0..segments.count()).map(|index| {
            let mut header = [0; MAX_HEADER_LEN];
            let payload = segments.write_header(&whole, index, &mut header);
            [&header[..segments.header_len()], &whole[payload]].concat()
        }).collect();
        let mut coalescer = Box::new(Coalescer::<1024>::default());
        prop_assert_eq!(join(&mut coalescer, &batch).len(), 1);
        let group = *coalescer.groups().next().unwrap();
        let mut joined = batch[0].clone();
        prop_assert_eq!(group.finish(&mut joined), vnet);
        for packet in &batch[1..] {
            joined.extend(&packet[group.header_len()..]);
        }
        // The kernel's own super-packets hold the pseudo-header's sum where a packet has its checksum.
        samples::fix_transport_checksum(&mut joined, 16);
        prop_assert_eq!(joined, whole);
    }

    #[test]
    fn nothing_panics(packets in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 20..90), 0..20)
    ) {
        let mut coalescer = Small::default();
        for mut packet in packets {
            (packet[0], packet[2], packet[3]) = (0x45 | packet[0] & 3, 0, packet.len() as u8);
            packet[9] = if packet[9] & 1 == 0 { 6 } else { 17 };
            if let Ok(packet) = Ipv4::parse(&packet[..]) {
                coalescer.push(&packet).unwrap();
            }
        }
        for group in coalescer.groups() {
            group.finish(&mut [0; 70]);
        }
    }
}
