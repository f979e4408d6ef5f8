//! Numbers of the hosts that routes lead to, so that a packet thread counts traffic per host
//! without a search.
//!
//! Each word of the route table that leads to a host carries the host's number. A number belongs to
//! one address until the control thread releases it. That is some time after the host's last route,
//! because a packet thread may still use a word that it has read before.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::hosts::HostSet;

/// The number of a host that routes lead to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerIndex(u16);

impl PeerIndex {
    /// Number of different indexes: all that fit into a word of the route table.
    pub const COUNT: usize = 1 << Self::BITS;
    pub(super) const BITS: u32 = 14;
    /// Shared by all hosts that could not be assigned a number of their own.
    pub const OVERFLOW: Self = Self(0);
    /// For packets that belong to no host.
    pub const UNATTRIBUTED: Self = Self(1);
    const FIRST: u16 = 2;

    /// The number as an index below [`Self::COUNT`].
    #[inline]
    pub fn get(self) -> usize {
        self.0.into()
    }

    #[inline]
    pub(super) fn from_bits(bits: u64) -> Self {
        Self((bits & (Self::COUNT as u64 - 1)) as u16)
    }

    pub(super) fn bits(self) -> u64 {
        self.0.into()
    }

    /// Position among the numbers that are assigned; `None` for the two that never are.
    fn position(self) -> Option<usize> {
        self.get().checked_sub(Self::FIRST.into())
    }
}

/// A host and its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerEntry {
    /// The host's number.
    pub index: PeerIndex,
    /// The address to which packets for the host are sent.
    pub address: Ipv4Addr,
    /// Number of routes to the host.
    pub routes: u32,
    /// How many times the host's last route was removed.
    pub departures: u64,
}

/// The assignment of numbers to hosts. Only the control thread uses it; packet threads read numbers
/// from the table's words.
pub(super) struct PeerIndexes {
    capacity: usize,
    by_address: HashMap<Ipv4Addr, PeerIndex>,
    /// The hosts, by [`PeerIndex::position`].
    entries: Vec<Option<PeerEntry>>,
    /// Released numbers, the oldest first.
    free: VecDeque<PeerIndex>,
    /// The hosts that have a number and a route.
    hosts: Arc<HostSet>,
}

impl PeerIndexes {
    /// No host yet, and room for `capacity` hosts; `hosts` will have those that a route leads to.
    pub(super) fn new(capacity: usize, hosts: Arc<HostSet>) -> Self {
        let capacity = capacity.min(PeerIndex::COUNT - usize::from(PeerIndex::FIRST));
        let (by_address, entries, free) = (HashMap::new(), vec![], VecDeque::new());
        Self { capacity, by_address, entries, free, hosts }
    }

    /// The number of `address`, for one more route to it.
    pub(super) fn add_route(&mut self, address: Ipv4Addr) -> PeerIndex {
        let known = self.by_address.get(&address).copied();
        let Some(index) = known.or_else(|| self.assign(address)) else {
            return PeerIndex::OVERFLOW;
        };
        if let Some(entry) = self.entry(index) {
            entry.routes += 1;
            if entry.routes == 1 {
                self.hosts.insert(address);
            }
        }
        index
    }

    /// Counts one route less to the host with this number.
    pub(super) fn remove_route(&mut self, index: PeerIndex) {
        if let Some(entry) = self.entry(index) {
            entry.routes -= 1;
            if entry.routes == 0 {
                entry.departures += 1;
                let address = entry.address;
                self.hosts.remove(address);
            }
        }
    }

    /// Releases a host's number, if no route leads to the host and none has been added since the
    /// caller read `seen`. The caller has made sure that no packet thread uses the number.
    pub(super) fn release(&mut self, seen: &PeerEntry) -> bool {
        let Some(position) = seen.index.position() else { return false };
        if seen.routes > 0 || self.entry(seen.index).as_deref() != Some(seen) {
            return false;
        }
        self.entries[position] = None;
        self.by_address.remove(&seen.address);
        self.free.push_back(seen.index);
        true
    }

    /// All hosts that have a number of their own.
    pub(super) fn entries(&self) -> Vec<PeerEntry> {
        self.entries.iter().flatten().copied().collect()
    }

    fn entry(&mut self, index: PeerIndex) -> Option<&mut PeerEntry> {
        self.entries.get_mut(index.position()?)?.as_mut()
    }

    fn assign(&mut self, address: Ipv4Addr) -> Option<PeerIndex> {
        let index = match self.free.pop_front() {
            Some(index) => index,
            None if self.entries.len() < self.capacity => {
                self.entries.push(None);
                PeerIndex(PeerIndex::FIRST + self.entries.len() as u16 - 1)
            }
            None => return None,
        };
        self.entries[index.position()?] =
            Some(PeerEntry { index, address, routes: 0, departures: 0 });
        self.by_address.insert(address, index);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 0, n)
    }

    fn indexes(capacity: usize) -> PeerIndexes {
        PeerIndexes::new(capacity, Arc::new(HostSet::new()))
    }

    #[test]
    fn a_host_is_known_while_it_has_a_route() {
        let mut indexes = indexes(8);
        let known = Arc::clone(&indexes.hosts);
        let one = indexes.add_route(address(1));
        indexes.add_route(address(1));
        indexes.remove_route(one);
        assert!(known.contains(address(1)) && !known.contains(address(2)));
        indexes.remove_route(one);
        assert!(!known.contains(address(1)));
        indexes.add_route(address(1));
        assert!(known.contains(address(1)));
    }

    #[test]
    fn a_host_keeps_its_number_until_it_is_released() {
        let mut indexes = indexes(8);
        let one = indexes.add_route(address(1));
        assert_eq!(indexes.add_route(address(1)), one);
        assert_ne!(indexes.add_route(address(2)), one);
        indexes.remove_route(one);
        assert!(!indexes.release(&indexes.entries()[0]), "a route is left");
        indexes.remove_route(one);
        let gone = indexes.entries()[0];
        assert_eq!(
            indexes.add_route(address(1)),
            one,
            "a route was added before the number was released"
        );
        indexes.remove_route(one);
        assert!(!indexes.release(&gone), "a route was added since");
        assert!(indexes.release(&indexes.entries()[0]));
        assert_eq!(indexes.add_route(address(3)), one, "free again");
    }

    #[test]
    fn hosts_beyond_the_capacity_share_a_number() {
        let mut indexes = indexes(2);
        let own: Vec<_> = (0..2).map(|n| indexes.add_route(address(n))).collect();
        assert!(!own.contains(&PeerIndex::OVERFLOW) && !own.contains(&PeerIndex::UNATTRIBUTED));
        assert_eq!(indexes.add_route(address(2)), PeerIndex::OVERFLOW);
        indexes.remove_route(PeerIndex::OVERFLOW);
        indexes.remove_route(own[0]);
        assert!(indexes.release(&indexes.entries()[0]));
        assert_eq!(indexes.add_route(address(2)), own[0]);
    }

    #[test]
    fn every_number_fits_its_bits() {
        let mut indexes = indexes(usize::MAX);
        let mut last = PeerIndex::OVERFLOW;
        for n in 0.. {
            let index = indexes.add_route(Ipv4Addr::from_bits(n));
            if index == PeerIndex::OVERFLOW {
                break;
            }
            last = index;
        }
        assert_eq!(last.get(), PeerIndex::COUNT - 1);
        assert_eq!(PeerIndex::from_bits(last.bits()), last);
    }
}
