//! A plain UDP socket that stands in for another host's daemon.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use super::world::{World, lease_key, lease_value};
use super::{net, wait_for};

/// The peer: what arrives is an inner packet, what it sends is one.
pub struct PlainPeer {
    pub socket: UdpSocket,
    daemon: SocketAddrV4,
}

impl PlainPeer {
    /// One daemon with a container, its lease in etcd, and a peer that has a route from there.
    pub fn world(flags: &[&str]) -> (World, Self) {
        let mut world = World::with_etcd(2);
        world.join(0, flags);
        let peer = Self::register(&mut world, 1, 0, SUBNET);
        peer.patience(Duration::from_millis(200));
        // Until the route is there, a probe is answered with an ICMP error and reaches nobody.
        let here = world.place(0);
        let probe = net::udp(here.netns, here.address);
        wait_for("a first packet at the peer", net::PATIENCE, || {
            let _ = probe.send_to(b"probe", (INSIDE, 9));
            peer.try_receive().is_some()
        });
        while peer.try_receive().is_some() {}
        peer.patience(net::PATIENCE);
        (world, peer)
    }

    /// A peer at the underlay address of `host`, which runs no daemon, talking to that of
    /// `daemon`.
    pub fn open(world: &World, host: usize, daemon: usize) -> Self {
        let address = SocketAddrV4::new(world.host(host).address(), PORT);
        let socket = net::udp_at(world.host(host).netns(), address);
        Self { socket, daemon: SocketAddrV4::new(world.host(daemon).address(), PORT) }
    }

    /// The same with a lease for `subnet` (`10.0.19.0-24`) in etcd.
    pub fn register(world: &mut World, host: usize, daemon: usize, subnet: &str) -> Self {
        let peer = Self::open(world, host, daemon);
        let address = world.host(host).address();
        world.put(&lease_key(subnet), &lease_value(address)).expect("the lease of the peer");
        peer
    }

    /// The next inner packet; it must come from the daemon's address and port.
    pub fn receive(&self) -> Vec<u8> {
        self.try_receive().expect("a packet from the daemon")
    }

    /// The next inner packet, if one comes in time.
    pub fn try_receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65536];
        let (len, from) = self.socket.recv_from(&mut buffer).ok()?;
        assert_eq!(from, self.daemon.into(), "who sent it");
        buffer.truncate(len);
        Some(buffer)
    }

    /// How long receiving waits.
    pub fn patience(&self, patience: Duration) {
        self.socket.set_read_timeout(Some(patience)).expect("a read timeout");
    }

    /// Sends one inner packet to the daemon.
    pub fn send(&self, inner: &[u8]) {
        self.socket.send_to(inner, self.daemon).expect("sending to the daemon");
    }
}

/// A subnet for a plain peer, and a host in it. It lies outside what daemons choose from.
pub const SUBNET: &str = "10.0.99.0-24";
pub const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 99, 2);

/// flannel's port.
const PORT: u16 = 8285;
