//! Sockets opened in a namespace; the threads of a test use them from outside it.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use flannel_udp::sys::netns::Netns;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Time limit for a receive that is expected to succeed.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// A UDP socket on `address` in `netns`, any port.
pub fn udp(netns: &Netns, address: Ipv4Addr) -> UdpSocket {
    udp_at(netns, SocketAddrV4::new(address, 0))
}

/// A UDP socket on `address` in `netns`.
pub fn udp_at(netns: &Netns, address: SocketAddrV4) -> UdpSocket {
    let socket = inside(netns, || UdpSocket::bind(address));
    socket.set_read_timeout(Some(TIMEOUT)).expect("a read timeout");
    // The kernel caps the size at net.core.rmem_max.
    let _ = SockRef::from(&socket).set_recv_buffer_size(4 << 20);
    socket
}

/// A TCP listener on `address` in `netns`, any port.
pub fn listener(netns: &Netns, address: Ipv4Addr) -> TcpListener {
    inside(netns, || TcpListener::bind(SocketAddrV4::new(address, 0)))
}

/// A TCP connection from `netns`.
pub fn connect(netns: &Netns, to: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = netns.enter(|| TcpStream::connect_timeout(&to, timeout))??;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// A socket that sends whole IP packets, header included.
pub fn raw_sender(netns: &Netns) -> Socket {
    const WHOLE_PACKETS: i32 = 255;
    inside(netns, || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(WHOLE_PACKETS))))
}

/// A socket that receives whole IP packets of one protocol, header included, that were delivered to
/// the namespace.
pub fn raw_receiver(netns: &Netns, protocol: u8) -> Socket {
    let socket = inside(netns, || {
        Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(protocol))))
    });
    socket.set_read_timeout(Some(TIMEOUT)).expect("a read timeout");
    socket
}

/// The next packet of a [`raw_receiver`].
#[track_caller]
pub fn receive_raw(mut socket: &Socket) -> Vec<u8> {
    let mut buffer = vec![0; 65536];
    let len = socket.read(&mut buffer).expect("a packet");
    buffer.truncate(len);
    buffer
}

/// Sends a whole IP packet to the destination in its header.
pub fn send_raw(socket: &Socket, packet: &[u8]) -> io::Result<()> {
    let to = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
    socket.send_to(packet, &SocketAddrV4::new(to, 0).into()).map(drop)
}

fn inside<T: Send>(netns: &Netns, open: impl FnOnce() -> io::Result<T> + Send) -> T {
    netns.enter(open).and_then(|opened| opened).expect("a socket in a namespace")
}
