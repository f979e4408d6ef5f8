//! `sendmmsg(2)`, and `sendmsg(2)` in its place.

use std::io;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use super::cmsg::{CONTROL_LEN, Control};
use super::{empty_header, sockaddr};
use crate::sys::check;
use crate::sys::iovec::{MAX_IOVECS, iovec};

/// Storage for one `sendmmsg`.
pub struct SendBatch {
    headers: Box<[libc::mmsghdr]>,
    addresses: Box<[libc::sockaddr_in]>,
    controls: Box<[Control]>,
    /// Where in `iovecs` each message's list begins.
    starts: Box<[usize]>,
    iovecs: Box<[libc::iovec]>,
    batched: bool,
}

// SAFETY: the pointers inside are followed only through a `Filling`, which borrows both the storage
// and the bytes, and are set again before each call.
unsafe impl Send for SendBatch {}

impl SendBatch {
    /// Storage for `messages` messages of `parts` parts in all, which are sent in one call if
    /// `batched`, else in one call each.
    pub fn new(messages: usize, parts: usize, batched: bool) -> Self {
        let iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            headers: vec![empty_header(); messages].into(),
            addresses: vec![sockaddr(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)); messages].into(),
            controls: vec![Control::EMPTY; messages].into(),
            starts: vec![0; messages].into(),
            iovecs: vec![iovec; parts].into(),
            batched,
        }
    }

    /// Begins a new batch.
    #[inline]
    pub fn begin<'a>(&mut self) -> Filling<'_, 'a> {
        Filling { batch: self, messages: 0, parts: 0, bytes: PhantomData }
    }
}

/// What one message of a batch tells the kernel to send.
#[cfg(test)]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The destination.
    pub to: SocketAddrV4,
    /// Bytes of each datagram that the kernel cuts, if it is to cut.
    pub segment: Option<u16>,
    /// The TOS byte that it asks for; 0 if it asks for none.
    pub tos: u8,
    /// The payload of all datagrams.
    pub bytes: Vec<u8>,
}

/// A batch being filled: `'a` is the life of the bytes it points at.
pub struct Filling<'b, 'a> {
    batch: &'b mut SendBatch,
    messages: usize,
    parts: usize,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Filling<'_, 'a> {
    /// Whether a further message of `parts` parts has room.
    #[inline]
    pub fn has_room(&self, parts: usize) -> bool {
        self.messages < self.batch.headers.len() && parts <= self.batch.iovecs.len() - self.parts
    }

    /// Opens a message to `to`; with a `segment` size the kernel cuts it into datagrams of that
    /// many bytes, and with a `tos` other than 0 their TOS byte is that and not the socket's. The parts
    /// that follow belong to it.
    ///
    /// # Panics
    /// Without room.
    #[inline]
    pub fn open(&mut self, to: SocketAddrV4, segment: Option<u16>, tos: u8) {
        let index = self.messages;
        self.batch.addresses[index] = sockaddr(to);
        self.batch.starts[index] = self.parts;
        let header = &mut self.batch.headers[index].msg_hdr;
        header.msg_iovlen = 0;
        header.msg_controllen = self.batch.controls[index].set(segment, tos) as _;
        self.messages += 1;
    }

    /// Appends bytes to the message opened last; bytes that lie behind the part before become one
    /// part with it.
    ///
    /// # Panics
    /// Without room, or before the first message.
    #[inline]
    pub fn push(&mut self, part: &'a [u8]) {
        if part.is_empty() {
            return;
        }
        let header = &mut self.batch.headers[self.messages - 1].msg_hdr;
        if header.msg_iovlen > 0 {
            let last = &mut self.batch.iovecs[self.parts - 1];
            let end = last.iov_base.cast::<u8>().cast_const().wrapping_add(last.iov_len);
            if end == part.as_ptr() {
                last.iov_len += part.len();
                return;
            }
        }
        debug_assert!((header.msg_iovlen as usize) < MAX_IOVECS);
        header.msg_iovlen += 1;
        self.batch.iovecs[self.parts] = iovec(part);
        self.parts += 1;
    }

    /// Number of messages in the batch.
    pub fn len(&self) -> usize {
        self.messages
    }

    /// Whether the batch has no message.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Message `index`, as the kernel would see it.
    ///
    /// # Panics
    /// If there are fewer messages.
    #[cfg(test)]
    pub fn message(&self, index: usize) -> Message {
        let header = &self.batch.headers[index].msg_hdr;
        let parts = self.batch.starts[index]..self.parts;
        let parts = &self.batch.iovecs[parts][..header.msg_iovlen as usize];
        let (segment, tos) = self.batch.controls[index].get(header.msg_controllen as usize);
        Message {
            to: super::address(&self.batch.addresses[index]),
            segment,
            tos,
            // SAFETY: the list of a message holds entries made from slices borrowed for `'a`.
            bytes: unsafe { crate::sys::iovec::concat(parts) },
        }
    }

    /// Sends the messages from number `first` on; returns how many the kernel took, at least one.
    ///
    /// # Errors
    /// That of message `first`. An error of a later one ends the call early and is not returned
    /// (`sendmmsg(2)`); a further call from that message returns it.
    pub fn send(&mut self, socket: &UdpSocket, first: usize) -> io::Result<usize> {
        let batch = &mut *self.batch;
        let iovecs = batch.iovecs.as_mut_ptr();
        let end = if batch.batched { self.messages } else { self.messages.min(first + 1) };
        for index in first..end {
            let header = &mut batch.headers[index].msg_hdr;
            header.msg_name = (&raw mut batch.addresses[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_iov = iovecs.wrapping_add(batch.starts[index]);
            header.msg_control = match header.msg_controllen {
                0 => ptr::null_mut(),
                _ => batch.controls[index].0.as_mut_ptr().cast(),
            };
            debug_assert!(header.msg_controllen as usize <= CONTROL_LEN);
        }
        let headers = &mut batch.headers[first..end];
        if let ([header], false) = (&*headers, batch.batched) {
            // SAFETY: as below, for the one header.
            check(unsafe {
                libc::sendmsg(socket.as_raw_fd(), &raw const header.msg_hdr, libc::MSG_NOSIGNAL)
            })?;
            return Ok(1);
        }
        // SAFETY: every header points at an address, a control buffer and a list of iovecs that the
        // batch owns, with lengths inside them; the iovecs point at bytes borrowed for 'a, which
        // this value cannot outlive. `sendmmsg` reads them and writes `msg_len` only.
        unsafe { super::sendmmsg(socket, headers.as_mut_ptr(), headers.len()) }
    }
}
