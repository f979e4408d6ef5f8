use core::ops::Range;

use super::super::samples::{self, TcpSample};
use super::super::segment::{MAX_HEADER_LEN, Segments};
use super::super::vnet::{GsoType, VnetHeader};
use super::*;

mod properties;

/// Pushes a batch; returns the members of each group.
fn groups_of(batch: &[Vec<u8>]) -> Vec<Vec<usize>> {
    let mut coalescer = Box::new(Coalescer::<1024>::default());
    join(&mut coalescer, batch)
}

fn join<const P: usize, const F: usize>(
    coalescer: &mut Coalescer<P, F>,
    batch: &[Vec<u8>],
) -> Vec<Vec<usize>> {
    coalescer.clear();
    for (number, packet) in batch.iter().enumerate() {
        assert_eq!(coalescer.push(&Ipv4::parse(&packet[..]).unwrap()), Ok(number));
    }
    coalescer.groups().map(|group| coalescer.members(group).collect()).collect()
}

/// What the kernel would be handed, cut again into packets by our own segmenter.
fn written(batch: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut coalescer = Box::new(Coalescer::<1024>::default());
    join(&mut coalescer, batch);
    let mut out = Vec::new();
    for group in coalescer.groups() {
        let mut whole = batch[group.first()].clone();
        let vnet = group.finish(&mut whole[..group.header_len()]);
        for member in coalescer.members(group).skip(1) {
            whole.extend(&batch[member][group.header_len()..]);
        }
        assert_eq!(whole.len(), group.total_len());
        assert!(whole.len() <= MAX_TOTAL_LEN);
        if group.count() == 1 {
            assert_eq!(vnet, VnetHeader::NONE);
        } else {
            assert!(Ipv4::parse(&whole[..]).unwrap().verify_checksum());
        }
        let segments = Segments::new(&vnet, &whole).unwrap();
        assert_eq!(segments.count(), group.count());
        for index in 0..segments.count() {
            let mut header = [0; MAX_HEADER_LEN];
            let payload = segments.write_header(&whole, index, &mut header);
            out.push([&header[..segments.header_len()], &whole[payload]].concat());
        }
    }
    out
}

/// The batch with a byte of each of its packets set, checksums right.
fn all_with(mut batch: Vec<Vec<u8>>, at: usize, value: u8) -> Vec<Vec<u8>> {
    for packet in &mut batch {
        packet[at] = value;
        samples::fix_ip_checksum(packet);
        samples::fix_transport_checksum(packet, 16);
    }
    batch
}

/// `count` segments of one TCP flow.
fn train(count: u16, size: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| segment(index, size).packet()).collect()
}

fn segment(index: u16, size: usize) -> TcpSample {
    TcpSample {
        ports: (4000, 80),
        id: 0xfffe_u16.wrapping_add(index),
        sequence: 0xffff_f000u32.wrapping_add(u32::from(index) * size as u32),
        acknowledgment: 5,
        flags: 0x10,
        options: samples::hex("0101080a0000000100000002"),
        payload: vec![index as u8; size],
    }
}

#[test]
fn a_train_becomes_one_super_packet() {
    let batch = train(40, 1_000);
    let mut coalescer = Box::new(Coalescer::<1024>::default());
    assert_eq!(join(&mut coalescer, &batch), [(0..40).collect::<Vec<_>>()]);
    let group = *coalescer.groups().next().unwrap();
    assert_eq!((group.count(), group.header_len(), group.total_len()), (40, 52, 40_052));
    let vnet = group.finish(&mut batch[0].clone());
    let expected = VnetHeader {
        needs_csum: true,
        gso: GsoType::TcpV4,
        hdr_len: 52,
        gso_size: 1_000,
        csum_start: 20,
        csum_offset: 16,
        ..VnetHeader::NONE
    };
    assert_eq!(vnet, expected);
    assert_eq!(coalescer.members(&group).len(), 40);
    assert_eq!(written(&batch), batch);
    assert!(format!("{coalescer:?}").contains("count: 40"));
}

#[test]
fn a_header_that_is_too_short_is_left_alone() {
    let batch = train(2, 10);
    let mut coalescer = Box::new(Coalescer::<1024>::default());
    join(&mut coalescer, &batch);
    let group = *coalescer.groups().next().unwrap();
    assert_eq!(group.finish(&mut batch[0].clone()[..51]), VnetHeader::NONE);
}

