//! Random packets under random leases: a running daemon does what `dataplane::forward` decides.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use flannel_udp::dataplane::forward::{self, Dropped, Incoming, Policy};
use flannel_udp::dataplane::tap::Tap;
use flannel_udp::dataplane::{
    CheckMode, Config, GraceReason, Offloads, OuterTos, ThreadInit, Threads,
};
use flannel_udp::packet::icmp;
use flannel_udp::packet::ipv4::Ipv4;
use flannel_udp::packet::vnet::VnetHeader;
use flannel_udp::route::{self, NextHop, RouteTable};

use crate::support::accounting::{self, Direction};
use crate::support::peer::{self, PlainPeer};
use crate::support::raw::{self, Ip};
use crate::support::test_lab::TestLab;
use crate::support::{exclusive, net};

/// Leases under test; the third octets are outside the range from which daemons choose.
const LEASES: u8 = 12;
/// Packets in each direction.
const PACKETS: usize = 300;
/// Ports of the datagrams between daemons.
const OUTER_PORTS: (u16, u16) = (8285, 8285);
/// A host that holds leases and is not there.
const ABSENT: Ipv4Addr = Ipv4Addr::new(10, 211, 55, 77);

#[test]
fn running_daemons_do_what_the_decision_says() {
    let Some(_exclusive) = exclusive() else { return };
    for mode in [CheckMode::Off, CheckMode::Log, CheckMode::Peers, CheckMode::Enforce] {
        let seed = fastrand::u64(..);
        println!("checks {mode}, seed {seed}");
        let mut rng = Rng::with_seed(seed);
        let octets: Vec<u8> = (0..LEASES).map(|_| rng.u8(30..98)).collect();
        let to_peer: Vec<bool> = octets.iter().map(|_| rng.bool()).collect();
        let holder = |lab: &TestLab, at: usize| {
            if to_peer[at] { lab.host(1).address() } else { ABSENT }
        };
        let destination = destination_check(mode);
        let flags =
            [format!("--source-check={mode}"), format!("--destination-check={destination}")];
        let flags = [flags[0].as_str(), flags[1].as_str()];
        let (mut lab, peer) = PlainPeer::with_leases(&flags, |lab| {
            let lease = |at: usize| (format!("10.0.{}.0-24", octets[at]), holder(lab, at));
            (0..octets.len()).map(lease).collect()
        });
        let (mut writer, routes) = route::table("10.0.0.0/16".parse().expect("a network"), 24);
        let mut insert = |octet: u8, ip| {
            let prefix = format!("10.0.{octet}.0/24").parse().expect("a prefix");
            writer.insert(prefix, NextHop { ip, port: 8285 }).expect("inside the network");
        };
        for (at, octet) in octets.iter().enumerate() {
            insert(*octet, holder(&lab, at));
        }
        insert(peer::INSIDE.octets()[2], lab.host(1).address());
        let policy = Policy::from(&config(&lab, mode));
        egress(&mut lab, &peer, &policy, &routes, &octets, &mut rng);
        ingress(&mut lab, &peer, &policy, &routes, &octets, &mut rng);
    }
}

/// The mode of the other check beside this one of the source's.
fn destination_check(source: CheckMode) -> CheckMode {
    if source == CheckMode::Peers { CheckMode::Log } else { source }
}

/// The configuration of the daemon on host 0.
fn config(lab: &TestLab, mode: CheckMode) -> Config {
    Config {
        tun_name: "flannel0".to_owned(),
        address: lab.subnet(0).network(),
        network: "10.0.0.0/16".parse().expect("a network"),
        subnet: lab.subnet(0),
        mtu: 1_472.into(),
        bind: SocketAddrV4::new(lab.host(0).address(), 8285),
        outer_tos: OuterTos::default(),
        workers: 1,
        threads: Threads::Auto,
        offloads: Offloads::AUTO,
        spin: Duration::ZERO,
        source_check: mode,
        destination_check: destination_check(mode),
        tap: Tap::default(),
        on_thread_start: ThreadInit::default(),
    }
}

/// What a direction's counters are expected to have gained.
#[derive(Default)]
struct Expected {
    carried: u64,
    drops: BTreeMap<&'static str, u64>,
    icmp: u64,
}

