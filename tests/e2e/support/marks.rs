//! Datagrams of one flow with changing marks in their IP headers: type of service, ECN included.

use std::time::{Duration, Instant};

use flannel_udp::lab;
use socket2::SockRef;

use super::flow;
use super::net;
use super::raw;
use super::world::World;

/// Sends runs of equal datagrams whose marks change from run to run, and checks at the far end that
/// all arrive in order, each with its own mark and content.
#[track_caller]
pub fn survive(world: &World, from: usize, to: usize) {
    // The container shall see packets as they are on a wire, not a run of them in one.
    let whole = ["-K", "veth0", "tx", "off", "gso", "off"];
    World::run(world.host(to).netns(), "ethtool", &whole);
    let (here, there) = (world.place(from), world.place(to));
    let receiver = net::raw_receiver(there.netns, raw::UDP);
    receiver.set_recv_buffer_size(4 << 20).expect("a buffer");
    let taker = net::udp(there.netns, there.address);
    let address = taker.local_addr().expect("its address");
    let sender = net::udp(here.netns, here.address);
    for number in 0..PACKETS {
        if number % RUN == 0 {
            SockRef::from(&sender).set_tos_v4(mark(number).into()).expect("a mark");
        }
        sender.send_to(&flow::packet(number, SIZE), address).expect("sending");
        if number % (4 * RUN) == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let start = Instant::now();
    let mut next = 0;
    while next < PACKETS {
        assert!(start.elapsed() < net::PATIENCE, "{next} of {PACKETS} arrived");
        let packet = net::receive_raw(&receiver);
        let bytes = raw::whole(&packet).expect("one whole packet");
        if bytes[2..4] != address.port().to_be_bytes() {
            continue;
        }
        assert_eq!(flow::number_in(&bytes[8..]), Some(next), "the next in order");
        assert!(bytes[8..] == flow::packet(next, SIZE), "packet {next}: other bytes");
        assert_eq!(packet[1], mark(next), "packet {next}: another mark");
        next += 1;
    }
}

/// All four ECN code points, with and without a code point of DiffServ.
fn mark(number: u64) -> u8 {
    let run = number / RUN;
    (run % 4) as u8 | if run % 8 < 4 { 0 } else { 0xb8 }
}

/// Has the kernel of each host mark some of what its containers send as having met congestion, as a
/// router with active queue management would.
pub fn congest(world: &World) {
    for host in 0..2 {
        let node = world.host(host).netns_name();
        for rule in [
            "add table ip marks",
            "add chain ip marks forward { type filter hook forward priority 0 ; }",
            "add rule ip marks forward oifname \"flannel*\" ip ecn ect0 numgen inc mod 40 0 ip ecn set ce",
        ] {
            lab::tool::run("ip", &["netns", "exec", node, "nft", rule]).expect(rule);
        }
    }
}

/// Ends [`congest`].
pub fn ease(world: &World) {
    for host in 0..2 {
        World::run(world.host(host).netns(), "nft", &["delete", "table", "ip", "marks"]);
    }
}

/// Segments with the mark of congestion that arrived in the container of `host`.
pub fn congested(world: &World, host: usize) -> u64 {
    let table = World::run(world.place(host).netns, "cat", &["/proc/net/netstat"]);
    super::ledger::counter(&table, "IpExt: InCEPkts")
}

const PACKETS: u64 = 640;
const RUN: u64 = 10;
const SIZE: usize = 700;