#[test]
fn push_and_short_segments_close() {
    let mut batch = train(6, 100);
    batch[1] = TcpSample { flags: 0x18, ..segment(1, 100) }.packet();
    assert_eq!(groups_of(&batch), [vec![0, 1], vec![2, 3, 4, 5]]);
    assert_eq!(written(&batch), batch);
    let mut batch = train(6, 100);
    batch[3] = TcpSample { payload: vec![1; 99], ..segment(3, 100) }.packet();
    assert_eq!(groups_of(&batch), [vec![0, 1, 2, 3], vec![4, 5]]);
    assert_eq!(written(&batch), batch);
    // A longer one does not fit behind a shorter first.
    batch[0] = TcpSample { payload: vec![1; 98], ..segment(0, 100) }.packet();
    assert_eq!(groups_of(&batch)[0], [0]);
    // A first segment with PSH is a packet alone.
    batch[0] = TcpSample { flags: 0x18, ..segment(0, 100) }.packet();
    assert_eq!(groups_of(&batch)[0], [0]);
}

#[test]
fn anything_else_of_the_flow_stands_alone() {
    for flags in [0x00, 0x02, 0x04, 0x12, 0x14, 0x30, 0x50, 0x90, 0x08] {
        let mut batch = train(5, 100);
        batch[2] = TcpSample { flags, ..segment(2, 100) }.packet();
        assert_eq!(groups_of(&batch), [vec![0, 1], vec![2], vec![3, 4]], "{flags:#x}");
    }
    let mut batch = train(5, 100);
    batch[2] = TcpSample { payload: Vec::new(), ..segment(2, 100) }.packet();
    assert_eq!(groups_of(&batch), [vec![0, 1], vec![2], vec![3, 4]]);
}

/// What the kernel's GRO compares is compared and may be anything: the bits of AccECN (RFC 9768) and
/// ECE, which stand on each segment until they change, and bits not yet assigned. What flushes there
/// stands alone here.
#[test]
fn flags_that_all_segments_have_do_not_part_them() {
    for flags in [0x00, 0x10, 0x50] {
        for reserved in [0x0, 0x1, 0x2, 0x4, 0xe] {
            let batch = all_with(all_with(train(6, 100), 33, flags), 32, 0x80 | reserved);
            assert_eq!(groups_of(&batch), [vec![0, 1, 2, 3, 4, 5]], "{reserved:#x} {flags:#x}");
            assert_eq!(written(&batch), batch);
        }
    }
    // The counter of AccECN, of which CWR is a part, moves on.
    let counter: Vec<_> = [0x50, 0x50, 0x90, 0xd0, 0x10, 0x10]
        .iter()
        .enumerate()
        .map(|(index, flags)| TcpSample { flags: *flags, ..segment(index as u16, 100) }.packet())
        .collect();
    assert_eq!(groups_of(&counter), [vec![0, 1], vec![2], vec![3], vec![4, 5]]);
    assert_eq!(written(&counter), counter);
    for flags in [0x12, 0x14, 0x30, 0x90, 0xd0] {
        let batch = all_with(train(3, 100), 33, flags);
        assert_eq!(groups_of(&batch), [vec![0], vec![1], vec![2]], "{flags:#x}");
    }
    // The reserved bit of IPv4, for which the kernel's GRO flushes, also where all have it.
    let evil = all_with(train(3, 100), 6, 0xc0);
    assert_eq!(groups_of(&evil), [vec![0], vec![1], vec![2]]);
    let evil = [6, 7].map(|id| {
        let mut packet = samples::udp_between((9, 9), id, b"12345678");
        packet[6] = 0xc0;
        samples::fix_ip_checksum(&mut packet);
        packet
    });
    assert_eq!(groups_of(&evil), [vec![0], vec![1]]);
}

/// The last segment of a transfer joins, and its FIN and PSH are the super-packet's.
#[test]
fn the_end_of_a_stream_joins() {
    for flags in [0x11, 0x19] {
        let mut batch = train(4, 100);
        batch[2] = TcpSample { flags, ..segment(2, 100) }.packet();
        assert_eq!(groups_of(&batch), [vec![0, 1, 2], vec![3]], "{flags:#x}");
        assert_eq!(written(&batch), batch);
        let alone = TcpSample { flags, ..segment(0, 100) }.packet();
        assert_eq!(groups_of(&[alone, segment(1, 100).packet()]), [vec![0], vec![1]]);
    }
}

