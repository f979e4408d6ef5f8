//! Traffic by peer: what was carried to and from each host that routes lead to.
//!
//! A worker counts under the number that its route lookup yields anyway. Control puts addresses to
//! the numbers, keeps what data planes that have ended had counted, and notices by looking now and
//! then which peers are active: a worker reads no clock.
//!
//! Conservation: peers and [`OtherTraffic`] add up to all that was carried, and what they have of
//! unsent packets to all drops of sends.

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

/// What was carried to and from one peer. A peer stays listed for a minute after its last route
/// has gone; then its traffic is part of [`OtherTraffic::departed`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerTraffic {
    /// Where packets for it are sent: the address of its lease.
    pub address: Ipv4Addr,
    /// Inner packets sent to it.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Inner packets from it that were delivered.
    pub received_packets: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Inner packets for it that this host's kernel did not send: drops for one of the `send-`
    /// reasons.
    #[serde(default)]
    pub unsent_packets: u64,
    /// How long ago the last packet went to it; in JSON as seconds. Looks are two seconds apart, so
    /// it may be as much longer ago.
    #[serde(with = "slots::seconds")]
    pub last_sent: Option<Duration>,
    /// How long ago the last packet came from it, as above.
    #[serde(with = "slots::seconds")]
    pub last_received: Option<Duration>,
}

/// What was carried and belongs to no peer of the list.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OtherTraffic {
    /// Of peers that came when every number for a peer was taken (16,382 at a time).
    pub beyond: Traffic,
    /// Received from hosts to whose lease the inner source does not belong, and delivered because
    /// the source check does not enforce that.
    pub mismatched: Traffic,
    /// Of peers that have left.
    pub departed: Traffic,
}

/// The books of all peers, over all data planes of the process. For control: it locks.
pub struct Peers {
    routes: Arc<RouteTable>,
    ledger: Mutex<Ledger>,
}

impl Peers {
    /// No traffic yet, for the peers to which `routes` leads.
    pub fn new(routes: Arc<RouteTable>) -> Self {
        Self { routes, ledger: Mutex::default() }
    }

    /// The route table whose peers these are.
    pub fn routes(&self) -> &Arc<RouteTable> {
        &self.routes
    }

    /// Notices who was active since the last look, and takes leave of peers that have gone. Due
    /// every other second.
    pub fn look(&self) {
        self.ledger().look(&self.routes, Instant::now());
    }

    /// Traffic by peer, by address.
    pub fn traffic(&self) -> Vec<PeerTraffic> {
        let mut ledger = self.ledger();
        let now = Instant::now();
        ledger.look(&self.routes, now);
        let mut peers: Vec<_> =
            ledger.accounts.values().map(|account| account.traffic(now)).collect();
        peers.sort_unstable_by_key(|peer| peer.address);
        peers
    }

    /// What belongs to no peer of [`Self::traffic`].
    pub fn others(&self) -> OtherTraffic {
        let ledger = self.ledger();
        OtherTraffic {
            beyond: ledger.total(PeerIndex::OVERFLOW),
            mismatched: ledger.total(PeerIndex::UNATTRIBUTED),
            departed: ledger.departed,
        }
    }

    /// A thread begins to count.
    pub(in crate::dataplane) fn join(&self, thread: Arc<ThreadCounters>) {
        self.ledger().threads.push(thread);
    }

