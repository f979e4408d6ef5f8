//! Control messages (`cmsg(3)`) as bytes, without a pointer.

use std::mem::size_of;

/// Room for two control messages that carry up to an `int` each.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(in crate::sys) struct Control(pub(in crate::sys) [u8; CONTROL_LEN]);

/// Twice `CMSG_SPACE(sizeof(int))`.
pub(super) const CONTROL_LEN: usize = 2 * align(HEADER + size_of::<libc::c_int>());

impl Control {
    pub(in crate::sys) const EMPTY: Self = Self([0; CONTROL_LEN]);

    /// Asks for datagrams of `size` bytes, if it is given, and for a TOS byte other than 0. Returns how
    /// many bytes are to be handed over.
    #[inline]
    pub(super) fn set(&mut self, size: Option<u16>, tos: u8) -> usize {
        let mut end = 0;
        if let Some(size) = size {
            end = self.put(end, libc::SOL_UDP, libc::UDP_SEGMENT, &size.to_ne_bytes());
        }
        if tos != 0 {
            let tos = libc::c_int::from(tos).to_ne_bytes();
            end = self.put(end, libc::IPPROTO_IP, libc::IP_TOS, &tos);
        }
        end
    }

    /// Writes a message at `start`; returns where the next one goes.
    #[inline]
    fn put(&mut self, start: usize, level: libc::c_int, kind: libc::c_int, data: &[u8]) -> usize {
        let (data_at, len) = (start + HEADER, HEADER + data.len());
        self.0[start..data_at].copy_from_slice(&header(len, level, kind));
        self.0[data_at..start + len].copy_from_slice(data);
        start + align(len)
    }

    /// What [`Self::set`] has set in the first `len` bytes.
    #[cfg(test)]
    pub(super) fn get(&self, len: usize) -> (Option<u16>, u8) {
        let control = &self.0[..len];
        let size = find(control, libc::SOL_UDP, libc::UDP_SEGMENT);
        let tos = find(control, libc::IPPROTO_IP, libc::IP_TOS).and_then(int).unwrap_or(0);
        (size.map(|size| u16::from_ne_bytes(size.try_into().unwrap())), tos as u8)
    }
}

/// The segment size that a `UDP_GRO` control message among `control` gives.
///
/// Anything that is not a well-formed list of control messages gives `None`.
pub fn gro_segment(control: &[u8]) -> Option<u16> {
    let size = find(control, libc::SOL_UDP, libc::UDP_GRO).and_then(int)?;
    u16::try_from(size).ok().filter(|&size| size > 0)
}

/// The length of the longest fragment that an `IP_RECVFRAGSIZE` control message among `control` gives.
#[cold]
pub(in crate::sys) fn longest_fragment(control: &[u8]) -> Option<u16> {
    let len = find(control, libc::IPPROTO_IP, libc::IP_RECVFRAGSIZE).and_then(int)?;
    Some(len.clamp(0, u16::MAX.into()) as u16)
}

/// The data of the first control message of this kind; `None` also where the list before it is not
/// well-formed.
#[inline]
pub(super) fn find(mut control: &[u8], level: libc::c_int, kind: libc::c_int) -> Option<&[u8]> {
    loop {
        let (header, _) = control.split_at_checked(HEADER)?;
        let (len, rest) = header.split_at(size_of::<usize>());
        let (level_at, kind_at) = rest.split_at(size_of::<libc::c_int>());
        let len = usize::from_ne_bytes(len.try_into().ok()?);
        let data = control.get(HEADER..len)?;
        if int(level_at)? == level && int(kind_at)? == kind {
            return Some(data);
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