#[test]
fn differing_headers_part() {
    let alter = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut batch = train(4, 100);
        change(&mut batch[2]);
        samples::fix_ip_checksum(&mut batch[2]);
        samples::fix_transport_checksum(&mut batch[2], 16);
        groups_of(&batch)
    };
    let whole = vec![vec![0, 1, 2, 3]];
    assert_eq!(alter(&|_| {}), whole);
    let fields = [
        ("tos", 1, 0x04),
        ("id", 5, 0x77),
        ("no DF", 6, 0),
        ("evil bit", 6, 0xc0),
        ("ttl", 8, 63),
        ("sequence", 27, 0x77),
        ("acknowledgment", 31, 9),
        ("reserved", 32, 0x81),
        ("window", 35, 9),
        ("urgent pointer", 39, 9),
        ("timestamp", 47, 9),
    ];
    for (name, at, value) in fields {
        let groups = alter(&|packet| packet[at] = value);
        assert_eq!(groups[0], [0, 1], "{name}");
        assert_eq!(groups.concat(), [0, 1, 2, 3], "{name}");
    }
    // Another flow takes its packet, and the first goes on behind it if it may.
    let groups = alter(&|packet| packet[21] ^= 1);
    assert_eq!(groups, [vec![0, 1], vec![2], vec![3]]);
}

#[test]
fn damage_is_not_laundered() {
    for at in [11, 36, 60] {
        let mut batch = train(5, 100);
        batch[2][at] ^= 0x10;
        assert_eq!(groups_of(&batch), [vec![0, 1], vec![2], vec![3, 4]], "{at}");
        batch[0][at] ^= 0x10;
        assert_eq!(groups_of(&batch), [vec![0], vec![1], vec![2], vec![3, 4]], "{at}");
    }
}

#[test]
fn the_other_zero_stays() {
    // The checksum of the third packet is 0 once a word that it covers holds what it was.
    let with_zero = |word: Range<usize>, field: Range<usize>| {
        let mut batch = train(5, 100);
        let mut set = |value: [u8; 2]| {
            for packet in &mut batch {
                packet[word.clone()].copy_from_slice(&value);
                samples::fix_ip_checksum(packet);
                samples::fix_transport_checksum(packet, 16);
            }
            batch[2][field.clone()].try_into().unwrap()
        };
        let checksum = set([0; 2]);
        assert_eq!(set(checksum), [0; 2]);
        batch
    };
    for (word, field) in [(12..14, 10..12), (52..54, 36..38)] {
        let mut batch = with_zero(word, field.clone());
        assert_eq!(groups_of(&batch), [vec![0, 1, 2, 3, 4]]);
        batch[2][field].fill(0xff);
        assert_eq!(written(&batch), batch);
        assert_eq!(groups_of(&batch), [vec![0, 1], vec![2], vec![3, 4]]);
    }
}

#[test]
fn identification_counts_or_stays() {
    let with_ids = |ids: &[u16], df: bool| {
        let batch: Vec<_> = ids
            .iter()
            .enumerate()
            .map(|(index, id)| {
                let mut packet = TcpSample { id: *id, ..segment(index as u16, 50) }.packet();
                packet[6] = if df { 0x40 } else { 0 };
                samples::fix_ip_checksum(&mut packet);
                packet
            })
            .collect();
        groups_of(&batch).iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(with_ids(&[0xfffe, 0xffff, 0, 1], true), [4]);
    assert_eq!(with_ids(&[5, 6, 7, 8], false), [4]);
    assert_eq!(with_ids(&[0, 0, 0, 0], true), [4]);
    assert_eq!(with_ids(&[0, 0, 0, 0], false), [1, 1, 1, 1]);
    assert_eq!(with_ids(&[5, 5, 6, 7], true), [2, 2]);
    assert_eq!(with_ids(&[5, 6, 6, 6], true), [2, 2]);
    assert_eq!(with_ids(&[5, 7, 9], true), [1, 1, 1]);
}

#[test]
fn datagrams_join_by_size() {
    let sizes = |sizes: &[usize]| -> Vec<Vec<u8>> {
        let datagram = |(index, size): (usize, &usize)| {
            samples::udp_between((4000, 53), index as u16, &vec![index as u8; *size])
        };
        sizes.iter().enumerate().map(datagram).collect()
    };
    let batch = sizes(&[18, 18, 18, 17, 18, 18, 19, 1]);
    assert_eq!(groups_of(&batch), [vec![0, 1, 2, 3], vec![4, 5], vec![6, 7]]);
    assert_eq!(written(&batch), batch);
    let batch = sizes(&[8; 200]);
    let groups = groups_of(&batch);
    assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [64, 64, 64, 8]);
    assert_eq!(written(&batch), batch);
    // No payload, or no checksum: alone, and what follows stays behind it.
    assert_eq!(groups_of(&sizes(&[8, 0, 8, 8])), [vec![0], vec![1], vec![2, 3]]);
    let mut batch = sizes(&[8; 4]);
    batch[1][26..28].fill(0);
    assert_eq!(groups_of(&batch), [vec![0], vec![1], vec![2, 3]]);
    // A length field that leaves bytes over.
    let mut batch = sizes(&[8; 4]);
    batch[1][25] -= 1;
    samples::fix_transport_checksum(&mut batch[1], 6);
    assert_eq!(groups_of(&batch), [vec![0], vec![1], vec![2, 3]]);
    batch[1][25] = 0;
    assert_eq!(groups_of(&batch), [vec![0], vec![1], vec![2, 3]]);
}

