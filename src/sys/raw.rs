//! Raw sockets: `raw(7)`, `ip(7)`.

use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use socket2::Socket;

use super::check;
use super::mmsg::cmsg;
use super::udp::set_option;

/// Asks the kernel to say with each packet whether it came in fragments (`IP_RECVFRAGSIZE`, Linux 4.11).
///
/// # Errors
/// `ENOPROTOOPT` where the kernel does not know it.
pub fn report_fragments(socket: &Socket) -> io::Result<()> {
    set_option(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_RECVFRAGSIZE, 1)
}

/// Receives a packet; returns its length, cut to that of `buffer`, and the length of the longest fragment that it
/// came in, `None` if it came whole.
///
/// # Errors
/// As `recvmsg(2)`: `EAGAIN` if there is none and the socket is non-blocking.
pub fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Option<usize>)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = cmsg::Control::EMPTY;
    // SAFETY: `msghdr` is a C struct of integers and pointers: all zeros is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len() as _;
    // SAFETY: the iovec and the control buffer are writable for their lengths, and all outlive the call.
    let len = check(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) } as _)?;
    let filled = control.0.get(..header.msg_controllen as usize).unwrap_or_default();
    Ok((len, cmsg::longest_fragment(filled).map(usize::from)))
}
