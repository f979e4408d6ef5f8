//! The synchronization types of the route table: those of the standard library, or those of `loom`,
//! which tries every interleaving and every value that the memory model allows a load to return
//! (`make test-loom`).

#[cfg(not(loom))]
pub(super) use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicU64, Ordering};

/// A `OnceLock` for loom, which has none. The value is kept in the standard library's; a flag of
/// loom's decides which threads may see that the value is set.
#[cfg(loom)]
pub(super) struct OnceLock<T> {
    is_set: loom::sync::atomic::AtomicBool,
    value: std::sync::OnceLock<T>,
}

#[cfg(loom)]
impl<T> OnceLock<T> {
    pub(super) fn new() -> Self {
        Self {
            is_set: loom::sync::atomic::AtomicBool::new(false),
            value: std::sync::OnceLock::new(),
        }
    }

    pub(super) fn get(&self) -> Option<&T> {
        if self.is_set.load(Ordering::Acquire) { self.value.get() } else { None }
    }

    pub(super) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        let value = self.value.get_or_init(init);
        self.is_set.store(true, Ordering::Release);
        value
    }
}
