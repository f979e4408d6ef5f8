//! `recvmmsg(2)`, and `recvmsg(2)` in its place.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use super::cmsg::{CONTROL_LEN, Control, gro_segment, longest_fragment};
use super::{address, empty_header, sockaddr};
use crate::sys::check;

/// Bytes of one receive buffer: a run of coalesced datagrams may fill 65,535.
const BUFFER: usize = 1 << 16;

/// Distance between buffers: the extra lines keep the first lines of all buffers, the only ones
/// that small packets touch, from falling into one set of the cache.
const STRIDE: usize = BUFFER + 3 * 64;

/// Buffers for one `recvmmsg`, each of the greatest length a datagram can have.
pub struct RecvBatch {
    headers: Box<[libc::mmsghdr]>,
    addresses: Box<[libc::sockaddr_in]>,
    controls: Box<[Control]>,
    iovecs: Box<[libc::iovec]>,
    bytes: Box<[u8]>,
    received: usize,
    batched: bool,
}

// SAFETY: the pointers inside lead to heap storage that the value owns and never moves.
unsafe impl Send for RecvBatch {}

/// What one message of the batch brought: one datagram, or a run of equal ones from one sender.
pub struct Received<'a> {
    /// The sender.
    pub from: SocketAddrV4,
    /// The datagrams, one after the other.
    pub bytes: &'a mut [u8],
    /// Bytes of each datagram but the last, which may be shorter.
    pub segment: usize,
    /// The kernel cut the datagram to fit (`MSG_TRUNC`).
    pub truncated: bool,
    /// Bytes of the longest fragment, its IP header included, of a datagram that came in fragments; else 0.
    /// Only told where [`crate::sys::udp::report_fragments`] asks for it.
    pub fragment: u16,
}

impl RecvBatch {
    /// Buffers for up to `messages` messages, which are received in one call if `batched`, else in
    /// one call each.
    pub fn new(messages: usize, batched: bool) -> Self {
        let iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            headers: vec![empty_header(); messages].into(),
            addresses: vec![sockaddr(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)); messages].into(),
            controls: vec![Control::EMPTY; messages].into(),
            iovecs: vec![iovec; messages].into(),
            bytes: vec![0; messages * STRIDE].into(),
            received: 0,
            batched,
        }
    }

    /// Receives up to `depth` messages without waiting; returns how many came.
    ///
    /// # Errors
    /// `EAGAIN` when there is none; an error that an earlier send left on the socket.
    pub fn receive(&mut self, socket: &UdpSocket, depth: usize) -> io::Result<usize> {
        self.received = 0;
        let depth = depth.min(if self.batched { self.headers.len() } else { 1 });
        let buffers = self.bytes.as_mut_ptr();
        for index in 0..depth {
            self.iovecs[index] = libc::iovec {
                iov_base: buffers.wrapping_add(index * STRIDE).cast(),
                iov_len: BUFFER,
            };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.addresses[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_iov = &raw mut self.iovecs[index];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[index].0.as_mut_ptr().cast();
            // The kernel leaves here what it wrote: without the reset, nothing the next time.
            header.msg_controllen = CONTROL_LEN as _;
        }
        if !self.batched {
            let header = &mut self.headers[0];
            // SAFETY: as below, for the one header.
            let len = check(unsafe {
                libc::recvmsg(socket.as_raw_fd(), &raw mut header.msg_hdr, libc::MSG_DONTWAIT)
            })?;
            header.msg_len = len as libc::c_uint;
            self.received = 1;
            return Ok(1);
        }
        // SAFETY: each of the `depth` headers points at an address, a control buffer, and one iovec
        // over a buffer of its own, all owned by `self`, which is borrowed for the call.
        self.received = unsafe { super::recvmmsg(socket, self.headers.as_mut_ptr(), depth)? };
        Ok(self.received)
    }

    /// Message `index` of those received last.
    ///
    /// # Panics
    /// If fewer were received.
    pub fn message(&mut self, index: usize) -> Received<'_> {
        assert!(index < self.received);
        let header = &self.headers[index];
        let len = (header.msg_len as usize).min(BUFFER);
        let control_len = (header.msg_hdr.msg_controllen as usize).min(CONTROL_LEN);
        let control = &self.controls[index].0[..control_len];
        // The kernel joins no datagrams that came in fragments.
        let (segment, fragment) = match gro_segment(control) {
            Some(segment) => (segment.into(), 0),
            None if control.is_empty() => (len, 0),
            None => (len, longest_fragment(control).unwrap_or(0)),
        };
        Received {
            from: address(&self.addresses[index]),
            segment,
            fragment,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            bytes: &mut self.bytes[index * STRIDE..][..len],
        }
    }

    /// Who sent what lies at `offset` of [`RecvBatch::bytes`].
    ///
    /// # Panics
    /// If `offset` is beyond the bytes.
    pub fn sender(&self, offset: usize) -> SocketAddrV4 {
        address(&self.addresses[offset / STRIDE])
    }

    /// The same, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The bytes of all buffers, for slices by [`RecvBatch::offset`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where message `index` begins in [`RecvBatch::bytes`].
    pub fn offset(index: usize) -> usize {
        index * STRIDE
    }
}