impl Expected {
    fn drop(&mut self, dropped: &Dropped, source: Ipv4Addr, packet: &[u8]) {
        *self.drops.entry(dropped.reason.name()).or_default() += dropped.size().0 as u64;
        self.icmp += u64::from(dropped.icmp_error(source, packet).is_some());
    }

    #[track_caller]
    fn check(&self, before: &Direction, after: &Direction) {
        for (reason, count) in &after.drops {
            let expected = self.drops.get(reason.as_str()).copied().unwrap_or_default();
            assert_eq!(count - before.dropped(reason), expected, "packets dropped as {reason}");
        }
        assert_eq!(after.carried - before.carried, self.carried, "packets carried");
        let icmp = |counters: &Direction| counters.icmp + counters.icmp_limited;
        assert_eq!(icmp(after) - icmp(before), self.icmp, "ICMP errors, sent or held back");
    }
}

/// Valid packets that this host sends, of any leased or unleased destination.
fn egress(
    lab: &mut TestLab,
    peer: &PlainPeer,
    policy: &Policy,
    routes: &Arc<RouteTable>,
    octets: &[u8],
    rng: &mut Rng,
) {
    let own = lab.subnet(0);
    let sender = net::raw_sender(lab.host(0).netns());
    let before = accounting::balanced(lab, 0).egress;
    let (mut expected, mut to_receive) = (Expected::default(), vec![]);
    for number in 0..PACKETS {
        let destination = Ipv4Addr::new(10, 0, third_octet(octets, rng), rng.u8(1..255));
        let to_absent = routes.lookup(destination).is_some_and(|hop| hop.ip == ABSENT);
        if own.contains(destination) || to_absent {
            continue;
        }
        let mut ip = Ip::new(own.network(), destination, raw::EXPERIMENT);
        (ip.id, ip.dont_fragment) = (1 + number as u16, rng.bool());
        ip.ttl = if rng.u8(..10) == 0 { 1 } else { rng.u8(2..) };
        ip.options = vec![1; 4 * rng.usize(..3)];
        let len = rng.usize(..1_440);
        let payload = bytes(len, rng);
        let mut packet = match rng.u8(..10) {
            // A datagram of the daemon that the kernel routes into the device.
            0 => Ip { source: *policy.outer.ip(), protocol: raw::UDP, ..ip }
                .udp(OUTER_PORTS, &payload),
            _ => ip.packet(&payload),
        };
        net::send_raw(&sender, &packet).expect("a packet into the TUN device");
        match forward::egress(policy, routes, &VnetHeader::NONE, &mut packet) {
            Ok(out) => {
                expected.carried += 1;
                to_receive.push(packet[..out.len].to_vec());
            }
            Err(dropped) => expected.drop(&dropped, policy.egress_icmp_source, &packet),
        }
        // The queue of the TUN device, and below that of the peer's socket, never fill up.
        std::thread::sleep(Duration::from_millis(3));
    }
    assert!(to_receive.len() > 10, "some packets are for the peer");
    for (number, packet) in to_receive.iter().enumerate() {
        assert!(peer.receive() == *packet, "packet {number} as the decision left it");
    }
    expected.check(&before, &accounting::balanced(lab, 0).egress);
}

