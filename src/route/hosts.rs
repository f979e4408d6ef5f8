//! The hosts that routes lead to, as a set of addresses that packet threads may ask.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::PeerIndex;

/// A hash table of addresses with linear probing. The control thread writes, any thread reads without
/// waiting. A reader that meets a removal may miss another address for an instant.
///
/// Its hosts have numbers of their own ([`PeerIndex`]), so it is at most half full.
pub(super) struct HostSet {
    slots: Box<[AtomicU32]>,
}

impl HostSet {
    /// No hosts.
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU32::new(FREE)).collect() }
    }

    /// Whether `host` is in the set.
    pub(super) fn contains(&self, host: Ipv4Addr) -> bool {
        self.load(self.find(host)) != FREE
    }

    pub(super) fn insert(&self, host: Ipv4Addr) {
        self.slots[self.find(host)].store(host.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn remove(&self, host: Ipv4Addr) {
        let mut gap = self.find(host);
        let mut slot = gap;
        // A host behind the gap fills it if a search for that host would end there.
        loop {
            slot = (slot + 1) % SLOTS;
            let behind = self.load(slot);
            if behind == FREE {
                break;
            }
            let from_home = slot.wrapping_sub(home(behind)) % SLOTS;
            if from_home >= slot.wrapping_sub(gap) % SLOTS {
                self.slots[gap].store(behind, Ordering::Relaxed);
                gap = slot;
            }
        }
        self.slots[gap].store(FREE, Ordering::Relaxed);
    }

    /// The slot of `host`, or the free one where it belongs.
    fn find(&self, host: Ipv4Addr) -> usize {
        let mut slot = home(host.to_bits());
        while ![FREE, host.to_bits()].contains(&self.load(slot)) {
            slot = (slot + 1) % SLOTS;
        }
        slot
    }

    fn load(&self, slot: usize) -> u32 {
        self.slots[slot].load(Ordering::Relaxed)
    }
}

/// Where the search for a host begins: Fibonacci hashing.
fn home(host: u32) -> usize {
    (host.wrapping_mul(0x9e37_79b1) >> (32 - SLOTS.ilog2())) as usize
}

/// 0.0.0.0, which is no host.
const FREE: u32 = 0;
/// Twice the hosts that there can be: 128 KiB.
const SLOTS: usize = 2 * PeerIndex::COUNT;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Addresses that begin their search in few places, at the end of the table among others.
        #[test]
        fn is_the_set_of_those_inserted_and_not_removed(
            changes in prop::collection::vec((any::<bool>(), 0..40_u32), 0..200)
        ) {
            let near_the_end = |host: &u32| home(*host) > SLOTS - 4;
            let hosts: Vec<_> = (1..).filter(near_the_end).take(40).map(Ipv4Addr::from_bits).collect();
            let (set, mut model) = (HostSet::new(), HashSet::new());
            for (is_new, host) in changes {
                let host = hosts[host as usize];
                if is_new && model.insert(host) {
                    set.insert(host);
                } else if !is_new && model.remove(&host) {
                    set.remove(host);
                }
                for host in &hosts {
                    prop_assert_eq!(set.contains(*host), model.contains(host));
                }
            }
        }
    }
}
