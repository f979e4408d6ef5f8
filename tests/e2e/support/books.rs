//! The daemons' own books: what came in went out, or was dropped for a named reason.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::world::World;

/// One direction's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direction {
    pub packets: u64,
    pub carried: u64,
    pub icmp: u64,
    pub drops: Vec<(String, u64)>,
}

/// One daemon's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Books {
    pub egress: Direction,
    pub ingress: Direction,
    pub overflows: u64,
}

impl Books {
    /// The counters of the daemon on `host`, now or at its end.
    pub fn of(world: &mut World, host: usize) -> Self {
        let daemon = world.host_mut(host).daemon_mut().expect("a daemon");
        let stats = daemon.stats().expect("its counters");
        let traffic = if stats.get("egress").is_some() { &stats } else { &stats["stats"] };
        Self {
            egress: Direction::read(&traffic["egress"]),
            ingress: Direction::read(&traffic["ingress"]),
            overflows: traffic["socket_overflows"].as_u64().expect("socket_overflows"),
        }
    }

    fn balance(&self) -> bool {
        self.egress.balances() && self.ingress.balances()
    }
}

impl Direction {
    fn read(stats: &Value) -> Self {
        let number = |name: &str| stats[name].as_u64().unwrap_or_else(|| panic!("{name}: {stats}"));
        let drops = stats["drops"].as_object().expect("drops by reason");
        Self {
            packets: number("packets"),
            carried: number("carried_packets"),
            icmp: number("icmp"),
            drops: drops.iter().map(|(k, v)| (k.clone(), v.as_u64().expect("a count"))).collect(),
        }
    }

    /// Packets dropped for `reason`.
    pub fn dropped(&self, reason: &str) -> u64 {
        let named = self.drops.iter().find(|(name, _)| name == reason);
        named.unwrap_or_else(|| panic!("no drop reason {reason}: {self:?}")).1
    }

    /// Packets dropped for any reason.
    pub fn dropped_all(&self) -> u64 {
        self.drops.iter().map(|(_, count)| count).sum()
    }

    fn balances(&self) -> bool {
        self.packets == self.carried + self.dropped_all()
    }
}

/// Checks the books of every daemon: packets read = packets sent + drops by reason, both ways.
#[track_caller]
pub fn check(world: &mut World) {
    for host in 0..world.hosts().len() {
        if world.host(host).daemon().is_some() {
            settled(world, host);
        }
    }
}

/// The books of `host`, once they balance: a packet may be in a daemon's hands while it counts.
#[track_caller]
pub fn settled(world: &mut World, host: usize) -> Books {
    let end = Instant::now() + Duration::from_secs(3);
    loop {
        let books = Books::of(world, host);
        if books.balance() {
            return books;
        }
        assert!(Instant::now() < end, "the books of host {host} do not balance: {books:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
