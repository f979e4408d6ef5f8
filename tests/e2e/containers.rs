//! Traffic between containers, which must arrive unchanged in both directions.

use std::net::UdpSocket;
use std::time::Duration;

use flannel_udp::lab;

use crate::support::test_lab::{Endpoint, TestLab};
use crate::support::{accounting, bulk, exclusive, flow, net, pattern::Pattern, raw, raw::Ip};

#[test]
fn pings_arrive_with_a_ttl_one_less_per_router() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&[]);
    for (one, other) in [(0, 1), (1, 0)] {
        let (from, to) = (lab.host(one), lab.host(other));
        let pong = lab::ping::between(from.container(), to.container(), PATIENCE).expect("a pong");
        assert_eq!(pong.ttl, 60, "container to container: two hosts and two daemons");
        let flannel = lab.subnet(other).network();
        let pong = lab::ping::ping(from.netns(), flannel, PATIENCE).expect("a pong");
        assert_eq!(pong.ttl, 62, "host to host: two daemons");
    }
    accounting::check_balance(&mut lab);
}

#[test]
fn tcp_carries_the_same_bytes_both_ways() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&[]);
    let (here, there) = (lab.endpoint(0), lab.endpoint(1));
    bulk::transfer(here, there, 50 << 20, 1);
    bulk::transfer(there, here, 50 << 20, 2);
    std::thread::scope(|scope| {
        scope.spawn(|| bulk::transfer(here, there, 20 << 20, 3));
        scope.spawn(|| bulk::transfer(there, here, 20 << 20, 4));
    });
    accounting::check_balance(&mut lab);
}

#[test]
fn udp_of_every_size_arrives() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&[]);
    // Payloads: the last ones make packets beyond the MTU, which the sender fragments.
    flow::echo(lab.endpoint(0), lab.endpoint(1), 0..=1472);
    flow::echo(lab.endpoint(1), lab.endpoint(0), 0..=1472);
    accounting::check_balance(&mut lab);
}

#[test]
fn fragmented_packets_arrive_whole() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&[]);
    let sizes = [1445, 1473, 2000, 2888, 4000, 8191, 16_000, 40_001, 65_507];
    flow::echo(lab.endpoint(0), lab.endpoint(1), sizes);
    flow::echo(lab.endpoint(1), lab.endpoint(0), sizes);
    accounting::check_balance(&mut lab);
}

#[test]
fn packets_of_exactly_the_mtu_with_df_arrive() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&[]);
    let (here, there) = (lab.endpoint(0), lab.endpoint(1));
    let mtu = 1472;
    for (number, dont_fragment) in [true, false].into_iter().enumerate() {
        let payload = Pattern::bytes(number as u64, mtu - 28);
        let packet = raw_udp(here, there, &payload, |ip| ip.dont_fragment = dont_fragment);
        assert_eq!(packet.0.len(), mtu);
        send_and_expect(here, &packet, &payload);
    }
    let too_long = raw_udp(here, there, &vec![0; mtu - 28 + 1], |_| ()).0;
    let refused = net::send_raw(&net::raw_sender(here.netns), &too_long).expect_err("too long");
    assert_eq!(refused.raw_os_error(), Some(90), "EMSGSIZE: the container knows the overlay MTU");
    accounting::check_balance(&mut lab);
}

#[test]
fn options_and_missing_checksums_are_carried() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&[]);
    odd_packets(lab.endpoint(0), lab.endpoint(1));
    accounting::check_balance(&mut lab);
}

/// UDP with IP options, without DF, and without a checksum.
#[track_caller]
pub fn odd_packets(here: Endpoint<'_>, there: Endpoint<'_>) {
    for size in [0, 1, 18, 999, 1400] {
        let payload = Pattern::bytes(size as u64, size);
        let options = raw_udp(here, there, &payload, |ip| ip.options = vec![1, 1, 1, 0]);
        send_and_expect(here, &options, &payload);
        let may_be_cut = raw_udp(here, there, &payload, |ip| ip.dont_fragment = false);
        send_and_expect(here, &may_be_cut, &payload);
        let (mut unchecked, receiver) = raw_udp(here, there, &payload, |_| ());
        unchecked[26..28].copy_from_slice(&[0, 0]);
        send_and_expect(here, &(unchecked, receiver), &payload);
    }
}

/// A UDP packet with these IP fields, and the socket to which it is addressed.
fn raw_udp(
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    payload: &[u8],
    change: impl Fn(&mut Ip),
) -> (Vec<u8>, UdpSocket) {
    let receiver = net::udp(to.netns, to.address);
    let port = receiver.local_addr().expect("its address").port();
    let mut ip = Ip::new(from.address, to.address, raw::UDP);
    change(&mut ip);
    (ip.udp((9, port), payload), receiver)
}

/// Sends a packet until it arrives, as a queue on the path may overflow beside other traffic.
#[track_caller]
fn send_and_expect(from: Endpoint<'_>, sent: &(Vec<u8>, UdpSocket), payload: &[u8]) {
    let (packet, receiver) = sent;
    let sender = net::raw_sender(from.netns);
    receiver.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let mut buffer = [0; 2048];
    let came = (0..5).find_map(|_| {
        net::send_raw(&sender, packet).expect("sending");
        receiver.recv(&mut buffer).ok()
    });
    let len = came.expect("the packet");
    assert!(buffer[..len] == *payload, "{len} other bytes for {}", payload.len());
}

const PATIENCE: Duration = Duration::from_secs(5);
