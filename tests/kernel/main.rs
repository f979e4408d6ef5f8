//! Cutting and joining against the kernel itself, between two TUN devices in a namespace.
//!
//! `fast0` speaks `virtio_net_hdr`; `plain0` has no offload, so that the kernel must cut whatever
//! it forwards there. What comes out is compared byte for byte: with what `segment` makes of the
//! same super-packet, and with the packets that `coalesce` joined.

#[path = "../../crates/packet/tests/differential/cut.rs"]
mod cut;
mod gro;
mod queues;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use flannel_udp::packet::checksum;
use flannel_udp::packet::coalesce::Coalescer;
use flannel_udp::packet::ipv4::{self, Ipv4};
use flannel_udp::packet::ipv6::{self, Ipv6};
use flannel_udp::packet::tcp::{self, Flags};
use flannel_udp::packet::vnet::{GsoType, VnetHeader};
use flannel_udp::packet::{protocol, udp};
use flannel_udp::sys::iovec::GatherBuffer;
use flannel_udp::sys::netns::Netns;
use flannel_udp::sys::tun::{TunQueue, configure};

use cut::cut;

/// A network namespace; says so where there can be none.
fn namespace() -> Option<Netns> {
    match Netns::anonymous() {
        Ok(netns) => Some(netns),
        Err(error) if std::env::var_os("FLANNEL_UDP_REQUIRE_ROOT").is_none_or(|v| v == "0") => {
            eprintln!("SKIPPED: no network namespace here: {error}");
            None
        }
        Err(error) => panic!("no network namespace here: {error}"),
    }
}

/// Runs `test` between the two devices.
fn between_devices(test: impl FnOnce(&TunQueue, &TunQueue) + Send) {
    let Some(netns) = namespace() else { return };
    let visit = || {
        let (fast, _) = TunQueue::attach("fast0", false, true).expect("a TUN with virtio_net_hdr");
        let (plain, _) = TunQueue::attach("plain0", false, false).expect("a plain TUN");
        configure(&fast, "fast0", Ipv4Addr::new(10, 1, 0, 1), 1_500).unwrap();
        configure(&plain, "plain0", Ipv4Addr::new(10, 2, 0, 1), 1_500).unwrap();
        for (key, value) in [
            ("ip_forward", "1"),
            ("conf/all/rp_filter", "0"),
            ("conf/default/rp_filter", "0"),
            ("conf/fast0/rp_filter", "0"),
        ] {
            std::fs::write(format!("/proc/sys/net/ipv4/{key}"), value).unwrap();
        }
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        for args in [
            "link set fast0 up",
            "link set plain0 up",
            "route add 10.2.0.0/24 dev plain0",
            "addr add fd00:1::1/64 dev fast0 nodad",
            "addr add fd00:2::1/64 dev plain0 nodad",
        ] {
            assert!(Command::new("ip").args(args.split(' ')).status().unwrap().success(), "{args}");
        }
        test(&fast, &plain);
    };
    netns.enter(visit).unwrap();
}

