//! Functions that take the values of a family out of a snapshot.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::{Sample, Value};
use crate::dataplane::PeerTraffic;
use crate::observe::protocol::snapshot::{Snapshot, Thread};

/// A peer's address, its subnets (separated by commas; most peers have one) and the direction.
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

/// The value of a part of the snapshot that may be absent.
pub(super) fn of<T>(part: &Option<T>, value: fn(&T) -> Option<Value>) -> Vec<Sample> {
    part.as_ref().and_then(value).map(bare).unwrap_or_default()
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

/// Two values per peer: of the traffic to it and from it.
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

/// The traffic of each peer, with the values of the labels `peer` and `subnet`.
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
