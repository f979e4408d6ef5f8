//! Traffic by peer: packets and bytes sent to and received from each host to which routes lead.
//!
//! A worker counts under the peer index that the route lookup of a packet returns anyway, and reads no
//! clock. Control maps indexes to addresses, keeps the counts of data planes that have stopped, and
//! samples the counters every two seconds to learn which peers are active.
//!
//! Conservation: peers and [`OtherTraffic`] together have all carried packets, and all packets dropped
//! for one of the `send-` reasons.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::ThreadCounters;
use crate::route::{PeerEntry, PeerIndex, RouteTable};

mod slots;

pub(super) use slots::PeerCounters;
pub use slots::Traffic;

/// Traffic to and from one peer. A peer is listed until a minute after its last route was removed; then
/// its traffic becomes part of [`OtherTraffic::departed`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerTraffic {
    /// Address to which packets for the peer are sent: the public IP of its lease.
    pub address: Ipv4Addr,
    /// Inner packets sent to the peer.
    pub sent_packets: u64,
    /// Bytes of the packets sent.
    pub sent_bytes: u64,
    /// Inner packets of the peer that were delivered.
    pub received_packets: u64,
    /// Bytes of the packets delivered.
    pub received_bytes: u64,
    /// Inner packets to the peer that this host's kernel did not send: drops for one of the `send-`
    /// reasons.
    #[serde(default)]
    pub unsent_packets: u64,
    /// Bytes of the longest fragment, IP header included, in which datagrams of the peer arrived within the last
    /// minute: about the MTU of the path from it. `None` while they arrive whole.
    #[serde(default)]
    pub fragments_of: Option<u16>,
    /// Time since the last packet to the peer; in JSON in seconds. Samples are two seconds apart, so the
    /// true time may be up to two seconds longer.
    #[serde(with = "slots::seconds")]
    pub last_sent: Option<Duration>,
    /// Time since the last packet from the peer, with the resolution of `last_sent`.
    #[serde(with = "slots::seconds")]
    pub last_received: Option<Duration>,
}

/// Traffic that belongs to no listed peer.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OtherTraffic {
    /// Of peers that joined while all 16,382 peer indexes were in use.
    pub beyond: Traffic,
    /// Packets whose inner source is in no lease of their sender, delivered because the source check is
    /// not `enforce`.
    pub mismatched: Traffic,
    /// Of peers that are no longer listed.
    pub departed: Traffic,
}

/// Traffic of all peers, over all data planes of the process. For control only: its methods lock.
pub struct PeerAccounting {
    routes: Arc<RouteTable>,
    accounts: Mutex<Accounts>,
}

impl PeerAccounting {
    /// No traffic yet, for the peers to which `routes` lead.
    pub fn new(routes: Arc<RouteTable>) -> Self {
        Self { routes, accounts: Mutex::default() }
    }

    /// The route table that defines the peers.
    pub fn routes(&self) -> &Arc<RouteTable> {
        &self.routes
    }

    /// Records which peers were active since the last sample, and retires peers that have left. Control
    /// calls this every two seconds.
    pub fn sample(&self) {
        self.accounts().sample(&self.routes, Instant::now());
    }

    /// Traffic of each listed peer, sorted by address.
    pub fn traffic(&self) -> Vec<PeerTraffic> {
        let mut accounts = self.accounts();
        let now = Instant::now();
        accounts.sample(&self.routes, now);
        let mut peers: Vec<_> =
            accounts.by_index.values().map(|account| account.traffic(now)).collect();
        peers.sort_unstable_by_key(|peer| peer.address);
        peers
    }

    /// Traffic that belongs to no peer of [`Self::traffic`].
    pub fn others(&self) -> OtherTraffic {
        let accounts = self.accounts();
        OtherTraffic {
            beyond: accounts.total(PeerIndex::OVERFLOW),
            mismatched: accounts.total(PeerIndex::UNATTRIBUTED),
            departed: accounts.departed,
        }
    }

    /// Adds the counters of a thread that is about to start.
    pub(in crate::dataplane) fn add_thread(&self, thread: Arc<ThreadCounters>) {
        self.accounts().threads.push(thread);
    }

