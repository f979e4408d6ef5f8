//! The daemons' own counters, which must balance: each packet that was read was sent, or dropped for a
//! named reason.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::test_lab::TestLab;

/// One direction's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direction {
    pub packets: u64,
    pub carried: u64,
    /// Trains that were sent, or groups that were written.
    pub units: u64,
    pub icmp: u64,
    /// ICMP errors that the rate limit held back.
    pub icmp_limited: u64,
    pub drops: Vec<(String, u64)>,
}

/// One daemon's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonCounters {
    pub egress: Direction,
    pub ingress: Direction,
    pub overflows: u64,
}

impl DaemonCounters {
    /// The counters of the daemon on `host`: now, or at its exit if it has exited.
    pub fn of(lab: &mut TestLab, host: usize) -> Self {
        let daemon = lab.host_mut(host).daemon_mut().expect("a daemon");
        let stats = daemon.stats().expect("its counters");
        let traffic = if stats.get("egress").is_some() { &stats } else { &stats["stats"] };
        Self {
            egress: Direction::read(&traffic["egress"]),
            ingress: Direction::read(&traffic["ingress"]),
            overflows: traffic["socket_overflows"].as_u64().expect("socket_overflows"),
        }
    }

    fn balances(&self) -> bool {
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
            units: number("out_units"),
            icmp: number("icmp"),
            icmp_limited: number("icmp_limited"),
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

/// Checks that the counters of every daemon balance in both directions:
/// packets read = packets carried + drops by reason.
#[track_caller]
pub fn check_balance(lab: &mut TestLab) {
    for host in 0..lab.hosts().len() {
        if lab.host(host).daemon().is_some() {
            balanced(lab, host);
        }
    }
}

/// The counters of the daemon on `host`, once they balance: for a moment a packet may be counted as
/// read and not yet as carried or dropped.
#[track_caller]
pub fn balanced(lab: &mut TestLab, host: usize) -> DaemonCounters {
    let end = Instant::now() + Duration::from_secs(3);
    loop {
        let counters = DaemonCounters::of(lab, host);
        if counters.balances() {
            return counters;
        }
        assert!(Instant::now() < end, "the counters of host {host} do not balance: {counters:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
