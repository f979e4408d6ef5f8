//! Peers whose datagrams arrive in fragments: the path from them is narrower than the interfaces at its ends.

use crate::dataplane::PeerTraffic;
use crate::observe::warnings::Condition;

/// What is wrong now, one condition per peer.
pub(super) fn conditions(traffic: &[PeerTraffic]) -> Vec<Condition> {
    let fragmented = traffic.iter().filter_map(|peer| Some((peer.address, peer.fragments_of?)));
    let conditions = fragmented.take(MAX_NAMED).map(|(peer, longest)| Condition {
        text: format!(
            "datagrams from {peer} arrive in fragments of up to {longest} bytes: a link on the path has a \
             smaller MTU"
        ),
        remedy: Some(format!(
            "raise the MTU of that link, or lower the MTU of the interface between hosts to {longest} on \
             every host; `flannel-udp doctor` probes the path"
        )),
    });
    conditions.collect()
}

/// Largest number of peers that are named.
const MAX_NAMED: usize = 8;
