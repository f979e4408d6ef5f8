//! The same traffic in the books of both ends: what one daemon sent the other received, but for what
//! the kernel between them says it dropped.

use std::fs;
use std::time::{Duration, Instant};

use flannel_udp::sys::netns::Netns;

use super::books::{Books, settled};
use super::world::World;

/// The books of two hosts before some traffic.
#[derive(Debug)]
pub struct Ledger {
    before: Accounts,
}

/// Counters at one moment, by host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Accounts {
    books: [Books; 2],
    /// Packets dropped by the kernel in each host, the socket's overflows included.
    hosts: [u64; 2],
    /// The same in each host's first container.
    containers: [u64; 2],
    /// The same in queues that belong to no namespace.
    machine: u64,
}

impl Ledger {
    /// Opens the books once nothing is on its way between the first two hosts.
    #[track_caller]
    pub fn open(world: &mut World) -> Self {
        let mut before = Accounts::now(world);
        let end = Instant::now() + PATIENCE;
        loop {
            std::thread::sleep(QUIET);
            let now = Accounts::now(world);
            if now == before {
                return Self { before };
            }
            assert!(Instant::now() < end, "traffic before there was any: {before:#?} {now:#?}");
            before = now;
        }
    }

    /// Closes the books after traffic that lost `lost` datagrams on its way between containers.
    /// What each daemon sent the other has received; what is missing, or lost, some counter names.
    #[track_caller]
    pub fn close(self, world: &mut World, lost: u64) {
        let end = Instant::now() + PATIENCE;
        loop {
            let now = Accounts::now(world);
            let missing = [0, 1].map(|from| now.missing(&self.before, from));
            let between = now.dropped_between(&self.before);
            let settled = match between {
                0 => missing == [0, 0],
                // The kernel counts a dropped run of packets as one.
                _ => missing.iter().all(|count| *count >= 0),
            };
            let named = now.dropped_anywhere(&self.before);
            if settled && (lost == 0 || named > 0) {
                if named > 0 {
                    println!("{lost} datagrams lost, {named} drops named, {missing:?} missing");
                }
                return;
            }
            assert!(
                Instant::now() < end,
                "{lost} datagrams lost; missing between the daemons {missing:?}, named drops: \
                 {between} between them, {named} in all\nbefore: {:#?}\nafter: {now:#?}",
                self.before
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Accounts {
    fn now(world: &mut World) -> Self {
        let books = [0, 1].map(|host| settled(world, host));
        let hosts = [0, 1].map(|host| dropped_in(world.host(host).netns()) + books[host].overflows);
        let containers = [0, 1].map(|host| dropped_in(world.host(host).container().netns()));
        Self { books, hosts, containers, machine: backlog_drops() }
    }

    /// Packets that host `from` sent since `before` and that the other has not received.
    fn missing(&self, before: &Self, from: usize) -> i64 {
        let sent = |at: &Self| at.books[from].egress.carried + at.books[from].ingress.icmp;
        let received = |at: &Self| at.books[1 - from].ingress.packets;
        (sent(self) - sent(before)) as i64 - (received(self) - received(before)) as i64
    }

    fn dropped_between(&self, before: &Self) -> u64 {
        self.hosts.iter().sum::<u64>() - before.hosts.iter().sum::<u64>() + self.machine
            - before.machine
    }

    fn dropped_anywhere(&self, before: &Self) -> u64 {
        let sum = |at: &Self| {
            let daemons = at.books.iter().map(|b| b.egress.dropped_all() + b.ingress.dropped_all());
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

/// A counter of `/proc/net/snmp`, where a line of names stands before each line of numbers.
pub fn counter(table: &str, name: &str) -> u64 {
    let (group, name) = name.split_once(' ').expect("a group and a name");
    let mut lines = table.lines().filter(|line| line.starts_with(group));
    let names = lines.next().unwrap_or_default().split_whitespace();
    let numbers = lines.next().unwrap_or_default().split_whitespace();
    let found = names.zip(numbers).find(|(this, _)| *this == name);
    found.and_then(|(_, number)| number.parse().ok()).unwrap_or_else(|| panic!("no {group} {name}"))
}

/// Packets that found a processor's backlog full: the second column of `softnet_stat`, for the whole
/// machine.
fn backlog_drops() -> u64 {
    let table = fs::read_to_string("/proc/net/softnet_stat").expect("softnet_stat");
    let second = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    table.lines().filter_map(second).sum()
}

/// Long enough that what is on its way arrives.
const QUIET: Duration = Duration::from_millis(60);

const PATIENCE: Duration = Duration::from_secs(3);