/// The next `count` packets of our own that come out of `device`.
fn read(device: &TunQueue, count: usize) -> Vec<Vec<u8>> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut packets = Vec::new();
    let mut buffer = vec![0; 70_000];
    while packets.len() < count {
        match device.read(&mut buffer) {
            // The kernel itself says something now and then: IPv6 routers are sought, for one.
            Ok(len) => {
                let is_ours = match Ipv4::parse(&buffer[..len]) {
                    Ok(ip) => ip.source() == Ipv4Addr::from(SOURCE),
                    Err(_) => Ipv6::parse(&buffer[..len])
                        .is_ok_and(|ip| ip.source() == Ipv6Addr::from(SOURCE_V6)),
                };
                packets.extend(is_ours.then(|| buffer[..len].to_vec()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                assert!(Instant::now() < deadline, "{} of {count} packets came", packets.len());
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("read from the TUN: {error}"),
        }
    }
    packets
}

fn write(device: &TunQueue, vnet: &VnetHeader, packet: &[u8]) {
    let header = vnet.encode();
    let mut buffer = GatherBuffer::new();
    let mut parts = buffer.begin();
    assert!(parts.push(&header) && parts.push(packet));
    device.write(&parts).expect("the kernel takes what we write");
}

/// What to put in a packet.
#[derive(Clone, Copy, Debug)]
struct Sample {
    v6: bool,
    tcp: bool,
    flags: u8,
    /// The bits beside TCP's header length, of which AccECN's AE is the lowest.
    reserved: u8,
    tos: u8,
    id: u16,
    dont_fragment: bool,
    options: usize,
    payload: usize,
    size: u16,
    sequence: u32,
}

const PLAIN: Sample = Sample {
    v6: false,
    tcp: true,
    flags: 0x10,
    reserved: 0,
    tos: 0,
    id: 100,
    dont_fragment: true,
    options: 3,
    payload: 10_000,
    size: 1_400,
    sequence: 0xffff_f000,
};
const SOURCE: [u8; 4] = [10, 1, 0, 2];
const SOURCE_V6: [u8; 16] = [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const DESTINATION_V6: [u8; 16] = [0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

impl Sample {
    fn ip_len(&self) -> usize {
        if self.v6 { 40 } else { 20 }
    }

    fn header_len(&self) -> usize {
        self.ip_len() + if self.tcp { 20 + self.options * 4 } else { 8 }
    }

    /// A super-packet with the pseudo-header's sum for a checksum.
    fn packet(&self) -> Vec<u8> {
        let options = vec![1; self.options * 4];
        let len = (self.header_len() - self.ip_len() + self.payload) as u16;
        let protocol = if self.tcp { protocol::TCP } else { protocol::UDP };
        let (ip, pseudo) = if self.v6 {
            let (source, destination) = (SOURCE_V6.into(), DESTINATION_V6.into());
            let header = ipv6::Header {
                traffic_class: self.tos,
                flow_label: 0x5_1234,
                ..ipv6::Header::new(protocol, source, destination, len)
            };
            (header.to_bytes().to_vec(), header.pseudo_header())
        } else {
            let header = ipv4::Header {
                tos: self.tos,
                id: self.id,
                dont_fragment: self.dont_fragment,
                ..ipv4::Header::new(protocol, SOURCE.into(), [10, 2, 0, 2].into(), len)
            };
            (header.to_bytes().to_vec(), header.pseudo_header())
        };
        let checksum = checksum::fold(pseudo);
        let mut transport = vec![0; self.header_len() - self.ip_len()];
        if self.tcp {
            let header = tcp::Header {
                source_port: 4000,
                destination_port: 80,
                sequence: self.sequence,
                acknowledgment: 9,
                flags: Flags(self.flags),
                reserved: self.reserved,
                window: 502,
                checksum,
                options: &options,
                ..tcp::Header::default()
            };
            header.emit(&mut transport).unwrap();
        } else {
            let header = udp::Header::new(4000, 80, self.payload as u16);
            udp::Header { checksum, ..header }.emit(&mut transport).unwrap();
        }
        let payload: Vec<u8> = (0..self.payload).map(|index| (index * 7 % 251) as u8).collect();
        [ip, transport, payload].concat()
    }

    fn vnet(&self) -> VnetHeader {
        VnetHeader {
            needs_csum: true,
            gso: match (self.tcp, self.v6) {
                (true, false) => GsoType::TcpV4,
                (true, true) => GsoType::TcpV6,
                (false, _) => GsoType::UdpL4,
            },
            ecn: self.tcp && self.flags & 0x80 != 0,
            hdr_len: self.header_len() as u16,
            gso_size: self.size,
            csum_start: self.ip_len() as u16,
            csum_offset: if self.tcp { 16 } else { 6 },
            ..VnetHeader::NONE
        }
    }
}

/// What the kernel does to a packet that it forwards.
fn forward(packet: &mut [u8]) {
    if let Ok(mut ip) = Ipv4::parse(&mut packet[..]) {
        ip.decrement_ttl().unwrap();
    } else {
        Ipv6::parse(packet).unwrap().decrement_hop_limit().unwrap();
    }
}

#[test]
fn the_kernel_cuts_as_we_do() {
    between_devices(|fast, plain| {
        for (sample, ecn) in [
            PLAIN,
            Sample { flags: 0x19, ..PLAIN },
            Sample { flags: 0x18, dont_fragment: false, id: 0xfffd, ..PLAIN },
            Sample { flags: 0x90, tos: 2, ..PLAIN },
            Sample { flags: 0xd8, tos: 1, options: 0, ..PLAIN },
            Sample { flags: 0x50, tos: 0xb9, options: 10, size: 537, ..PLAIN },
            Sample { flags: 0x50, reserved: 1, tos: 1, ..PLAIN },
            Sample { flags: 0xd9, reserved: 0xf, tos: 1, ..PLAIN },
            Sample { payload: 65_535 - 52, size: 1_448, ..PLAIN },
            Sample { payload: 1_401, ..PLAIN },
            Sample { payload: 2_800, ..PLAIN },
            Sample { payload: 9_999, size: 1_399, ..PLAIN },
            Sample { tcp: false, ..PLAIN },
            Sample { tcp: false, dont_fragment: false, id: 0xfffe, size: 555, ..PLAIN },
            Sample { tcp: false, payload: 1_153, size: 18, ..PLAIN },
            Sample { tcp: false, payload: 60_000, size: 1_444, id: 0, ..PLAIN },
            Sample { v6: true, flags: 0x19, ..PLAIN },
            Sample { v6: true, flags: 0xd8, tos: 0xb9, options: 0, ..PLAIN },
            Sample { v6: true, flags: 0xd8, reserved: 1, tos: 1, ..PLAIN },
            Sample { v6: true, payload: 65_535 - 32, size: 1_428, ..PLAIN },
            Sample { v6: true, tcp: false, ..PLAIN },
            Sample { v6: true, tcp: false, payload: 1_153, size: 18, ..PLAIN },
        ]
        .into_iter()
        // What has CWR, with RFC 3168's mark and without it.
        .flat_map(|sample| [(sample, sample.vnet().ecn), (sample, false)])
        {
            let vnet = VnetHeader { ecn, ..sample.vnet() };
            let mut packet = sample.packet();
            write(fast, &vnet, &packet);
            forward(&mut packet);
            let ours = cut(&vnet, &packet);
            let theirs = read(plain, ours.len());
            for (index, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                assert_eq!(
                    ours[..60.min(ours.len())],
                    theirs[..60.min(theirs.len())],
                    "{sample:?} {index}"
                );
                assert_eq!(ours, theirs, "{sample:?} {index}");
            }
        }
    });
}

#[test]
fn the_kernel_completes_checksums_as_we_do() {
    between_devices(|fast, plain| {
        for (tcp, v6) in [(true, false), (false, false), (true, true), (false, true)] {
            for payload in [0, 1, 2, 555, 1_400] {
                let sample = Sample { v6, tcp, payload, ..PLAIN };
                let vnet = VnetHeader { gso: GsoType::None, gso_size: 0, ..sample.vnet() };
                let mut packet = sample.packet();
                write(fast, &vnet, &packet);
                forward(&mut packet);
                assert_eq!(cut(&vnet, &packet), read(plain, 1), "{sample:?}");
            }
        }
    });
}

#[test]
fn the_kernel_takes_what_we_join_for_what_it_was() {
    between_devices(|fast, plain| {
        // Three flows in turn, one of them with what cannot be joined in its midst.
        let sample = |flow: usize, index: usize| Sample {
            tcp: flow < 2,
            // With AE and ECE as AccECN has them on the second flow, and a CWR in its midst.
            flags: match (flow, index) {
                (1, 7) => 0x90,
                (1, _) => 0x50,
                (_, 10) => 0x19,
                (_, 11) => 0x18,
                _ => 0x10,
            },
            reserved: u8::from(flow == 1),
            id: (1_000 * flow + index) as u16,
            sequence: (index * 1_000) as u32,
            payload: 1_000,
            ..PLAIN
        };
        let batch: Vec<Vec<u8>> = (0..36)
            .map(|number| {
                let (flow, index) = (number % 3, number / 3);
                let mut packet = sample(flow, index).packet();
                packet[20] = flow as u8 + 1;
                let vnet =
                    VnetHeader { gso: GsoType::None, gso_size: 0, ..sample(flow, index).vnet() };
                cut(&vnet, &packet).remove(0)
            })
            .collect();
        let mut coalescer = Box::new(Coalescer::<64>::default());
        for packet in &batch {
            coalescer.push(&Ipv4::parse(&packet[..]).unwrap()).unwrap();
        }
        assert_eq!(coalescer.groups().len(), 6);
        for group in coalescer.groups() {
            let mut whole = batch[group.first()].clone();
            let vnet = group.finish(&mut whole[..group.header_len()]);
            for member in coalescer.members(group).skip(1) {
                whole.extend(&batch[member][group.header_len()..]);
            }
            write(fast, &vnet, &whole);
        }
        let mut forwarded = read(plain, batch.len());
        // The kernel goes from group to group; within a flow the order is the batch's.
        forwarded.sort_by_key(|packet| packet[20]);
        let mut expected = batch.clone();
        expected.sort_by_key(|packet| packet[20]);
        for packet in &mut expected {
            Ipv4::parse(&mut packet[..]).unwrap().decrement_ttl().unwrap();
        }
        assert_eq!(forwarded, expected);
    });
}

/// What the library's documentation says of packets that DF frees from their identification.
#[test]
fn the_kernel_counts_up_a_constant_identification() {
    between_devices(|fast, plain| {
        let sample = Sample { id: 0, payload: 4_200, ..PLAIN };
        write(fast, &sample.vnet(), &sample.packet());
        let ids: Vec<u8> = read(plain, 3).iter().map(|packet| packet[5]).collect();
        assert_eq!(ids, [0, 1, 2]);
    });
}
