//! One writer and its readers in every interleaving, by `loom`.
//!
//! The result of a lookup must have been the table's answer at some moment between the start and
//! the end of the lookup: no older than the last change that the reader knows of, and no newer than
//! the last change that has started.

use loom::sync::atomic::AtomicUsize;
use loom::thread;

use super::*;

/// Two root slots, and below each of them a chunk of two addresses.
const NETWORK: &str = "10.0.0.0/30";
const SUBNET_LEN: u8 = 31;

#[derive(Clone, Copy)]
enum TableChange {
    Insert(&'static str, u8),
    Remove(&'static str),
}

use TableChange::{Insert, Remove};

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

/// A next hop whose bytes are all `n`, so that a torn word would be noticed.
fn hop(n: u8) -> NextHop {
    NextHop { ip: Ipv4Addr::new(n, n, n, n), port: u16::from_ne_bytes([n, n]) }
}

fn apply(writer: &mut RouteWriter, change: TableChange) {
    match change {
        Insert(prefix, n) => drop(writer.insert(cidr(prefix), hop(n)).unwrap()),
        Remove(prefix) => assert!(writer.remove(cidr(prefix)).is_some()),
    }
}

/// The right answers for `address`, before the changes and after each of them, by a model without a
/// trie.
fn answers(
    before: &[TableChange],
    changes: &[TableChange],
    address: Ipv4Addr,
) -> Vec<Option<Route>> {
    let (mut routes, mut hosts) = (BTreeMap::new(), vec![]);
    let mut answers = vec![];
    for (index, change) in before.iter().chain(changes).enumerate() {
        match *change {
            Insert(prefix, n) => {
                if !hosts.contains(&n) {
                    hosts.push(n);
                }
                // Numbers are assigned in order, after the two that are never assigned.
                let place = hosts.iter().position(|host| *host == n).unwrap() as u64;
                routes.insert(
                    cidr(prefix),
                    Route { hop: hop(n), peer: PeerIndex::from_bits(place + 2) },
                )
            }
            Remove(prefix) => routes.remove(&cidr(prefix)),
        };
        if index + 1 >= before.len() {
            let covering = routes.iter().filter(|(prefix, _)| prefix.contains(address));
            answers.push(covering.max_by_key(|(prefix, _)| prefix.len()).map(|(_, route)| *route));
        }
    }
    answers
}

/// Runs `changes` concurrently with one reader per list of addresses, which looks them up in order.
///
/// Every interleaving with at most `PREEMPTIONS` preemptions is tried; the values that the memory
/// model allows a load to return are not limited.
fn explore(before: &[TableChange], changes: &[TableChange], readers: &[&[&str]]) {
    let (before, changes) = (before.to_vec(), changes.to_vec());
    let readers: Vec<Vec<_>> = readers
        .iter()
        .map(|addresses| {
            let address = |text: &&str| text.parse::<Ipv4Addr>().unwrap();
            let addresses = addresses.iter().map(address);
            addresses.map(|address| (address, answers(&before, &changes, address))).collect()
        })
        .collect();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(move || {
        let (mut writer, table) = table(cidr(NETWORK), SUBNET_LEN);
        before.iter().for_each(|change| apply(&mut writer, *change));
        // loom need not model `begun`: it bounds the answers by the execution as it is. What a
        // reader knows of `done` depends on the memory model, so `done` is loom's.
        let begun = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let done = Arc::new(AtomicUsize::new(0));
        let start = |lookups: &Vec<(Ipv4Addr, Vec<_>)>| {
            let (table, lookups) = (Arc::clone(&table), lookups.clone());
            let (begun, done) = (Arc::clone(&begun), Arc::clone(&done));
            thread::spawn(move || {
                for (address, answers) in lookups {
                    let first = done.load(Ordering::Acquire);
                    let found = table.route(address);
                    let last = begun.load(std::sync::atomic::Ordering::SeqCst);
                    assert!(
                        answers[first..=last].contains(&found),
                        "{address}: {found:?}, of {:?}",
                        &answers[first..=last]
                    );
                }
            })
        };
        let readers: Vec<_> = readers.iter().map(start).collect();
        for (index, change) in changes.iter().enumerate() {
            begun.store(index + 1, std::sync::atomic::Ordering::SeqCst);
            apply(&mut writer, *change);
            done.store(index + 1, Ordering::Release);
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

/// A route is changed, removed and added again, in one slot.
#[test]
fn a_slot() {
    explore(
        &[Insert("10.0.0.0/31", 1)],
        &[Insert("10.0.0.0/31", 2), Remove("10.0.0.0/31"), Insert("10.0.0.0/31", 3)],
        &[&["10.0.0.1", "10.0.0.1"]],
    );
}

/// A change of a short prefix is seen slot by slot, and each slot is old or new.
#[test]
fn many_slots() {
    explore(
        &[Insert("10.0.0.0/30", 1)],
        &[Insert("10.0.0.0/30", 2), Insert("10.0.0.0/30", 3)],
        &[&["10.0.0.1"], &["10.0.0.3"]],
    );
}

/// A first long prefix: a reader that finds the chunk finds its words too. The other address of the
/// chunk keeps its route throughout.
#[test]
fn a_new_chunk() {
    explore(
        &[Insert("10.0.0.0/31", 1)],
        &[Insert("10.0.0.0/32", 2)],
        &[&["10.0.0.0"], &["10.0.0.1"]],
    );
}

/// The chunk is unlinked while a reader is inside it, and is linked again with other words.
#[test]
fn a_chunk_goes_and_comes_back() {
    explore(
        &[Insert("10.0.0.0/31", 1), Insert("10.0.0.0/32", 2)],
        &[Remove("10.0.0.0/32"), Insert("10.0.0.0/31", 3), Insert("10.0.0.0/32", 4)],
        &[&["10.0.0.0"]],
    );
}

/// The same with two readers, and an address that always has a route.
#[test]
fn a_chunk_goes_under_two_readers() {
    explore(
        &[Insert("10.0.0.0/31", 1), Insert("10.0.0.0/32", 2)],
        &[Remove("10.0.0.0/32"), Insert("10.0.0.1/32", 3)],
        &[&["10.0.0.1"], &["10.0.0.1"]],
    );
}

const PREEMPTIONS: usize = 3;