#[test]
fn limits_hold() {
    let batch = train(200, 1_400);
    let groups = groups_of(&batch);
    assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [46, 46, 46, 46, 16]);
    let groups = groups_of(&train(200, 10));
    assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_TCP_SEGMENTS, 72]);
}

#[test]
fn a_fragment_is_not_overtaken() {
    let mut batch: Vec<_> =
        (0..4).map(|id| samples::udp_between((9, 9), id, b"12345678")).collect();
    batch[2][7] = 1;
    samples::fix_ip_checksum(&mut batch[2]);
    assert_eq!(groups_of(&batch), [vec![0, 1], vec![2], vec![3]]);
    // A packet too short for its ports is none to be overtaken either; ICMP is no part of a flow.
    batch[2] = samples::ipv4(17, 9, vec![1, 2, 3], None);
    batch[3] = samples::udp_between((9, 9), 2, b"12345678");
    assert_eq!(groups_of(&batch), [vec![0, 1], vec![2], vec![3]]);
    batch[2] = samples::icmp(8, 0);
    assert_eq!(groups_of(&batch), [vec![0, 1, 3], vec![2]]);
    // Options: alone, in the order of its flow.
    let mut options = vec![0x46, 0];
    options.extend((24 + 16u16).to_be_bytes());
    options.extend(&batch[0][4..20]);
    options.extend([1, 1, 1, 0]);
    options.extend(&batch[0][20..]);
    batch[2] = options;
    assert_eq!(groups_of(&batch), [vec![0, 1], vec![2], vec![3]]);
}

#[test]
fn each_protocol_has_its_switch() {
    let mut coalescer = Box::new(Coalescer::<1024>::default());
    let datagram = |id| samples::udp_between((1, 2), id, b"x");
    let batch = [train(2, 9), vec![datagram(1), datagram(2)]].concat();
    assert_eq!(join(&mut coalescer, &batch).len(), 2);
    coalescer.set_protocols(Protocols { tcp: false, udp: true });
    assert_eq!(join(&mut coalescer, &batch), [vec![0], vec![1], vec![2, 3]]);
    coalescer.set_protocols(Protocols { tcp: true, udp: false });
    assert_eq!(join(&mut coalescer, &batch), [vec![0, 1], vec![2], vec![3]]);
}

#[test]
fn a_batch_has_an_end() {
    let mut coalescer = Box::new(Coalescer::<3, 4>::default());
    let packet = samples::udp(b"x");
    let packet = Ipv4::parse(&packet[..]).unwrap();
    assert!(coalescer.is_empty());
    assert_eq!(coalescer.push(&packet), Ok(0));
    assert_eq!(coalescer.push_alone(99), Ok(1));
    assert_eq!(coalescer.push(&packet), Ok(2));
    assert!(coalescer.is_full());
    assert_eq!((coalescer.push(&packet), coalescer.push_alone(1)), (Err(Full), Err(Full)));
    assert_eq!((coalescer.len(), coalescer.groups().len()), (3, 2));
    assert_eq!(coalescer.groups().nth(1).unwrap().total_len(), 99);
    assert_eq!(Full.to_string(), "the batch is full");
    coalescer.clear();
    assert_eq!(coalescer.groups().len(), 0);
}
