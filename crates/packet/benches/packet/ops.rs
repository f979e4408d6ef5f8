//! The measured operations: one closure per operation and library, the same for wall time and for
//! instruction counts.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;

use flannel_packet::checksum::{self, Sum};
use flannel_packet::coalesce::Coalescer;
use flannel_packet::ipv4::Ipv4;
use flannel_packet::segment::{MAX_HEADER_LEN, Segments};
use flannel_packet::tcp::Tcp;
use flannel_packet::vnet::VnetHeader;

use super::inputs;

/// One operation of one library.
pub(crate) struct Operation {
    pub(crate) group: String,
    pub(crate) library: &'static str,
    /// Payload bytes that one run goes over, or packets where there are few bytes in each.
    pub(crate) work: Work,
    /// Undoes what a run did to its input; not measured.
    pub(crate) reset: Option<Box<dyn FnMut()>>,
    pub(crate) run: Box<dyn FnMut()>,
}

#[derive(Clone, Copy)]
pub(crate) enum Work {
    Bytes(u64),
    Packets(u64),
}

/// All of them.
pub(crate) fn all() -> Vec<Operation> {
    let mut list = Vec::new();
    parse(&mut list);
    sums(&mut list);
    ttl(&mut list);
    segment(&mut list);
    coalesce(&mut list, "coalesce 44 segments of 1 flow", inputs::train(44, 1));
    coalesce(&mut list, "coalesce 44 segments of 8 flows", inputs::train(44, 8));
    coalesce(&mut list, "coalesce 64 datagrams of 18 bytes", inputs::small(64));
    list
}

fn op(group: &str, library: &'static str, work: Work, run: impl FnMut() + 'static) -> Operation {
    Operation { group: group.to_owned(), library, work, reset: None, run: Box::new(run) }
}

/// Views of IPv4 and TCP, lengths and header checksum checked, the fields of a flow read.
fn parse(list: &mut Vec<Operation>) {
    let group = "parse and validate TCP/IPv4";
    let packet = inputs::tcp(4_000, 1, 1, &inputs::payload(64));
    let work = Work::Packets(1);
    let bytes = packet.clone();
    list.push(op(group, "flannel-udp", work, move || {
        let ip = Ipv4::parse(black_box(&bytes[..])).unwrap();
        assert!(ip.verify_checksum());
        let tcp = Tcp::parse(ip.payload()).unwrap();
        black_box((ip.source(), ip.destination(), tcp.source_port(), tcp.sequence()));
        black_box(tcp.payload().len());
    }));
    let bytes = packet.clone();
    list.push(op(group, "etherparse", work, move || {
        let slice = etherparse::Ipv4Slice::from_slice(black_box(&bytes[..])).unwrap();
        let ip = slice.header();
        assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
        let tcp = etherparse::TcpSlice::from_slice(slice.payload().payload).unwrap();
        black_box((ip.source(), ip.destination(), tcp.source_port(), tcp.sequence_number()));
        black_box(tcp.payload().len());
    }));
    list.push(op(group, "smoltcp", work, move || {
        use smoltcp::wire::{Ipv4Packet, TcpPacket};
        let ip = Ipv4Packet::new_checked(black_box(&packet[..])).unwrap();
        assert!(ip.verify_checksum());
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        black_box((ip.src_addr(), ip.dst_addr(), tcp.src_port(), tcp.seq_number()));
        black_box(tcp.payload().len());
    }));
}

fn sums(list: &mut Vec<Operation>) {
    for len in [20, 64, 1_472, 65_535] {
        let group = format!("checksum of {len} bytes");
        let work = Work::Bytes(len as u64);
        let bytes = inputs::payload(len);
        let data = bytes.clone();
        list.push(op(&group, "flannel-udp", work, move || {
            black_box(checksum::finish(checksum::sum(black_box(&data), Sum::ZERO)));
        }));
        let data = bytes.clone();
        list.push(op(&group, "tun-rs", work, move || {
            black_box(!tun_rs::checksum(black_box(&data), 0));
        }));
        list.push(op(&group, "etherparse", work, move || {
            use etherparse::checksum::u64_16bit_word;
            let sum = u64_16bit_word::add_slice(0, black_box(&bytes));
            black_box(u64_16bit_word::ones_complement(sum));
        }));
    }
}