/// Datagrams of valid, changed and arbitrary bytes that a peer sends.
fn ingress(
    lab: &mut TestLab,
    peer: &PlainPeer,
    policy: &Policy,
    routes: &Arc<RouteTable>,
    octets: &[u8],
    rng: &mut Rng,
) {
    let own = lab.subnet(0);
    let receiver = net::raw_receiver(lab.host(0).netns(), raw::EXPERIMENT);
    let from = SocketAddrV4::new(lab.host(1).address(), 8285);
    let before = accounting::balanced(lab, 0).ingress;
    let (mut expected, mut delivered, mut answers) = (Expected::default(), vec![], 0);
    for number in 0..PACKETS {
        let mut datagram = datagram(number, own.network(), octets, rng);
        if rng.u8(..10) == 0 {
            let nested = Ip::new(peer::INSIDE, *policy.outer.ip(), raw::UDP);
            datagram = nested.udp(OUTER_PORTS, &datagram);
        }
        peer.send(&datagram);
        // The lease of an unleased source may be about to arrive for five seconds, which this test
        // does not take.
        let grace = |_| Ok(GraceReason::FirstPacket);
        let (_, result) = forward::ingress(policy, routes, from, grace, &mut datagram);
        let carried = result
            .map(|Incoming { packet, icmp, .. }| (packet.destination(), packet.total_len(), icmp));
        match carried {
            Ok((destination, len, icmp)) => {
                expected.carried += 1;
                let told = |kind| {
                    let (packet, source) = (&datagram[..len], policy.ingress_icmp_source);
                    icmp::error(kind, packet, source, &mut [0; icmp::MAX_LEN]).is_some()
                };
                expected.icmp += u64::from(icmp.is_some_and(told));
                if destination == own.network() {
                    delivered.push(datagram[..len].to_vec());
                }
            }
            Err(dropped) => {
                let (icmp, source) = (expected.icmp, policy.ingress_icmp_source);
                expected.drop(&dropped, source, &datagram[..dropped.len]);
                answers += expected.icmp - icmp;
            }
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    assert!(delivered.len() > 10, "some packets are for this host");
    for packet in delivered.iter().filter(|packet| is_accepted(packet, policy)) {
        let mut received = net::receive_raw(&receiver);
        while !is_accepted(&received, policy) {
            received = net::receive_raw(&receiver);
        }
        assert!(received == *packet, "a packet as the decision left it");
    }
    // Without checks the kernel may send back what is for another host.
    let is_answer = |packet: &[u8]| {
        raw::source(packet) == policy.ingress_icmp_source && (packet[9], packet[20]) == (1, 11)
    };
    for _ in 0..answers {
        while !is_answer(&peer.receive()) {}
    }
    expected.check(&before, &accounting::balanced(lab, 0).ingress);
}

/// Whether this host's kernel delivers `packet`, which was written to the TUN device, whatever its
/// settings: the header is valid, and the way back to the source leads through the device.
fn is_accepted(packet: &[u8], policy: &Policy) -> bool {
    let source = raw::source(packet);
    let is_remote = source.octets()[..2] == [10, 0]
        && source.octets()[2] != policy.ingress_icmp_source.octets()[2];
    is_remote && Ipv4::parse(packet).is_ok_and(|ip| ip.verify_checksum())
}

fn bytes(len: usize, rng: &mut Rng) -> Vec<u8> {
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

/// The third octet of an address that may be in the lease of the peer, or in another, or in none.
fn third_octet(octets: &[u8], rng: &mut Rng) -> u8 {
    match rng.u8(..4) {
        0 => octets[rng.usize(..octets.len())],
        1 => rng.u8(28..100),
        _ => peer::INSIDE.octets()[2],
    }
}

/// A valid packet in most cases, or one with a changed byte, a cut one, one with bytes behind it, or
/// arbitrary bytes.
fn datagram(number: usize, own: Ipv4Addr, octets: &[u8], rng: &mut Rng) -> Vec<u8> {
    let source = match rng.u8(..8) {
        0 => Ipv4Addr::new(172, 16, rng.u8(..), 1),
        1 => Ipv4Addr::new(10, 0, own.octets()[2], rng.u8(2..250)),
        _ => Ipv4Addr::new(10, 0, third_octet(octets, rng), rng.u8(1..255)),
    };
    let destination = match rng.u8(..4) {
        0 => Ipv4Addr::new(10, 0, third_octet(octets, rng), rng.u8(1..255)),
        _ => own,
    };
    let mut ip = Ip::new(source, destination, raw::EXPERIMENT);
    (ip.id, ip.dont_fragment) = (1 + number as u16, rng.bool());
    ip.ttl = if rng.u8(..10) == 0 { rng.u8(..2) } else { rng.u8(10..) };
    let len = if rng.u8(..20) == 0 { rng.usize(1_440..2_000) } else { rng.usize(..200) };
    let mut packet = ip.packet(&bytes(len, rng));
    match rng.u8(..10) {
        0 => packet.truncate(rng.usize(..packet.len())),
        1 => packet[rng.usize(..4)] = rng.u8(..),
        2 => packet.extend([0; 7]),
        3 => {
            let len = rng.usize(..80);
            packet = bytes(len, rng);
        }
        _ => {}
    }
    packet
}
