//! The TOS byte of the IP header: DSCP and ECN (RFC 2474, RFC 3168).

use std::time::{Duration, Instant};

use flannel_udp::lab;
use socket2::SockRef;

use super::flow;
use super::net;
use super::raw;
use super::test_lab::TestLab;

/// Sends one flow of numbered datagrams whose TOS byte changes every [`RUN`] datagrams, and checks that
/// all arrive in order, each with its own TOS byte and content.
#[track_caller]
pub fn check_preserved(lab: &TestLab, from: usize, to: usize) {
    // Without offloads on its link the container receives single packets, not GSO packets.
    let whole = ["-K", "veth0", "tx", "off", "gso", "off"];
    TestLab::run(lab.host(to).netns(), "ethtool", &whole);
    let (here, there) = (lab.endpoint(from), lab.endpoint(to));
    let receiver = net::raw_receiver(there.netns, raw::UDP);
    receiver.set_recv_buffer_size(4 << 20).expect("a buffer");
    let listener = net::udp(there.netns, there.address);
    let address = listener.local_addr().expect("its address");
    let sender = net::udp(here.netns, here.address);
    for number in 0..PACKETS {
        if number % RUN == 0 {
            SockRef::from(&sender).set_tos_v4(tos(number).into()).expect("a TOS byte");
        }
        sender.send_to(&flow::packet(number, SIZE), address).expect("sending");
        if number % (4 * RUN) == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let start = Instant::now();
    let mut next = 0;
    while next < PACKETS {
        assert!(start.elapsed() < net::TIMEOUT, "{next} of {PACKETS} arrived");
        let packet = net::receive_raw(&receiver);
        let bytes = raw::whole(&packet).expect("one whole packet");
        if bytes[2..4] != address.port().to_be_bytes() {
            continue;
        }
        assert_eq!(flow::number_in(&bytes[8..]), Some(next), "the next in order");
        assert!(bytes[8..] == flow::packet(next, SIZE), "packet {next}: other bytes");
        assert_eq!(packet[1], tos(next), "packet {next}: another TOS byte");
        next += 1;
    }
}

/// All four ECN code points, with and without a DSCP.
fn tos(number: u64) -> u8 {
    let run = number / RUN;
    (run % 4) as u8 | if run % 8 < 4 { 0 } else { 0xb8 }
}

/// Makes the kernel of each host set CE (congestion experienced) on one in 40 ECT(0) packets of its
/// containers, as a router with active queue management does.
pub fn mark_congestion(lab: &TestLab) {
    for host in 0..2 {
        let node = lab.host(host).netns_name();
        for rule in [
            "add table ip marks",
            "add chain ip marks forward { type filter hook forward priority 0 ; }",
            "add rule ip marks forward oifname \"flannel*\" ip ecn ect0 numgen inc mod 40 0 ip ecn set ce",
        ] {
            lab::tool::run("ip", &["netns", "exec", node, "nft", rule]).expect(rule);
        }
    }
}

/// Ends [`mark_congestion`].
pub fn stop_marking(lab: &TestLab) {
    for host in 0..2 {
        TestLab::run(lab.host(host).netns(), "nft", &["delete", "table", "ip", "marks"]);
    }
}

/// Packets with CE set that arrived in the container of `host`.
pub fn congestion_marks(lab: &TestLab, host: usize) -> u64 {
    let table = TestLab::run(lab.endpoint(host).netns, "cat", &["/proc/net/netstat"]);
    super::conservation::counter(&table, "IpExt: InCEPkts")
}

const PACKETS: u64 = 640;
const RUN: u64 = 10;
const SIZE: usize = 700;
