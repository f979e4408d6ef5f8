//! The UDP socket of a worker: `udp(7)`, `ip(7)`, `socket(7)`.

use std::io;
use std::mem;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::check;

/// Bytes asked for in each of the two socket buffers: half of what net.core.rmem_max commonly
/// refuses without `CAP_NET_ADMIN`, and enough for 4 ms at 16 Gbit/s.
const SOCKET_BUFFER: usize = 8 << 20;

/// A socket bound to `bind`. With `shared`, several may have the address (`SO_REUSEPORT`): the
/// kernel then keeps each sender on one of them, by a hash of addresses and ports.
///
/// # Errors
/// As `bind(2)`: the address is not this host's, or another program has the port.
pub fn bind(bind: SocketAddrV4, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(shared)?;
    socket.bind(&bind.into())?;
    Ok(socket.into())
}

/// Grows both socket buffers for bursts, as far as the process is allowed to.
pub fn grow_buffers(socket: &UdpSocket) {
    let socket = SockRef::from(socket);
    grow_buffer(&socket, libc::SO_RCVBUFFORCE, |size| socket.set_recv_buffer_size(size));
    grow_buffer(&socket, libc::SO_SNDBUFFORCE, |size| socket.set_send_buffer_size(size));
}

/// Whether the kernel cuts a long send into datagrams (`UDP_SEGMENT`, Linux 4.18).
pub fn has_segment(socket: &UdpSocket) -> bool {
    set_option(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok()
}

/// Asks the kernel to hand over runs of equal datagrams as one (`UDP_GRO`, Linux 5.0).
///
/// # Errors
/// `ENOPROTOOPT` where the kernel does not know it.
pub fn set_gro(socket: &UdpSocket, on: bool) -> io::Result<()> {
    set_option(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO, on.into())
}

/// Sets the TOS byte of each datagram that is sent (`IP_TOS`, `ip(7)`).
///
/// # Errors
/// As `setsockopt(2)`.
pub fn set_tos(socket: &UdpSocket, tos: u8) -> io::Result<()> {
    set_option(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_TOS, tos.into())
}

/// Whether the kernel fragments by a path MTU that it has learned, and forbids routers to fragment what is
/// shorter (`IP_PMTUDISC_WANT`, its default), or by the interface's MTU and any router by its own
/// (`IP_PMTUDISC_OMIT`, Linux 3.15): an ICMP error, which anybody can forge, then changes nothing.
///
/// # Errors
/// `EINVAL` where the kernel does not know it.
pub fn set_path_mtu_discovery(socket: &UdpSocket, on: bool) -> io::Result<()> {
    let mode = if on { libc::IP_PMTUDISC_WANT } else { libc::IP_PMTUDISC_OMIT };
    set_option(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, mode)
}

/// Asks for the length of the longest fragment with each datagram that came in fragments
/// (`IP_RECVFRAGSIZE`, Linux 4.9).
///
/// # Errors
/// `ENOPROTOOPT` where the kernel does not know it.
pub fn report_fragments(socket: &UdpSocket) -> io::Result<()> {
    set_option(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_RECVFRAGSIZE, 1)
}

/// How many datagrams the kernel has dropped because the receive buffer was full: the counter that
/// `SO_MEMINFO` gives at `SK_MEMINFO_DROPS` (`include/uapi/linux/sock_diag.h`).
///
/// # Errors
/// `ENOPROTOOPT` before Linux 4.12.
pub fn dropped(socket: &UdpSocket) -> io::Result<u32> {
    const SK_MEMINFO_DROPS: usize = 8;
    const SK_MEMINFO_VARS: usize = 9;
    let mut info = [0u32; SK_MEMINFO_VARS];
    let mut len = mem::size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` is writable for `len` bytes and both outlive the call.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    } as _)?;
    Ok(info[SK_MEMINFO_DROPS])
}

/// The path MTU that the kernel knows to where a connected socket sends (`IP_MTU`, `ip(7)`).
///
/// # Errors
/// `ENOTCONN`.
pub fn path_mtu(socket: &UdpSocket) -> io::Result<u32> {
    let mut mtu: libc::c_int = 0;
    let mut len = mem::size_of_val(&mtu) as libc::socklen_t;
    // SAFETY: `mtu` is writable for `len` bytes and both outlive the call.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU,
            (&raw mut mtu).cast(),
            &raw mut len,
        )
    } as _)?;
    Ok(mtu.unsigned_abs())
}

/// Beyond `rmem_max` and `wmem_max` where the process may, up to them where it may not.
fn grow_buffer(socket: &Socket, force: libc::c_int, plain: impl Fn(usize) -> io::Result<()>) {
    let size = SOCKET_BUFFER as libc::c_int;
    if set_option(socket.as_raw_fd(), libc::SOL_SOCKET, force, size).is_err() {
        // A small buffer loses bursts but carries packets: no reason to stop.
        let _ = plain(SOCKET_BUFFER);
    }
}

pub(super) fn set_option(
    fd: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let len = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is readable for `len` bytes and outlives the call.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) } as _)?;
    Ok(())
}
