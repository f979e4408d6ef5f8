//! The system calls that carry packets, as traits: a data plane has the kernel's, and table tests
//! put a script of refusals in their place.

use std::io;
use std::net::UdpSocket;

use crate::sys::iovec::Gather;
use crate::sys::mmsg::Filling;
use crate::sys::tun::TunQueue;

/// A queue of a TUN device.
pub(super) trait PacketQueue {
    /// Reads one packet, as [`TunQueue::read`].
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes one packet, as [`TunQueue::write`].
    fn write(&self, parts: &Gather<'_, '_>) -> io::Result<usize>;
}

/// A socket that messages are sent on.
pub(super) trait MessageSocket {
    /// Sends messages from number `first` on, as [`Filling::send`].
    fn send(&self, messages: &mut Filling<'_, '_>, first: usize) -> io::Result<usize>;
}

impl PacketQueue for TunQueue {
    #[inline]
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer)
    }

    #[inline]
    fn write(&self, parts: &Gather<'_, '_>) -> io::Result<usize> {
        self.write(parts)
    }
}

impl MessageSocket for UdpSocket {
    #[inline]
    fn send(&self, messages: &mut Filling<'_, '_>, first: usize) -> io::Result<usize> {
        messages.send(self, first)
    }
}
