//! Joining, against the kernel's own GRO: the same packets arrive at a veth interface, which is asked
//! to hold them for a while, and are forwarded to a TUN device that takes super-packets.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::time::{Duration, Instant};

use flannel_udp::packet::coalesce::Coalescer;
use flannel_udp::packet::ipv4::Ipv4;
use flannel_udp::packet::vnet::{GsoType, VnetHeader};
use flannel_udp::sys::tun::{Offload, TunQueue, configure};
use socket2::{Domain, Protocol, Socket, Type};

use super::{PLAIN, Sample, cut, namespace};

/// Of each packet of a batch: TCP's flags, the bits beside its header length, the flags of IPv4.
type Batch = &'static [(u8, u8, u8)];

const DF: u8 = 0x40;
const EVIL: u8 = 0xc0;

#[test]
fn the_kernel_joins_as_we_do() {
    let Some(netns) = namespace() else { return };
    let visit = || {
        let (tun, _) = TunQueue::attach("tun0", false, true).expect("a TUN device");
        configure(&tun, "tun0", Ipv4Addr::new(10, 3, 0, 1), 1_500).unwrap();
        tun.set_offload(Offload { csum: true, tso: true, uso: false }).unwrap();
        let status = Command::new("unshare").args(["--mount", "sh", "-ec", SETUP]).status();
        assert!(status.unwrap().success());
        let sender =
            Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW))).unwrap();
        sender.bind_device(Some(b"veth0")).unwrap();
        for batch in BATCHES {
            let packets: Vec<_> =
                (0..).zip(*batch).map(|(index, bits)| packet(index, bits)).collect();
            let ours = joined(&packets);
            // It lets go of a packet when a jiffy has passed, which may be between any two.
            let mut theirs = Vec::new();
            for _ in 0..20 {
                for packet in &packets {
                    let to = SocketAddrV4::new(Ipv4Addr::new(10, 2, 0, 2), 0);
                    sender.send_to(packet, &to.into()).unwrap();
                }
                theirs = read(&tun, packets.len());
                if theirs == ours {
                    break;
                }
            }
            assert_eq!(ours, theirs, "{batch:x?}");
        }
    };
    netns.enter(visit).unwrap();
}

const BATCHES: &[Batch] = &[
    &[(0x10, 0, DF); 6],
    // ECE, AccECN's AE, both, and bits without a meaning yet.
    &[(0x50, 0, DF); 6],
    &[(0x10, 1, DF); 6],
    &[(0x50, 1, DF); 6],
    &[(0x10, 0xe, DF); 6],
    &[(0x00, 0, DF); 6],
    &[(0x10, 0, DF), (0x10, 0, DF), (0x50, 0, DF), (0x10, 0, DF), (0x10, 1, DF), (0x10, 1, DF)],
    // CWR.
    &[(0x90, 0, DF); 4],
    &[(0xd0, 1, DF); 4],
    &[(0x90, 0, DF), (0x10, 0, DF), (0x10, 0, DF), (0x90, 0, DF), (0x10, 0, DF), (0x10, 0, DF)],
    // PSH and FIN.
    &[(0x10, 0, DF), (0x10, 0, DF), (0x18, 0, DF), (0x10, 0, DF), (0x10, 0, DF)],
    &[(0x10, 0, DF), (0x10, 0, DF), (0x11, 0, DF)],
    &[(0x10, 0, DF), (0x10, 0, DF), (0x19, 0, DF), (0x10, 0, DF)],
    &[(0x11, 0, DF), (0x10, 0, DF), (0x10, 0, DF)],
    // URG, RST and SYN.
    &[(0x30, 0, DF); 3],
    &[(0x10, 0, DF), (0x14, 0, DF), (0x10, 0, DF), (0x12, 0, DF)],
    &[(0x10, 0, EVIL); 3],
    &[(0x10, 0, DF), (0x10, 0, DF), (0x10, 0, EVIL), (0x10, 0, DF)],
];

/// Packets come from veth0 to veth1, which waits for more for 20 ms, and go on to the TUN device.
const SETUP: &str = "
    ip link set tun0 up
    ip link add veth0 type veth peer name veth1
    ethtool -K veth0 tso off >/dev/null
    ethtool -K veth1 gro on >/dev/null
    mount -t sysfs none /sys
    echo 20000000 >/sys/class/net/veth1/gro_flush_timeout
    echo 100 >/sys/class/net/veth1/napi_defer_hard_irqs
    ip link set veth0 up
    ip link set veth1 up
    sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.veth1.rp_filter=0
    ip route add 10.2.0.0/24 dev tun0
    ip route add 10.2.0.0/24 dev veth0 metric 100
    ip neigh add 10.2.0.2 lladdr $(cat /sys/class/net/veth1/address) dev veth0
";

/// Number `index` of a flow, checksums complete.
fn packet(index: u16, &(flags, reserved, ip_flags): &(u8, u8, u8)) -> Vec<u8> {
    let sample = Sample {
        flags,
        reserved,
        id: 100 + index,
        sequence: u32::from(index) * SIZE as u32,
        payload: SIZE,
        ..PLAIN
    };
    let vnet = VnetHeader { gso: GsoType::None, gso_size: 0, ..sample.vnet() };
    let mut packet = cut(&vnet, &sample.packet()).remove(0);
    packet[6] = ip_flags;
    Ipv4::parse(&mut packet[..]).unwrap().fill_checksum();
    packet
}

/// How many packets each group has that we make of them.
fn joined(packets: &[Vec<u8>]) -> Vec<usize> {
    let mut coalescer = Box::new(Coalescer::<64>::default());
    for packet in packets {
        coalescer.push(&Ipv4::parse(&packet[..]).unwrap()).unwrap();
    }
    coalescer.groups().map(|group| group.count()).collect()
}

/// How many packets each of the super-packets has that come out of the device.
fn read(tun: &TunQueue, count: usize) -> Vec<usize> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut buffer = vec![0; 70_000];
    let mut counts = Vec::new();
    while counts.iter().sum::<usize>() < count {
        assert!(Instant::now() < deadline, "{counts:?} of {count} packets came");
        match tun.read(&mut buffer) {
            Ok(len) => {
                let packet = Ipv4::parse(&buffer[VnetHeader::LEN..len]);
                if let Ok(ip) = packet
                    && ip.source() == Ipv4Addr::from(super::SOURCE)
                {
                    counts.push(ip.payload_len() / SIZE);
                }
            }
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    counts
}

const SIZE: usize = 1_000;
