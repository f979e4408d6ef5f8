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

    pub(super) fn as_slice(&self) -> &[libc::iovec] {
        self.iovecs
    }
}

/// The C view of `part`. Only system calls that read follow it.
#[inline]
pub(super) fn iovec(part: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() }
}
