//! The route table: one writer, any number of wait-free readers.
//!
//! The table is a trie of machine words. The root has one slot for each subnet that the network can
//! hold, so for leases of equal length the table is one array, and a lookup is one load. A lease
//! whose prefix is longer than a root slot's gets a chunk of up to 256 slots below that slot. Every
//! slot is one [`AtomicU64`] that holds the whole next hop and its number, so a reader sees the
//! route before a change or the route after it, and nothing between.
//!
//! A chunk is never freed, and never used for another slot. A reader that is inside a chunk while
//! the writer unlinks it still reads words that are, or were a moment ago, valid for its address.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::hosts::HostSet;
use super::peers::PeerIndexes;
use super::sync::{AtomicU64, OnceLock, Ordering};
use super::{Cidr, PeerEntry, PeerIndex};

/// The host to which a packet is sent: outer destination address and UDP port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NextHop {
    /// Outer destination address.
    pub ip: Ipv4Addr,
    /// Outer destination port, host order.
    pub port: u16,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.ip, self.port)
    }
}

/// The route of a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The host to which packets are sent.
    pub hop: NextHop,
    /// The number by which the next hop's traffic is counted.
    pub peer: PeerIndex,
}

/// Why the table cannot hold a prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteError {
    /// The prefix lies, at least in part, outside the network.
    OutsideNetwork {
        /// The refused prefix.
        prefix: Cidr,
        /// The table's network.
        network: Cidr,
    },
    /// All chunks are in use: too many prefixes are longer than the subnet length.
    TooManyLongPrefixes,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutsideNetwork { prefix, network } => {
                write!(f, "{prefix} is not inside the network {network}")
            }
            Self::TooManyLongPrefixes => {
                f.write_str("too many prefixes longer than the subnet length")
            }
        }
    }
}

impl std::error::Error for RouteError {}

/// A new, empty table for `network` with leases of `subnet_len` bits, and its one writer.
///
/// The table also holds leases of other lengths; `subnet_len` only determines the layout.
pub fn table(network: Cidr, subnet_len: u8) -> (RouteWriter, Arc<RouteTable>) {
    let root_bits = subnet_len.saturating_sub(network.len()).min(MAX_ROOT_BITS);
    let root_len = 1 << root_bits;
    let hosts = Arc::new(HostSet::new());
    let table = Arc::new(RouteTable {
        network,
        shift: 32 - network.len() - root_bits,
        root: empty_slots(root_len),
        chunks: (0..root_len.max(MIN_CHUNKS)).map(|_| OnceLock::new()).collect(),
        revision: AtomicU64::new(0),
        routes: AtomicU64::new(0),
        peers: Mutex::new(PeerIndexes::new(usize::MAX, Arc::clone(&hosts))),
        hosts,
    });
    let writer = RouteWriter {
        table: Arc::clone(&table),
        routes: BTreeMap::new(),
        chunk_of: HashMap::new(),
    };
    (writer, table)
}

/// The table as the packet threads read it.
pub struct RouteTable {
    network: Cidr,
    /// Number of address bits below a root slot.
    shift: u8,
    root: Box<[AtomicU64]>,
    chunks: Box<[OnceLock<Box<[AtomicU64]>>]>,
    revision: AtomicU64,
    routes: AtomicU64,
    /// Only the control thread locks it, so loom need not model it.
    peers: Mutex<PeerIndexes>,
    hosts: Arc<HostSet>,
}

impl RouteTable {
    /// The next hop of the longest prefix that contains `dst` (RFC 1812, section 5.2.4.3).
    #[inline]
    pub fn lookup(&self, dst: Ipv4Addr) -> Option<NextHop> {
        self.route(dst).map(|route| route.hop)
    }

    /// The route of the longest prefix that contains `dst`.
    #[inline]
    pub fn route(&self, dst: Ipv4Addr) -> Option<Route> {
        if !self.network.contains(dst) {
            return None;
        }
        let offset = dst.to_bits() ^ self.network.network().to_bits();
        let mut shift = self.shift;
        let mut word = self.root.get(shr(offset, shift))?.load(Ordering::Acquire);
        while word & TAG_MASK == TAG_CHUNK {
            let chunk = self.chunks.get((word >> 32) as usize)?.get()?;
            let stride = shift.min(CHUNK_BITS);
            shift -= stride;
            word = chunk.get(shr(offset, shift) & ((1 << stride) - 1))?.load(Ordering::Acquire);
        }
        decode(word)
    }

