//! Conservation of packets between two daemons: each received what the other sent, except for the
//! packets that the kernel between them reports as dropped.

use std::fs;
use std::time::{Duration, Instant};

use flannel_udp::sys::netns::Netns;

use super::accounting::{DaemonCounters, balanced};
use super::test_lab::TestLab;

/// A comparison of the first two hosts' counters before and after a test's traffic.
#[derive(Debug)]
pub struct ConservationCheck {
    before: Snapshot,
}

/// All counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Snapshot {
    /// The daemons' own, by host.
    daemons: [DaemonCounters; 2],
    /// Packets dropped by the kernel in each host, including overflows of the daemon's socket.
    hosts: [u64; 2],
    /// Packets dropped by the kernel in each host's first container.
    containers: [u64; 2],
    /// Packets dropped by the kernel in queues that belong to no namespace.
    machine: u64,
}

impl ConservationCheck {
    /// Reads the counters once no packet is in flight between the first two hosts.
    #[track_caller]
    pub fn start(lab: &mut TestLab) -> Self {
        let mut before = Snapshot::take(lab);
        let end = Instant::now() + TIMEOUT;
        loop {
            std::thread::sleep(QUIET);
            let now = Snapshot::take(lab);
            if now == before {
                return Self { before };
            }
            assert!(Instant::now() < end, "traffic before the test's own: {before:#?} {now:#?}");
            before = now;
        }
    }

    /// Compares the counters after traffic of which `lost` datagrams did not arrive in the other
    /// container. Each daemon must have received what the other sent; packets that are missing
    /// between the daemons, and datagrams that were lost, must be in some drop counter.
    #[track_caller]
    pub fn finish(self, lab: &mut TestLab, lost: u64) {
        let end = Instant::now() + TIMEOUT;
        loop {
            let now = Snapshot::take(lab);
            let missing = [0, 1].map(|from| now.missing(&self.before, from));
            let between = now.dropped_between(&self.before);
            let conserved = match between {
                0 => missing == [0, 0],
                // The kernel counts a dropped GSO packet as one, however many segments it has.
                _ => missing.iter().all(|count| *count >= 0),
            };
            let named = now.dropped_anywhere(&self.before);
            if conserved && (lost == 0 || named > 0) {
                if named > 0 {
                    println!("{lost} datagrams lost, {named} drops counted, {missing:?} missing");
                }
                return;
            }
            assert!(
                Instant::now() < end,
                "{lost} datagrams lost; missing between the daemons {missing:?}, counted drops: \
                 {between} between them, {named} in all\nbefore: {:#?}\nafter: {now:#?}",
                self.before
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Snapshot {
    fn take(lab: &mut TestLab) -> Self {
        let daemons = [0, 1].map(|host| balanced(lab, host));
        let hosts = [0, 1].map(|host| dropped_in(lab.host(host).netns()) + daemons[host].overflows);
        let containers = [0, 1].map(|host| dropped_in(lab.host(host).container().netns()));
        Self { daemons, hosts, containers, machine: backlog_drops() }
    }

    /// Packets that host `from` has sent since `before` and the other host has not received.
    fn missing(&self, before: &Self, from: usize) -> i64 {
        let sent = |at: &Self| at.daemons[from].egress.carried + at.daemons[from].ingress.icmp;
        let received = |at: &Self| at.daemons[1 - from].ingress.packets;
        (sent(self) - sent(before)) as i64 - (received(self) - received(before)) as i64
    }

    fn dropped_between(&self, before: &Self) -> u64 {
        self.hosts.iter().sum::<u64>() - before.hosts.iter().sum::<u64>() + self.machine
            - before.machine
    }

    fn dropped_anywhere(&self, before: &Self) -> u64 {
        let sum = |at: &Self| {
            let daemons =
                at.daemons.iter().map(|d| d.egress.dropped_all() + d.ingress.dropped_all());
            daemons.sum::<u64>() + at.containers.iter().sum::<u64>()
        };
        sum(self) - sum(before) + self.dropped_between(before)
    }
}

/// Packets that the kernel dropped in a namespace: devices, IP, UDP sockets.
fn dropped_in(netns: &Netns) -> u64 {
    let read = |file: &str| {
        let path = format!("/proc/thread-self/net/{file}");
        netns.enter(move || fs::read_to_string(path)).and_then(|read| read).expect("counters")
    };
    let devices = read("dev");
    // Name: rx bytes packets errs drop fifo frame compressed multicast, tx bytes packets errs drop.
    let drops = devices.lines().filter_map(|line| {
        let numbers: Vec<u64> =
            line.split_once(':')?.1.split_whitespace().map_while(|n| n.parse().ok()).collect();
        Some(numbers.get(3)? + numbers.get(11)?)
    });
    let snmp = read("snmp");
    let counters = ["Ip: InDiscards", "Ip: OutDiscards", "Ip: ReasmFails", "Udp: InErrors"];
    drops.sum::<u64>() + counters.iter().map(|name| counter(&snmp, name)).sum::<u64>()
}

/// A counter of a table like `/proc/net/snmp`, where a line of names precedes each line of values.
/// `name` is the group and the counter: `Ip: InDiscards`.
pub fn counter(table: &str, name: &str) -> u64 {
    let (group, name) = name.split_once(' ').expect("a group and a name");
    let mut lines = table.lines().filter(|line| line.starts_with(group));
    let names = lines.next().unwrap_or_default().split_whitespace();
    let numbers = lines.next().unwrap_or_default().split_whitespace();
    let found = names.zip(numbers).find(|(this, _)| *this == name);
    found.and_then(|(_, number)| number.parse().ok()).unwrap_or_else(|| panic!("no {group} {name}"))
}

/// Packets of the whole machine that the kernel dropped because the backlog of a CPU was full: the
/// second column of `softnet_stat`.
fn backlog_drops() -> u64 {
    let table = fs::read_to_string("/proc/net/softnet_stat").expect("softnet_stat");
    let second = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    table.lines().filter_map(second).sum()
}

/// Time in which every packet in flight arrives.
const QUIET: Duration = Duration::from_millis(60);

const TIMEOUT: Duration = Duration::from_secs(3);