    /// All threads have ended.
    pub(in crate::dataplane) fn part(&self) {
        self.ledger().part(&self.routes);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Ledger {
    threads: Vec<Arc<ThreadCounters>>,
    /// What the threads' counters lack (what ended threads had counted) or have too much (what
    /// belongs to the number's former owner).
    offsets: HashMap<PeerIndex, Traffic>,
    accounts: HashMap<PeerIndex, Account>,
    departed: Traffic,
}

/// One peer's.
struct Account {
    address: Ipv4Addr,
    /// At the last look.
    seen: Traffic,
    last_sent: Option<Instant>,
    last_received: Option<Instant>,
    leaving: Option<Leaving>,
}

/// How things stood when a peer was first seen without a route.
struct Leaving {
    departures: u64,
    since: Instant,
    /// The round in which each thread was.
    rounds: Vec<u64>,
}

impl PeerTraffic {
    /// What part of the packets for it the kernel did not send, from 0 to 1; `None` if there were
    /// none. Of what is lost behind this host's kernel nothing is known here.
    pub fn send_loss(&self) -> Option<f64> {
        let all = self.sent_packets + self.unsent_packets;
        (all > 0).then(|| self.unsent_packets as f64 / all as f64)
    }
}

impl Ledger {
    fn total(&self, index: PeerIndex) -> Traffic {
        let own = self.offsets.get(&index).copied().unwrap_or_default();
        self.threads.iter().fold(own, |sum, thread| {
            let (sent, received) =
                (thread.egress.peers.get(index), thread.ingress.peers.get(index));
            sum.plus(Traffic::new(sent, received, thread.egress.peers.unsent(index)))
        })
    }

    fn look(&mut self, routes: &RouteTable, now: Instant) {
        for entry in routes.peers() {
            let total = self.total(entry.index);
            let account =
                self.accounts.entry(entry.index).or_insert_with(|| Account::new(entry.address));
            account.note(total, now);
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
                self.take_leave(routes, &entry, total);
            }
        }
    }

    /// Frees the number of a peer that has left. No worker holds it: each has begun another round
    /// since the last route was gone.
    fn take_leave(&mut self, routes: &RouteTable, entry: &PeerEntry, total: Traffic) {
        self.accounts.remove(&entry.index);
        self.departed = self.departed.plus(total);
        let offset = self.offsets.entry(entry.index).or_default();
        *offset = offset.minus(total);
        routes.release_peer(entry);
    }

    /// Keeps what the threads had counted, and lets them go.
    fn part(&mut self, routes: &RouteTable) {
        if self.threads.is_empty() {
            return;
        }
        self.look(routes, Instant::now());
        let numbers = routes.peers().into_iter().map(|entry| entry.index);
        let numbers = numbers.chain([PeerIndex::OVERFLOW, PeerIndex::UNATTRIBUTED]);
        let totals: HashMap<_, _> = numbers.map(|index| (index, self.total(index))).collect();
        // A number that is free counts nothing, and the next threads begin at nothing.
        self.offsets = totals;
        self.threads.clear();
        for account in self.accounts.values_mut() {
            account.leaving = None;
        }
    }
}

impl Account {
    fn new(address: Ipv4Addr) -> Self {
        let seen = Traffic::default();
        Self { address, seen, last_sent: None, last_received: None, leaving: None }
    }

    fn note(&mut self, total: Traffic, now: Instant) {
        if total.sent_packets != self.seen.sent_packets {
            self.last_sent = Some(now);
        }
        if total.received_packets != self.seen.received_packets {
            self.last_received = Some(now);
        }
        self.seen = total;
    }

    fn traffic(&self, now: Instant) -> PeerTraffic {
        let ago = |at: Option<Instant>| at.map(|at| now.duration_since(at));
        PeerTraffic {
            address: self.address,
            sent_packets: self.seen.sent_packets,
            sent_bytes: self.seen.sent_bytes,
            received_packets: self.seen.received_packets,
            received_bytes: self.seen.received_bytes,
            unsent_packets: self.seen.unsent_packets,
            last_sent: ago(self.last_sent),
            last_received: ago(self.last_received),
        }
    }
}

impl Leaving {
    /// Whether each thread has begun another round since.
    fn is_past(&self, threads: &[Arc<ThreadCounters>]) -> bool {
        threads.iter().zip(&self.rounds).all(|(thread, &round)| thread.rounds.get() != round)
    }
}

/// How long a peer keeps its number and its place in the list after its last route has gone: a host
/// that restarts is back sooner.
const KEPT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
