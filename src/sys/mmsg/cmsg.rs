//! Control messages (`cmsg(3)`) as bytes, without a pointer.

use std::mem::size_of;

/// Room for one control message that carries up to an `int`.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Control(pub(super) [u8; CONTROL_LEN]);

/// `CMSG_SPACE(sizeof(int))`.
pub(super) const CONTROL_LEN: usize = align(HEADER + size_of::<libc::c_int>());

impl Control {
    pub(super) const EMPTY: Self = Self([0; CONTROL_LEN]);

    /// The message that asks for datagrams of `size` bytes; returns the bytes to hand over.
    pub(super) fn set_udp_segment(&mut self, size: u16) -> usize {
        let len = HEADER + size_of::<u16>();
        self.0[..HEADER].copy_from_slice(&header(len, libc::SOL_UDP, libc::UDP_SEGMENT));
        self.0[HEADER..len].copy_from_slice(&size.to_ne_bytes());
        CONTROL_LEN
    }

    /// The size that [`Self::set_udp_segment`] has set.
    #[cfg(test)]
    pub(super) fn udp_segment(&self) -> u16 {
        let size = self.0[HEADER..].first_chunk().copied();
        u16::from_ne_bytes(size.unwrap_or_default())
    }
}

/// The segment size that a `UDP_GRO` control message among `control` gives.
///
/// Anything that is not a well-formed list of control messages gives `None`.
pub fn gro_segment(mut control: &[u8]) -> Option<u16> {
    loop {
        let (header, _) = control.split_at_checked(HEADER)?;
        let (len, rest) = header.split_at(size_of::<usize>());
        let (level, kind) = rest.split_at(size_of::<libc::c_int>());
        let len = usize::from_ne_bytes(len.try_into().ok()?);
        let data = control.get(HEADER..len)?;
        if int(level)? == libc::SOL_UDP && int(kind)? == libc::UDP_GRO {
            return u16::try_from(int(data)?).ok().filter(|&size| size > 0);
        }
        control = control.get(len.checked_next_multiple_of(ALIGN)?..)?;
    }
}

fn int(bytes: &[u8]) -> Option<libc::c_int> {
    Some(libc::c_int::from_ne_bytes(bytes.get(..size_of::<libc::c_int>())?.try_into().ok()?))
}

fn header(len: usize, level: libc::c_int, kind: libc::c_int) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let (len_at, rest) = header.split_at_mut(size_of::<usize>());
    let (level_at, kind_at) = rest.split_at_mut(size_of::<libc::c_int>());
    len_at.copy_from_slice(&len.to_ne_bytes());
    level_at.copy_from_slice(&level.to_ne_bytes());
    kind_at.copy_from_slice(&kind.to_ne_bytes());
    header
}

const fn align(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// `struct cmsghdr`: a `size_t` (musl pads a 32-bit length to one) and two `int`s.
const HEADER: usize = size_of::<usize>() + 2 * size_of::<libc::c_int>();
/// `CMSG_ALIGN`.
const ALIGN: usize = size_of::<usize>();
