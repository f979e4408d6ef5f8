//! How the values of a family come out of a snapshot.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::{Sample, Value};
use crate::dataplane::counters::DirectionStats;
use crate::dataplane::{DropReason, PeerTraffic};
use crate::observe::protocol::snapshot::{Snapshot, Thread};

pub(super) const DIRECTION: &[&str] = &["direction"];
/// A peer's address and its subnets; most have one.
pub(super) const PEER: &[&str] = &["peer", "subnet", "direction"];
pub(super) const FEATURE: &[&str] = &["feature"];
pub(super) const THREAD: &[&str] = &["thread"];

pub(super) fn sample<L: Into<Cow<'static, str>>>(
    labels: impl IntoIterator<Item = L>,
    value: Value,
) -> Sample {
    Sample { labels: labels.into_iter().map(Into::into).collect(), value }
}

pub(super) fn bare(value: Value) -> Vec<Sample> {
    vec![Sample { labels: vec![], value }]
}

pub(super) fn whole(value: u64) -> Vec<Sample> {
    bare(Value::Whole(value))
}

pub(super) fn real(value: f64) -> Vec<Sample> {
    bare(Value::Real(value))
}

/// The value of a part that may not be there yet.
pub(super) fn of<T>(part: &Option<T>, value: fn(&T) -> Option<Value>) -> Vec<Sample> {
    part.as_ref().and_then(value).map(bare).unwrap_or_default()
}

pub(super) fn directions(snapshot: &Snapshot) -> [(&'static str, &DirectionStats); 2] {
    [("egress", &snapshot.stats.egress), ("ingress", &snapshot.stats.ingress)]
}

pub(super) fn by_direction(
    snapshot: &Snapshot,
    value: fn(&DirectionStats) -> Value,
) -> Vec<Sample> {
    directions(snapshot).into_iter().map(|(name, stats)| sample([name], value(stats))).collect()
}

/// The side where packets come in, and the one where they go out.
pub(super) fn by_side(
    snapshot: &Snapshot,
    values: fn(&DirectionStats) -> [Value; 2],
) -> Vec<Sample> {
    let samples = directions(snapshot).into_iter().flat_map(|(name, stats)| {
        ["in", "out"].into_iter().zip(values(stats)).map(move |(side, v)| sample([name, side], v))
    });
    samples.collect()
}

/// Every reason, whether it has occurred or not, so that a rate is there from the first time on.
pub(super) fn drops(snapshot: &Snapshot) -> Vec<Sample> {
    let samples = directions(snapshot).into_iter().flat_map(|(direction, stats)| {
        let known: BTreeMap<_, _> = DropReason::ALL.iter().map(|r| (r.name(), 0)).collect();
        let counted = stats.drops.iter().map(|(name, count)| (name.as_ref(), *count));
        let all: BTreeMap<&str, u64> = known.into_iter().chain(counted).collect();
        let samples = all.into_iter().map(|(reason, count)| {
            sample([direction.to_owned(), reason.to_owned()], Value::Whole(count))
        });
        samples.collect::<Vec<_>>()
    });
    samples.collect()
}

pub(super) fn by_feature(
    snapshot: &Snapshot,
    value: fn(bool, Option<&str>) -> bool,
) -> Vec<Sample> {
    let samples = snapshot.features.iter().map(|feature| {
        let value = value(feature.on, feature.why.as_deref());
        sample([feature.name.clone()], Value::Whole(value.into()))
    });
    samples.collect()
}

pub(super) fn by_thread(snapshot: &Snapshot, value: fn(&Thread) -> Value) -> Vec<Sample> {
    snapshot.threads.iter().map(|t| sample([t.name.clone()], value(t))).collect()
}

/// Of each peer, to it and from it.
pub(super) fn by_peer(
    snapshot: &Snapshot,
    values: fn(&PeerTraffic) -> [Option<Value>; 2],
) -> Vec<Sample> {
    let samples = peers(snapshot).into_iter().flat_map(|([address, subnet], traffic)| {
        let directions = ["egress", "ingress"].into_iter().zip(values(traffic));
        directions.filter_map(move |(direction, value)| {
            Some(sample([address.clone(), subnet.clone(), direction.to_owned()], value?))
        })
    });
    samples.collect()
}

/// Each peer with its address and its subnets.
pub(super) fn peers(snapshot: &Snapshot) -> Vec<([String; 2], &PeerTraffic)> {
    let mut subnets: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
    for peer in &snapshot.peers {
        let list = subnets.entry(peer.public_ip).or_default();
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&peer.subnet.to_string());
    }
    let labels = |traffic: &PeerTraffic| {
        let subnet = subnets.get(&traffic.address).cloned().unwrap_or_default();
        [traffic.address.to_string(), subnet]
    };
    snapshot.traffic.iter().map(|traffic| (labels(traffic), traffic)).collect()
}
