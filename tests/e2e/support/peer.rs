//! A plain UDP socket in the place of another host's daemon.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use super::test_lab::{TestLab, lease_key, lease_value};
use super::{net, wait_for};

/// The peer. Each datagram that it receives or sends is one inner packet.
pub struct PlainPeer {
    pub socket: UdpSocket,
    daemon: SocketAddrV4,
}

impl PlainPeer {
    /// A lab with one daemon, its container and its lease in etcd, and a peer to which the daemon has a
    /// route.
    pub fn with_lab(flags: &[&str]) -> (TestLab, Self) {
        Self::with_leases(flags, |_| vec![])
    }

    /// [`Self::with_lab`] with further leases, each a subnet (`10.0.19.0-24`) and its holder, which the
    /// daemon has read before this returns.
    pub fn with_leases(
        flags: &[&str],
        leases: impl FnOnce(&TestLab) -> Vec<(String, Ipv4Addr)>,
    ) -> (TestLab, Self) {
        let mut lab = TestLab::with_etcd(2);
        lab.join(0, flags);
        for (subnet, holder) in leases(&lab) {
            lab.put(&lease_key(&subnet), &lease_value(holder)).expect("a lease");
        }
        let peer = Self::register(&mut lab, 1, 0, SUBNET);
        peer.set_timeout(Duration::from_millis(200));
        // Until the daemon has the route, it answers the probe with an ICMP error.
        let here = lab.endpoint(0);
        let probe = net::udp(here.netns, here.address);
        wait_for("a first packet at the peer", net::TIMEOUT, || {
            let _ = probe.send_to(b"probe", (INSIDE, 9));
            peer.try_receive().is_some()
        });
        while peer.try_receive().is_some() {}
        peer.set_timeout(net::TIMEOUT);
        (lab, peer)
    }

    /// A peer at the underlay address of `host`, which runs no daemon. It exchanges packets with the
    /// daemon on host `daemon`.
    pub fn open(lab: &TestLab, host: usize, daemon: usize) -> Self {
        let address = SocketAddrV4::new(lab.host(host).address(), PORT);
        let socket = net::udp_at(lab.host(host).netns(), address);
        Self { socket, daemon: SocketAddrV4::new(lab.host(daemon).address(), PORT) }
    }

    /// [`Self::open`] with a lease for `subnet` (`10.0.19.0-24`) in etcd.
    pub fn register(lab: &mut TestLab, host: usize, daemon: usize, subnet: &str) -> Self {
        let peer = Self::open(lab, host, daemon);
        let address = lab.host(host).address();
        lab.put(&lease_key(subnet), &lease_value(address)).expect("the lease of the peer");
        peer
    }

    /// Where the daemon receives.
    pub fn daemon(&self) -> SocketAddrV4 {
        self.daemon
    }

    /// The next inner packet, which must come from the daemon's address and port.
    pub fn receive(&self) -> Vec<u8> {
        self.try_receive().expect("a packet from the daemon")
    }

    /// The next inner packet; `None` if none arrives in time.
    pub fn try_receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65536];
        let (len, from) = self.socket.recv_from(&mut buffer).ok()?;
        assert_eq!(from, self.daemon.into(), "the sender");
        buffer.truncate(len);
        Some(buffer)
    }

    /// Sets how long receiving waits.
    pub fn set_timeout(&self, timeout: Duration) {
        self.socket.set_read_timeout(Some(timeout)).expect("a read timeout");
    }

    /// Sends one inner packet to the daemon.
    pub fn send(&self, inner: &[u8]) {
        self.socket.send_to(inner, self.daemon).expect("sending to the daemon");
    }
}

/// A subnet for a plain peer, and an address in it. It is outside the range from which daemons choose.
pub const SUBNET: &str = "10.0.99.0-24";
pub const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 99, 2);

/// flannel's port.
const PORT: u16 = 8285;
