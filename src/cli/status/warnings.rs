//! What stands at the top of `status`.

use std::collections::HashSet;

use crate::cli::peers::{PathState, RECENT};
use crate::dataplane::{FeatureState, PeerTraffic};
use crate::humanize;
use crate::observe::protocol::snapshot::{Snapshot, unix};
use crate::observe::warnings::Warning;

/// The conditions that need an operator's attention.
pub(super) fn warnings(now: &Snapshot) -> Vec<String> {
    let mut warnings = Vec::new();
    if !now.health.ready {
        let missing = now.health.missing.as_deref().unwrap_or("no reason given");
        warnings.push(format!("not ready: {missing}"));
    }
    warnings.extend(beside_readiness(now));
    warnings
}

/// The conditions that are not the reason why the daemon is not ready.
pub(super) fn beside_readiness(now: &Snapshot) -> Vec<String> {
    let mut warnings = Vec::new();
    // A warning that makes the daemon unready may be the reason above.
    let rest = now.warnings.iter().map(Warning::sentence);
    warnings.extend(rest.filter(|warning| now.health.missing.as_ref() != Some(warning)));
    if !now.health.late.is_empty() {
        warnings.push(format!("no heartbeat from {}", now.health.late.join(", ")));
    }
    if now.overlay.as_ref().is_some_and(|overlay| !overlay.carrying) {
        warnings.push("no packets are forwarded: the TUN device is being recreated".into());
    }
    if let Some(lease) = &now.lease {
        if !lease.held {
            warnings.push(format!("the lease of {} is not confirmed", lease.subnet));
        }
        if lease.expires.is_some_and(|expires| expires <= now.taken) {
            warnings.push(format!("the lease of {} has expired", lease.subnet));
        }
    }
    if let Some(registry) = now.registry.as_ref().filter(|registry| !registry.connected) {
        let why = registry.last_error.as_deref().unwrap_or("no answer yet");
        let effect = if now.lease.is_some() { ", routes stay unchanged" } else { "" };
        // Several endpoints have a line each.
        let why = if why.contains('\n') { format!("\n{why}") } else { format!(" {why}") };
        warnings.push(format!("the lease store cannot be read{effect}:{why}"));
    }
    for feature in &now.features {
        // A feature that a flag disables is no reason for a warning.
        if let Some(why) = feature.why.as_deref().filter(|why| *why != "switched off") {
            warnings.push(format!(
                "continuing without {}: {why}{}",
                feature.name,
                since(now, feature)
            ));
        }
    }
    let peers: HashSet<_> = now.peers.iter().map(|peer| peer.public_ip).collect();
    let silent = now.traffic.iter().filter(|traffic| {
        peers.contains(&traffic.address)
            && PathState::of(traffic) == PathState::Silent
            && !now.is_send_refused(traffic.address)
    });
    for (number, PeerTraffic { address, .. }) in silent.enumerate() {
        if number == MAX_NAMED_PEERS {
            warnings.push("more peers are silent: `flannel-udp peers`".into());
            break;
        }
        warnings.push(format!(
            "packets are sent to peer {address}, and none were received for {}: `flannel-udp doctor`",
            humanize::seconds(RECENT.as_secs_f64())
        ));
    }
    for mismatch in now.recent_mismatches().take(MAX_NAMED_SENDERS) {
        let ago = humanize::seconds(mismatch.last_ago.floor());
        warnings.push(format!("{} ({ago} ago)", mismatch.latest.sentence()));
    }
    warnings
}

/// The age of a feature's loss, in parentheses; empty if the feature was never lost.
pub(super) fn since(now: &Snapshot, feature: &FeatureState) -> String {
    let ago = |lost| humanize::seconds((now.taken - unix(lost)).max(0.0).floor());
    feature.lost.map_or_else(String::new, |lost| format!(" ({} ago)", ago(lost)))
}

/// Most senders of mismatching packets that are named.
const MAX_NAMED_SENDERS: usize = 3;

/// Most silent peers that are named.
const MAX_NAMED_PEERS: usize = 3;
