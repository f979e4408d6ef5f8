//! The lease of a peer is replaced by one with another address during a flow.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::peer::{self, PlainPeer};
use crate::support::test_lab::{TestLab, lease_key, lease_value};
use crate::support::{accounting, exclusive, flow, net, raw};

#[test]
fn traffic_moves_to_the_new_address_and_none_goes_astray() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::with_etcd(3);
    lab.join(0, &[]);
    let old = PlainPeer::register(&mut lab, 1, 0, peer::SUBNET);
    let new = PlainPeer::open(&lab, 2, 0);
    for peer in [&old, &new] {
        peer.set_timeout(Duration::from_millis(300));
    }
    let here = lab.endpoint(0);
    let sender = net::udp(here.netns, here.address);
    let stop = AtomicBool::new(false);
    let (at_old, at_new, sent) = thread::scope(|scope| {
        let sending = scope.spawn(|| send_until(&sender, &stop));
        let at_old = scope.spawn(|| numbers(&old, &stop));
        let at_new = scope.spawn(|| numbers(&new, &stop));
        thread::sleep(Duration::from_secs(2));
        let value = lease_value(lab.host(2).address());
        lab.put(&lease_key(peer::SUBNET), &value).expect("the new address");
        thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        let [old, new] = [at_old, at_new].map(|peer| peer.join().expect("a peer"));
        (old, new, sending.join().expect("the sender"))
    });

    let (first, last) = (at_old.first().expect("packets at the old address"), sent - 1);
    let turned = at_new.first().expect("packets at the new address");
    let (old, new): (Vec<u64>, Vec<u64>) =
        ((*first..*turned).collect(), (*turned..=last).collect());
    assert!(at_old == old, "the old address gets all up to {turned}, in order: {at_old:?}");
    assert!(at_new == new, "the new address gets all from {turned} on, in order: {at_new:?}");
    assert!(at_old.len() > 500 && at_new.len() > 500, "{} and {}", at_old.len(), at_new.len());
    accounting::check_balance(&mut lab);
}

/// Sends numbered packets until `stop`; returns how many.
fn send_until(socket: &UdpSocket, stop: &AtomicBool) -> u64 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        socket.send_to(&flow::packet(number, 64), (peer::INSIDE, 7000)).expect("sending");
        number += 1;
        thread::sleep(Duration::from_micros(500));
    }
    number
}

/// The numbers of the packets that reach `peer`, until none arrives after `stop`.
fn numbers(peer: &PlainPeer, stop: &AtomicBool) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        match peer.try_receive() {
            Some(packet) if packet[9] == raw::UDP => {
                let segment = raw::whole(&packet).expect("one whole packet");
                numbers.extend(flow::number_in(&segment[8..]));
            }
            Some(_) => {}
            None if stop.load(Ordering::Relaxed) => return numbers,
            None => {}
        }
    }
}
