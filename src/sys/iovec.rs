//! Scatter lists that borrow what they point at, in storage that is allocated once.

use std::marker::PhantomData;

/// Longest scatter list that `writev` and `sendmsg` take: `UIO_MAXIOV` of
/// `include/uapi/linux/uio.h`.
pub const MAX_IOVECS: usize = 1_024;

/// Storage for one scatter list.
pub struct GatherBuffer {
    iovecs: Vec<libc::iovec>,
}

// SAFETY: the pointers inside are followed only through a `Gather`, which borrows both the storage
// and the bytes; between two of them the list is dead storage.
unsafe impl Send for GatherBuffer {}

impl GatherBuffer {
    /// Storage for the longest list.
    pub fn new() -> Self {
        Self { iovecs: Vec::with_capacity(MAX_IOVECS) }
    }

    /// Begins a new list.
    #[inline]
    pub fn begin<'a>(&mut self) -> Gather<'_, 'a> {
        self.iovecs.clear();
        Gather { iovecs: &mut self.iovecs, bytes: PhantomData }
    }
}

impl Default for GatherBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// A scatter list being filled: `'a` is the life of the bytes it points at.
pub struct Gather<'b, 'a> {
    iovecs: &'b mut Vec<libc::iovec>,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Gather<'_, 'a> {
    /// Appends `part`. Returns false, and appends nothing, when the list is full.
    #[inline]
    pub fn push(&mut self, part: &'a [u8]) -> bool {
        let fits = self.iovecs.len() < MAX_IOVECS;
        if fits && !part.is_empty() {
            self.iovecs.push(iovec(part));
        }
        fits
    }

    /// A copy of the bytes of all parts, as a system call would read them.
    #[cfg(test)]
    pub fn to_vec(&self) -> Vec<u8> {
        // SAFETY: each entry was made by `iovec` from a slice that is borrowed for `'a`.
        unsafe { concat(self.iovecs) }
    }

    pub(super) fn as_slice(&self) -> &[libc::iovec] {
        self.iovecs
    }
}

/// The C view of `part`. Only system calls that read follow it.
#[inline]
pub(super) fn iovec(part: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() }
}

/// A copy of the bytes that `parts` point at, one part after the other.
///
/// # Safety
/// Each entry must come from [`iovec`], and the slice that it was made of must still be borrowed.
#[cfg(test)]
pub(super) unsafe fn concat(parts: &[libc::iovec]) -> Vec<u8> {
    let bytes = |part: &libc::iovec| {
        // SAFETY: the caller vouches for pointer and length, which come from one slice.
        unsafe { std::slice::from_raw_parts(part.iov_base.cast::<u8>(), part.iov_len) }.to_vec()
    };
    parts.iter().flat_map(bytes).collect()
}
