//! Containers that send to the UDP port of a host, where they could forge packets of the overlay.

use std::net::{SocketAddrV4, UdpSocket};
use std::time::Duration;

use flannel_udp::lab::{self, Lab};

use crate::support::raw::Ip;
use crate::support::test_lab::TestLab;
use crate::support::{exclusive, net, raw, wait_for};

const PORT: u16 = 8285;

/// Host 2 runs no daemon, so that a socket of the test has the port there and shows what arrives.
#[test]
fn workloads_cannot_send_to_the_port_of_a_host() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::build(Lab::builder().hosts(3));
    lab.start_etcd(2, lab::CONFIG).expect("etcd");
    lab.join(0, &["--ip-masq=true"]);
    lab.join(1, &["--ip-masq=true", "--protect-port=false"]);
    lab.meet(0, 1);
    let netns = lab.host(0).netns();
    // The rules for the bridge come with the next check after the bridge.
    let rules = || TestLab::run(netns, "iptables", &["-t", "mangle", "-S", "FLANNEL-PORT"]);
    wait_for("rules for docker0", Duration::from_secs(10), || rules().contains("-i docker0"));
    let node = SocketAddrV4::new(lab.host(2).address(), PORT);
    let target = net::udp_at(lab.host(2).netns(), node);
    let other = net::udp_at(lab.host(2).netns(), SocketAddrV4::new(*node.ip(), PORT + 1));

    // From a container with the protection: nothing, and other ports as before.
    let container = lab.endpoint(0);
    let socket = net::udp_at(container.netns, SocketAddrV4::new(container.address, PORT));
    socket.send_to(b"x", node).expect("a datagram");
    socket.send_to(b"x", SocketAddrV4::new(*node.ip(), PORT + 1)).expect("a datagram");
    assert!(arrives(&other));
    assert!(!arrives_after(&target, || {}), "from a container");
    // With a forged source: another container, a peer, a stranger.
    let sender = net::raw_sender(container.netns);
    for source in [lab.endpoint(1).address, lab.host(1).address(), [9, 9, 9, 9].into()] {
        let forged = Ip::new(source, *node.ip(), raw::UDP).udp((PORT, PORT), b"x");
        assert!(
            !arrives_after(&target, || net::send_raw(&sender, &forged).expect("a packet")),
            "{source}"
        );
    }
    // To its own host, on which the daemon would take it for a peer's.
    let before = rejected(&lab);
    socket.send_to(b"x", SocketAddrV4::new(lab.host(0).address(), PORT)).expect("a datagram");
    wait_for("a drop in INPUT", Duration::from_secs(2), || rejected(&lab) > before);

    // A nested overlay: from container to container.
    let there = lab.endpoint(1);
    let nested = net::udp_at(there.netns, SocketAddrV4::new(there.address, PORT));
    for (from, to) in [(&socket, &nested), (&nested, &socket)] {
        from.send_to(b"x", to.local_addr().expect("an address")).expect("a datagram");
        assert!(arrives(to), "between containers");
    }
    // The host itself, and a container without the protection.
    net::udp(netns, lab.host(0).address()).send_to(b"x", node).expect("a datagram");
    assert!(arrives(&target), "from the host");
    nested.send_to(b"x", node).expect("a datagram");
    assert!(arrives(&target), "with --protect-port=false");
    assert!(!TestLab::run(lab.host(1).netns(), "iptables-save", &[]).contains("FLANNEL-PORT"));
}

fn arrives(socket: &UdpSocket) -> bool {
    socket.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout");
    socket.recv(&mut [0; 64]).is_ok()
}

/// Whether a datagram arrives at once after `act`.
fn arrives_after(socket: &UdpSocket, act: impl FnOnce()) -> bool {
    act();
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    socket.recv(&mut [0; 64]).is_ok()
}

/// Packets that the rules on host 0 dropped.
fn rejected(lab: &TestLab) -> u64 {
    let list = ["-t", "mangle", "-nvx", "-L", "FLANNEL-PORT"];
    let listed = TestLab::run(lab.host(0).netns(), "iptables", &list);
    let drops = listed.lines().filter(|line| line.contains("DROP"));
    drops.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum()
}
