//! The overlay's MTU, which control may change while packets flow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// Length in bytes of the longest inner packet: the underlay's MTU less 28. All clones have one value,
/// which each worker reads once per batch.
#[derive(Clone, Debug)]
pub struct Mtu(Arc<AtomicU16>);

impl Mtu {
    /// The value now.
    #[inline]
    pub fn get(&self) -> u16 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, mtu: u16) {
        self.0.store(mtu, Ordering::Relaxed);
    }
}

impl From<u16> for Mtu {
    fn from(mtu: u16) -> Self {
        Self(Arc::new(AtomicU16::new(mtu)))
    }
}