fn ttl(list: &mut Vec<Operation>) {
    let mut packet = inputs::udp(1, 2, b"x");
    packet[8] = 255;
    let mut packet = Ipv4::parse(packet).unwrap();
    list.push(op("decrement the time to live", "flannel-udp", Work::Packets(1), move || {
        if black_box(black_box(&mut packet).decrement_ttl()).is_err() {
            packet.set_ttl(255);
        }
    }));
}

/// 64 KiB off a TUN: headers and payload ranges here, whole copies in tun-rs, which has no other.
fn segment(list: &mut Vec<Operation>) {
    let group = "segment 64 KiB of TCP";
    let packet = inputs::tcp(4_000, 1, 1, &inputs::payload(65_535 - 52));
    let work = Work::Bytes(packet.len() as u64);
    let vnet = VnetHeader::decode(
        &[&[1, 1][..], &52u16.to_ne_bytes(), &(inputs::SEGMENT as u16).to_ne_bytes()]
            .concat()
            .into_iter()
            .chain(20u16.to_ne_bytes())
            .chain(16u16.to_ne_bytes())
            .collect::<Vec<_>>()
            .try_into()
            .unwrap(),
    )
    .unwrap();
    let bytes = packet.clone();
    let mut headers = vec![[0u8; MAX_HEADER_LEN]; 64];
    list.push(op(group, "flannel-udp", work, move || {
        let segments = Segments::new(&vnet, black_box(&bytes)).unwrap();
        for (index, header) in headers.iter_mut().enumerate().take(segments.count()) {
            black_box(segments.write_header(&bytes, index, header));
        }
        black_box(&headers);
    }));
    let mut bytes = packet;
    let mut out = vec![vec![0u8; 1_500]; 64];
    let mut sizes = vec![0; 64];
    let header = tun_rs::VirtioNetHdr {
        flags: 1,
        gso_type: 1,
        hdr_len: 52,
        gso_size: inputs::SEGMENT as u16,
        csum_start: 20,
        csum_offset: 16,
    };
    list.push(op(group, "tun-rs", work, move || {
        let count =
            tun_rs::gso_split(black_box(&mut bytes), header, &mut out, &mut sizes, 0, false);
        black_box((count.unwrap(), &out));
    }));
}

/// Deciding and writing headers here; tun-rs also moves the payloads together.
fn coalesce(list: &mut Vec<Operation>, group: &str, batch: Vec<Vec<u8>>) {
    let work = Work::Packets(batch.len() as u64);
    let mut coalescer = Box::new(Coalescer::<1024>::default());
    let packets = batch.clone();
    let mut header = [0u8; 60];
    list.push(op(group, "flannel-udp", work, move || {
        coalescer.clear();
        for packet in black_box(&packets) {
            coalescer.push(&Ipv4::parse(&packet[..]).unwrap()).unwrap();
        }
        for group in coalescer.groups() {
            let header = &mut header[..group.header_len()];
            header.copy_from_slice(&packets[group.first()][..group.header_len()]);
            black_box(group.finish(header).encode());
            for member in coalescer.members(group) {
                black_box(member);
            }
        }
    }));
    const OFFSET: usize = tun_rs::VIRTIO_NET_HDR_LEN;
    let fresh: Vec<Vec<u8>> =
        batch.iter().map(|packet| [&[0; OFFSET][..], packet].concat()).collect();
    let buffers: Vec<Vec<u8>> = batch.iter().map(|_| Vec::with_capacity(70_000)).collect();
    let buffers = Rc::new(RefCell::new(buffers));
    let mut table = tun_rs::GROTable::new();
    let reset = {
        let buffers = Rc::clone(&buffers);
        move || {
            for (buffer, packet) in buffers.borrow_mut().iter_mut().zip(&fresh) {
                buffer.clear();
                buffer.extend_from_slice(packet);
            }
        }
    };
    let run = move || {
        let mut buffers = buffers.borrow_mut();
        table.apply_gro(black_box(&mut buffers[..]), OFFSET, true).unwrap();
        black_box(&buffers);
    };
    list.push(Operation { reset: Some(Box::new(reset)), ..op(group, "tun-rs", work, run) });
}
