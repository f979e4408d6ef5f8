//! A range of a buffer, in eight bytes.

use std::ops::Range;

/// A range of one of the buffers that packets are gathered from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::dataplane) struct Span {
    pub(in crate::dataplane) start: u32,
    pub(in crate::dataplane) len: u32,
}

impl Span {
    pub(in crate::dataplane) fn new(start: usize, len: usize) -> Self {
        Self { start: start as u32, len: len as u32 }
    }

    #[inline]
    pub(in crate::dataplane) fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}