    /// Whether a route leads to `host`. Not known of hosts beyond the numbers of peers. During a change
    /// the answer may be that of a moment before, and for an instant false.
    pub fn leads_to(&self, host: Ipv4Addr) -> bool {
        self.hosts.contains(host)
    }

    /// The overlay network that the table covers.
    pub fn network(&self) -> Cidr {
        self.network
    }

    /// Number of routes.
    pub fn len(&self) -> usize {
        self.routes.load(Ordering::Relaxed) as usize
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of changes since the table was created.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// The hosts that have a number of their own: those that routes lead to, and those without a
    /// route whose number has not been released. Takes a lock; for the control thread only.
    pub fn peers(&self) -> Vec<PeerEntry> {
        self.indexes().entries()
    }

    /// Releases the number of a host that has no route and had none since the caller read `seen`.
    /// The caller has made sure that no packet thread uses the number. Returns whether the number
    /// was released.
    pub fn release_peer(&self, seen: &PeerEntry) -> bool {
        self.indexes().release(seen)
    }

    fn indexes(&self) -> MutexGuard<'_, PeerIndexes> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing side of the table. It holds the set of routes, from which the table's words are
/// computed.
pub struct RouteWriter {
    table: Arc<RouteTable>,
    routes: BTreeMap<Cidr, Route>,
    /// The chunk of a slot, by the slot's prefix.
    chunk_of: HashMap<Cidr, usize>,
}

impl RouteWriter {
    /// Adds a route or replaces its next hop; returns the next hop that it had.
    ///
    /// # Errors
    /// The prefix lies outside the network, or needs a chunk and all chunks are in use.
    pub fn insert(&mut self, prefix: Cidr, hop: NextHop) -> Result<Option<NextHop>, RouteError> {
        let network = self.table.network;
        if !network.covers(prefix) {
            return Err(RouteError::OutsideNetwork { prefix, network });
        }
        let route = Route { hop, peer: self.table.indexes().add_route(hop.ip) };
        let before = self.routes.insert(prefix, route);
        let written = if before == Some(route) { Ok(()) } else { self.rewrite(prefix) };
        if let Some(before) = before {
            self.table.indexes().remove_route(before.peer);
        }
        match written {
            Ok(()) if before == Some(route) => {}
            Ok(()) => self.publish(),
            Err(error) => {
                self.routes.remove(&prefix);
                self.table.indexes().remove_route(route.peer);
                return Err(error);
            }
        }
        Ok(before.map(|route| route.hop))
    }

    /// Removes a route; returns the next hop that it had.
    pub fn remove(&mut self, prefix: Cidr) -> Option<NextHop> {
        let before = self.routes.remove(&prefix)?;
        // A removal needs no new chunk, so it cannot fail.
        let _ = self.rewrite(prefix);
        self.publish();
        self.table.indexes().remove_route(before.peer);
        Some(before.hop)
    }

    /// All routes, by prefix.
    pub fn routes(&self) -> impl Iterator<Item = (Cidr, NextHop)> + '_ {
        self.routes.iter().map(|(&prefix, route)| (prefix, route.hop))
    }

    /// The next hop of exactly this prefix.
    pub fn get(&self, prefix: Cidr) -> Option<NextHop> {
        self.routes.get(&prefix).map(|route| route.hop)
    }

    fn publish(&self) {
        self.table.routes.store(self.routes.len() as u64, Ordering::Relaxed);
        self.table.revision.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes every slot that overlaps `changed`.
    fn rewrite(&mut self, changed: Cidr) -> Result<(), RouteError> {
        let table = Arc::clone(&self.table);
        self.write_slots(&table.root, table.network, table.shift, changed)
    }

    /// Writes those of `slots` that overlap `changed`. The slots divide `area` into parts of
    /// `shift` address bits each.
    fn write_slots(
        &mut self,
        slots: &[AtomicU64],
        area: Cidr,
        shift: u8,
        changed: Cidr,
    ) -> Result<(), RouteError> {
        let base = area.network().to_bits();
        let (first, last) = if area.covers(changed) {
            (changed.network().to_bits() - base, changed.last().to_bits() - base)
        } else {
            (0, area.last().to_bits() - base)
        };
        let slot_len = 32 - shift;
        let touched = shr(first, shift)..=shr(last, shift);
        for (index, word) in slots.iter().enumerate().skip(*touched.start()).take(touched.count()) {
            let slot = Cidr::new(Ipv4Addr::from_bits(base + shl(index, shift)), slot_len);
            let value = if self.has_longer(slot) {
                let chunk = self.chunk(slot)?;
                let table = Arc::clone(&self.table);
                let Some(below) = table.chunks[chunk].get() else { continue };
                let changed = if is_chunk(word.load(Ordering::Relaxed)) {
                    changed
                } else {
                    slot // The chunk was not linked until now, so its words are out of date.
                };
                self.write_slots(below, slot, shift - shift.min(CHUNK_BITS), changed)?;
                (chunk as u64) << 32 | TAG_CHUNK
            } else {
                encode(self.best(slot))
            };
            word.store(value, Ordering::Release);
        }
        Ok(())
    }

    /// Whether a route is longer than `slot` and lies inside it.
    fn has_longer(&self, slot: Cidr) -> bool {
        slot.len() < 32
            && self
                .routes
                .range(Cidr::new(slot.network(), slot.len() + 1)..=Cidr::new(slot.last(), 32))
                .next()
                .is_some()
    }

    /// The longest route that covers `slot`.
    fn best(&self, slot: Cidr) -> Option<Route> {
        (self.table.network.len()..=slot.len())
            .rev()
            .find_map(|len| self.routes.get(&Cidr::new(slot.network(), len)).copied())
    }

    /// The chunk of `slot`, allocated on first use.
    fn chunk(&mut self, slot: Cidr) -> Result<usize, RouteError> {
        if let Some(&chunk) = self.chunk_of.get(&slot) {
            return Ok(chunk);
        }
        let chunk = self.chunk_of.len();
        let cell = self.table.chunks.get(chunk).ok_or(RouteError::TooManyLongPrefixes)?;
        cell.get_or_init(|| empty_slots(1 << (32 - slot.len()).min(CHUNK_BITS)));
        self.chunk_of.insert(slot, chunk);
        Ok(chunk)
    }
}

/// `value >> shift` for a shift of 0 to 32, as an index.
#[inline]
fn shr(value: u32, shift: u8) -> usize {
    (u64::from(value) >> shift) as usize
}

/// Inverse of [`shr`] for an index that fits its slots.
fn shl(index: usize, shift: u8) -> u32 {
    ((index as u64) << shift) as u32
}

fn empty_slots(len: usize) -> Box<[AtomicU64]> {
    (0..len).map(|_| AtomicU64::new(EMPTY)).collect()
}

fn is_chunk(word: u64) -> bool {
    word & TAG_MASK == TAG_CHUNK
}

fn encode(route: Option<Route>) -> u64 {
    route.map_or(EMPTY, |Route { hop, peer }| {
        u64::from(hop.ip.to_bits()) << 32
            | u64::from(hop.port) << 16
            | peer.bits() << TAG_BITS
            | TAG_HOP
    })
}

#[inline]
fn decode(word: u64) -> Option<Route> {
    (word & TAG_MASK == TAG_HOP).then(|| Route {
        hop: NextHop { ip: Ipv4Addr::from_bits((word >> 32) as u32), port: (word >> 16) as u16 },
        peer: PeerIndex::from_bits(word >> TAG_BITS),
    })
}

// The word of a slot, from the highest bit: next hop address or chunk number (32 bits), port (16),
// peer index (14), tag (2).
const EMPTY: u64 = 0;
const TAG_BITS: u32 = 16 - PeerIndex::BITS;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
const TAG_HOP: u64 = 1;
const TAG_CHUNK: u64 = 2;

/// Upper limit of the address bits that the root resolves: 65,536 slots, 512 KiB.
const MAX_ROOT_BITS: u8 = 16;
/// Address bits that one chunk resolves.
const CHUNK_BITS: u8 = 8;
/// Lower limit of the number of chunks. Small under loom, which tracks each of them.
const MIN_CHUNKS: usize = if cfg!(loom) { 2 } else { 1 << 12 };

#[cfg(all(test, loom))]
mod interleavings;
#[cfg(all(test, not(loom)))]
mod tests;
