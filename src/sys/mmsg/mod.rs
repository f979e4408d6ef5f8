//! Many datagrams in one system call: `sendmmsg(2)` and `recvmmsg(2)`, with the control messages
//! `UDP_SEGMENT` and `UDP_GRO` of `udp(7)`.
//!
//! All storage is allocated and wired once; a call rewrites lengths, addresses and segment sizes.
//! Where the kernel has neither call, `sendmsg(2)` and `recvmsg(2)` take one message at a time.

#![allow(clippy::unnecessary_cast, reason = "the lengths have other types with other C libraries")]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use super::check;

pub(super) mod cmsg;
mod recv;
mod send;

pub use cmsg::gro_segment;
pub use recv::{Received, RecvBatch};
#[cfg(test)]
pub use send::Message;
pub use send::{Filling, SendBatch};

/// Segments that one `UDP_SEGMENT` send may have: `UDP_MAX_SEGMENTS` of `include/linux/udp.h`
/// before Linux 6.9; newer kernels take 128.
pub const MAX_SEGMENTS: usize = 64;

/// Asks for both calls, with nothing to send or receive.
///
/// # Errors
/// `ENOSYS` where the kernel has none (`recvmmsg` came with Linux 2.6.33, `sendmmsg` with 3.0) or a
/// sandbox hides them, which may say `EPERM` as well.
pub fn probe(socket: &UdpSocket) -> io::Result<()> {
    let none = ptr::null_mut();
    // SAFETY: the length is zero, so the kernel does not read the list.
    unsafe { sendmmsg(socket, none, 0)? };
    // SAFETY: as above.
    unsafe { recvmmsg(socket, none, 0)? };
    Ok(())
}

/// `sendmmsg(2)` itself: musl's function of that name calls `sendmsg` once per message on 64-bit machines,
/// because the kernel takes as `size_t` what are an `int` and padding in musl's structures. The padding is
/// zero here ([`empty_header`]), so both read the same number.
///
/// # Safety
/// `headers` points at `count` headers, and all that they point at is readable for the call.
unsafe fn sendmmsg(
    socket: &UdpSocket,
    headers: *mut libc::mmsghdr,
    count: usize,
) -> io::Result<usize> {
    let (fd, count) = (socket.as_raw_fd(), count as libc::c_uint);
    // SAFETY: the caller vouches for the headers; the other arguments are integers of the width that the
    // kernel reads.
    let sent = unsafe { libc::syscall(libc::SYS_sendmmsg, fd, headers, count, libc::MSG_NOSIGNAL) };
    check(sent as _)
}

/// `recvmmsg(2)` itself, without waiting, for the same reason.
///
/// # Safety
/// `headers` points at `count` headers, and all that they point at is writable for the call.
unsafe fn recvmmsg(
    socket: &UdpSocket,
    headers: *mut libc::mmsghdr,
    count: usize,
) -> io::Result<usize> {
    let (fd, count) = (socket.as_raw_fd(), count as libc::c_uint);
    let no_timeout = ptr::null_mut::<libc::timespec>();
    // SAFETY: as for `sendmmsg`; a null timeout is none.
    let received = unsafe {
        libc::syscall(libc::SYS_recvmmsg, fd, headers, count, libc::MSG_DONTWAIT, no_timeout)
    };
    check(received as _)
}

/// A header that is zero throughout, also in the padding that some C libraries have between its fields.
fn empty_header() -> libc::mmsghdr {
    // SAFETY: `mmsghdr` is a C struct of integers and pointers: all zeros is a value.
    unsafe { mem::zeroed() }
}

fn sockaddr(to: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: to.ip().to_bits().to_be() },
        sin_zero: [0; 8],
    }
}

fn address(raw: &libc::sockaddr_in) -> SocketAddrV4 {
    SocketAddrV4::new(
        Ipv4Addr::from_bits(u32::from_be(raw.sin_addr.s_addr)),
        u16::from_be(raw.sin_port),
    )
}

#[cfg(test)]
mod tests;
