//! Numbers for the hosts that routes lead to, so that a worker counts by host without a search.
//!
//! The table carries a host's number in each word that leads to it. A number belongs to one address
//! until control gives it back, which is later than its last route: a worker may still hold a word
//! that it read before.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

/// The number of a host that routes lead to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerIndex(u16);

impl PeerIndex {
    /// How many numbers there are: what is free in a word of the route table.
    pub const COUNT: usize = 1 << Self::BITS;
    pub(super) const BITS: u32 = 14;
    /// Shared by all hosts for which none was left.
    pub const OVERFLOW: Self = Self(0);
    /// Given to no host: for packets that belong to none.
    pub const UNATTRIBUTED: Self = Self(1);
    const FIRST: u16 = 2;

    /// As an index below [`Self::COUNT`].
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
}

/// A host and its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerEntry {
    /// Its number.
    pub index: PeerIndex,
    /// Where packets for it are sent.
    pub address: Ipv4Addr,
    /// How many routes lead there.
    pub routes: u32,
    /// How often the last route has gone.
    pub departures: u64,
}

/// Who has which number. Control's own: workers see numbers in the table's words alone.
pub(super) struct Indexes {
    capacity: usize,
    by_address: HashMap<Ipv4Addr, PeerIndex>,
    /// By number, from [`PeerIndex::FIRST`] on.
    entries: Vec<Option<PeerEntry>>,
    /// Given back, the oldest first.
    free: VecDeque<PeerIndex>,
}

impl Indexes {
    /// No host; room for `capacity`.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.min(PeerIndex::COUNT - usize::from(PeerIndex::FIRST));
        Self { capacity, by_address: HashMap::new(), entries: vec![], free: VecDeque::new() }
    }

    /// The number of `address` for one more route to it.
    pub(super) fn take(&mut self, address: Ipv4Addr) -> PeerIndex {
        let known = self.by_address.get(&address).copied();
        let Some(index) = known.or_else(|| self.assign(address)) else {
            return PeerIndex::OVERFLOW;
        };
        if let Some(entry) = self.entry(index) {
            entry.routes += 1;
        }
        index
    }

    /// One route to the host with this number is gone.
    pub(super) fn leave(&mut self, index: PeerIndex) {
        if let Some(entry) = self.entry(index) {
            entry.routes -= 1;
            entry.departures += u64::from(entry.routes == 0);
        }
    }

    /// Takes the number back from a host to which no route leads and none has led since it was seen
    /// with so many departures. The caller knows that no worker holds it.
    pub(super) fn release(&mut self, seen: &PeerEntry) -> bool {
        let place = seen.index.get().checked_sub(PeerIndex::FIRST.into());
        let Some(place) = place.filter(|_| self.entry(seen.index).as_deref() == Some(seen)) else {
            return false;
        };
        if seen.routes > 0 {
            return false;
        }
        self.entries[place] = None;
        self.by_address.remove(&seen.address);
        self.free.push_back(seen.index);
        true
    }

    /// All hosts with a number of their own.
    pub(super) fn entries(&self) -> Vec<PeerEntry> {
        self.entries.iter().flatten().copied().collect()
    }

    fn entry(&mut self, index: PeerIndex) -> Option<&mut PeerEntry> {
        let place = index.get().checked_sub(PeerIndex::FIRST.into())?;
        self.entries.get_mut(place)?.as_mut()
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
        let place = index.get() - usize::from(PeerIndex::FIRST);
        self.entries[place] = Some(PeerEntry { index, address, routes: 0, departures: 0 });
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

    #[test]
    fn a_host_keeps_its_number_until_it_is_taken_back() {
        let mut indexes = Indexes::new(8);
        let one = indexes.take(address(1));
        assert_eq!(indexes.take(address(1)), one);
        assert_ne!(indexes.take(address(2)), one);
        indexes.leave(one);
        assert!(!indexes.release(&indexes.entries()[0]), "a route is left");
        indexes.leave(one);
        let gone = indexes.entries()[0];
        assert_eq!(indexes.take(address(1)), one, "back before its number was taken");
        indexes.leave(one);
        assert!(!indexes.release(&gone), "it has been back since");
        assert!(indexes.release(&indexes.entries()[0]));
        assert_eq!(indexes.take(address(3)), one, "free again");
    }

    #[test]
    fn those_for_whom_no_number_is_left_share_one() {
        let mut indexes = Indexes::new(2);
        let own: Vec<_> = (0..2).map(|n| indexes.take(address(n))).collect();
        assert!(!own.contains(&PeerIndex::OVERFLOW) && !own.contains(&PeerIndex::UNATTRIBUTED));
        assert_eq!(indexes.take(address(2)), PeerIndex::OVERFLOW);
        indexes.leave(PeerIndex::OVERFLOW);
        indexes.leave(own[0]);
        assert!(indexes.release(&indexes.entries()[0]));
        assert_eq!(indexes.take(address(2)), own[0]);
    }

    #[test]
    fn every_number_fits_its_bits() {
        let mut indexes = Indexes::new(usize::MAX);
        let mut last = PeerIndex::OVERFLOW;
        for n in 0.. {
            let index = indexes.take(Ipv4Addr::from_bits(n));
            if index == PeerIndex::OVERFLOW {
                break;
            }
            last = index;
        }
        assert_eq!(last.get(), PeerIndex::COUNT - 1);
        assert_eq!(PeerIndex::from_bits(last.bits()), last);
    }
}
