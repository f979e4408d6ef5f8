//! The decision about a packet, in both directions: any bytes, from any sender, under any leases.
#![no_main]
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use arbitrary::Arbitrary;
use flannel_packet::ipv4::Ipv4;
use flannel_packet::protocol;
use flannel_packet::vnet::VnetHeader;
use flannel_udp::dataplane::forward::{self, Policy};
use flannel_udp::dataplane::tap::Tap;
use flannel_udp::dataplane::{
    CheckMode, Config, GraceReason, Offloads, OuterTos, ThreadInit, Threads,
};
use flannel_udp::route::{NextHop, table};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    mtu: u16,
    checks: [u8; 2],
    /// Third octets of leases, and the hosts that hold them.
    leases: Vec<(u8, u8)>,
    sender: u8,
    sender_port: u16,
    is_stale: bool,
    has_vnet: bool,
    read: Vec<u8>,
}

fn policy(input: &Input) -> Policy {
    let mode = |number: u8| match number % 3 {
        0 => CheckMode::Off,
        1 => CheckMode::Log,
        _ => CheckMode::Enforce,
    };
    let source = if input.checks[0] % 4 == PEERS { CheckMode::Peers } else { mode(input.checks[0] % 4) };
    Policy::from(&Config {
        tun_name: String::new(),
        address: Ipv4Addr::new(10, 0, 1, 0),
        network: "10.0.0.0/16".parse().unwrap(),
        subnet: "10.0.1.0/24".parse().unwrap(),
        mtu: input.mtu.into(),
        bind: SocketAddrV4::new(host(1), 8285),
        outer_tos: OuterTos::default(),
        workers: 1,
        threads: Threads::One,
        offloads: Offloads::AUTO,
        spin: Duration::ZERO,
        source_check: source,
        destination_check: mode(input.checks[1]),
        tap: Tap::default(),
        on_thread_start: ThreadInit::default(),
    })
}

fn host(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

fn is_udp_with(packet: &Ipv4<&[u8]>, ports: impl Fn((u16, u16)) -> bool) -> bool {
    packet.protocol() == protocol::UDP && packet.ports().is_some_and(ports)
}

/// Whether nothing but the time to live and the header checksum differs.
fn differs_in_ttl_only(before: &[u8], after: &[u8]) -> bool {
    let same = |at: usize| before[at] == after[at] || [8, 10, 11].contains(&at);
    before.len() == after.len() && (0..before.len()).all(same)
}

/// The modes of the check of sources, as numbers.
const OFF: u8 = 0;
const ENFORCE: u8 = 2;
const PEERS: u8 = 3;

fuzz_target!(|input: Input| {
    let policy = policy(&input);
    let (mut writer, routes) = table("10.0.0.0/16".parse().unwrap(), 24);
    for (octet, holder) in input.leases.iter().take(20) {
        let prefix = format!("10.0.{octet}.0/24").parse().unwrap();
        let hop = NextHop { ip: host(*holder), port: 8285 };
        writer.insert(prefix, hop).unwrap();
    }

    let prefix = if input.has_vnet { VnetHeader::LEN } else { 0 };
    if let Ok((vnet, start)) = forward::vnet_header(&input.read, prefix) {
        let packet = &input.read[start..];
        let mut sent = packet.to_vec();
        match forward::egress(&policy, &routes, &vnet, &mut sent) {
            Ok(out) => {
                let (before, after) = (Ipv4::parse(packet).unwrap(), Ipv4::parse(&sent[..]).unwrap());
                assert_eq!(Some(out.route.hop), routes.lookup(before.destination()));
                assert_eq!((out.len, after.ttl() + 1), (before.total_len(), before.ttl()));
                let may_be_fragmented = !before.dont_fragment() && out.segments.full_len() <= 65_507;
                assert!(out.segments.full_len() <= policy.mtu || may_be_fragmented);
                let comes_back = before.source() == *policy.outer.ip()
                    && is_udp_with(&before, |(from, _)| from == policy.outer.port());
                assert!(!comes_back);
            }
            Err(dropped) => {
                assert!(dropped.len <= packet.len() && dropped.size().0 > 0);
                let _ = dropped.icmp_error(policy.egress_icmp_source, &sent[..dropped.len]);
            }
        }
        assert!(differs_in_ttl_only(packet, &sent));
    }

    let mut received = input.read.clone();
    // Mostly the port of a daemon, since chance would seldom find it.
    let port = if input.sender_port % 4 == 0 { input.sender_port } else { 8285 };
    let sender = SocketAddrV4::new(host(input.sender), port);
    let grace_of =
        |_| if input.is_stale { Ok(GraceReason::RoutesStale) } else { Ok(GraceReason::FirstPacket) };
    let (checked, result) = forward::ingress(&policy, &routes, sender, grace_of, &mut received);
    match result {
        Ok(incoming) => {
            let checked = checked.expect("a packet that is carried has been checked");
            assert!(!checked.source_check.drops() && !checked.destination_check.drops());
            let before = Ipv4::parse(&input.read[..]).unwrap();
            assert_eq!(incoming.packet.ttl() + 1, before.ttl());
            let is_long = incoming.packet.total_len() > policy.mtu;
            assert_eq!(incoming.icmp.is_some(), is_long && before.dont_fragment());
            let holder = routes.lookup(before.source());
            let is_senders = holder.is_some_and(|hop| hop == NextHop { ip: *sender.ip(), port });
            let is_peer = port == 8285 && routes.leads_to(*sender.ip());
            let is_for_here = before.destination().octets()[..3] == [10, 0, 1];
            match input.checks[0] % 4 {
                ENFORCE => {
                    let has_grace = input.is_stale && is_peer && is_for_here;
                    assert!(is_senders || holder.is_none() && has_grace);
                }
                PEERS => {
                    let is_unknown = input.is_stale && holder.is_none() && is_for_here;
                    assert!(is_senders || is_peer || is_unknown);
                }
                _ => {}
            }
            if input.checks[0] % 4 != OFF {
                assert!(is_for_here || holder.is_some());
            }
            let is_nested = before.destination() == *policy.outer.ip()
                && is_udp_with(&before, |(_, to)| to == policy.outer.port());
            assert!(!is_nested);
        }
        Err(dropped) => assert!(dropped.len <= input.read.len()),
    }
    assert!(differs_in_ttl_only(&input.read, &received));
});