    /// Takes over the counts of all threads, which have ended.
    pub(in crate::dataplane) fn finish_threads(&self) {
        self.accounts().finish_threads(&self.routes);
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Accounts {
    threads: Vec<Arc<ThreadCounters>>,
    /// Corrections to the sums of the threads' counters: plus the counts of threads that have ended,
    /// minus the counts of the peer that had the index before. The additions wrap.
    offsets: HashMap<PeerIndex, Traffic>,
    by_index: HashMap<PeerIndex, PeerAccount>,
    departed: Traffic,
}

/// The account of one peer.
struct PeerAccount {
    address: Ipv4Addr,
    /// Traffic at the last sample.
    sampled: Traffic,
    last_sent: Option<Instant>,
    last_received: Option<Instant>,
    /// Bytes of the longest fragment at the last sample that had one, and when that was.
    fragment: Option<(u16, Instant)>,
    leaving: Option<Leaving>,
}

/// State at the first sample that found a peer without a route.
struct Leaving {
    /// The number of the departure ([`PeerEntry::departures`]), which tells it from a later one.
    departures: u64,
    since: Instant,
    /// The round of each thread's loop.
    rounds: Vec<u64>,
}

impl PeerTraffic {
    /// Share of the packets to the peer that this host's kernel did not send, 0 to 1; `None` without any
    /// packets. Losses beyond this host's kernel are not known here.
    pub fn send_loss(&self) -> Option<f64> {
        let all = self.sent_packets + self.unsent_packets;
        (all > 0).then(|| self.unsent_packets as f64 / all as f64)
    }
}

impl Accounts {
    fn total(&self, index: PeerIndex) -> Traffic {
        let own = self.offsets.get(&index).copied().unwrap_or_default();
        self.threads.iter().fold(own, |sum, thread| {
            let (sent, received) =
                (thread.egress.peers.get(index), thread.ingress.peers.get(index));
            sum.plus(Traffic::new(sent, received, thread.egress.peers.unsent(index)))
        })
    }

    fn sample(&mut self, routes: &RouteTable, now: Instant) {
        for entry in routes.peers() {
            let total = self.total(entry.index);
            let account =
                self.by_index.entry(entry.index).or_insert_with(|| PeerAccount::new(entry.address));
            account.update(total, now);
            let fragments = self.threads.iter().map(|t| t.ingress.peers.take_fragment(entry.index));
            if let Some(longest) = fragments.max().filter(|longest| *longest > 0) {
                account.fragment = Some((longest, now));
            }
            if entry.routes > 0 {
                account.leaving = None;
                continue;
            }
            let rounds = || self.threads.iter().map(|thread| thread.rounds.get()).collect();
            let leaving = match account.leaving.take() {
                Some(leaving) if leaving.departures == entry.departures => leaving,
                _ => Leaving { departures: entry.departures, since: now, rounds: rounds() },
            };
            let over = now.duration_since(leaving.since) >= KEPT && leaving.is_past(&self.threads);
            account.leaving = Some(leaving);
            if over {
                self.retire(routes, &entry, total);
            }
        }
    }

    /// Frees the index of a peer that has left. No worker holds the index any more: each has begun another
    /// round of its loop since the last route was removed.
    fn retire(&mut self, routes: &RouteTable, entry: &PeerEntry, total: Traffic) {
        self.by_index.remove(&entry.index);
        self.departed = self.departed.plus(total);
        let offset = self.offsets.entry(entry.index).or_default();
        *offset = offset.minus(total);
        routes.release_peer(entry);
    }

    /// Keeps the counts of the threads, and drops the threads.
    fn finish_threads(&mut self, routes: &RouteTable) {
        if self.threads.is_empty() {
            return;
        }
        self.sample(routes, Instant::now());
        let indexes = routes.peers().into_iter().map(|entry| entry.index);
        let indexes = indexes.chain([PeerIndex::OVERFLOW, PeerIndex::UNATTRIBUTED]);
        let totals: HashMap<_, _> = indexes.map(|index| (index, self.total(index))).collect();
        // A free index has no counts, and the next threads begin at zero.
        self.offsets = totals;
        self.threads.clear();
        for account in self.by_index.values_mut() {
            account.leaving = None;
        }
    }
}

impl PeerAccount {
    fn new(address: Ipv4Addr) -> Self {
        let sampled = Traffic::default();
        let (last_sent, last_received, fragment, leaving) = (None, None, None, None);
        Self { address, sampled, last_sent, last_received, fragment, leaving }
    }

    /// Compares the traffic so far with that of the last sample.
    fn update(&mut self, total: Traffic, now: Instant) {
        if total.sent_packets != self.sampled.sent_packets {
            self.last_sent = Some(now);
        }
        if total.received_packets != self.sampled.received_packets {
            self.last_received = Some(now);
        }
        self.sampled = total;
    }

    fn traffic(&self, now: Instant) -> PeerTraffic {
        let ago = |at: Option<Instant>| at.map(|at| now.duration_since(at));
        PeerTraffic {
            address: self.address,
            sent_packets: self.sampled.sent_packets,
            sent_bytes: self.sampled.sent_bytes,
            received_packets: self.sampled.received_packets,
            received_bytes: self.sampled.received_bytes,
            unsent_packets: self.sampled.unsent_packets,
            fragments_of: self
                .fragment
                .filter(|(_, at)| now.duration_since(*at) < FRAGMENTS_KEPT)
                .map(|(longest, _)| longest),
            last_sent: ago(self.last_sent),
            last_received: ago(self.last_received),
        }
    }
}

impl Leaving {
    /// Whether each thread has begun another round of its loop since, and so holds no index of the peer.
    fn is_past(&self, threads: &[Arc<ThreadCounters>]) -> bool {
        threads.iter().zip(&self.rounds).all(|(thread, &round)| thread.rounds.get() != round)
    }
}

/// How long a peer keeps its index and stays listed after its last route was removed. A host that
/// restarts is back sooner.
const KEPT: Duration = Duration::from_secs(60);
/// How long a peer counts as one whose datagrams come in fragments after the last such datagram.
const FRAGMENTS_KEPT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
