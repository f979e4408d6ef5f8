//! What this host's kernel does with the packets of the overlay and with the datagrams that carry them.
//! Policy routing rules (`ip rule`) and routes of other tables may divert or drop them, whatever the main
//! table says.

use std::net::Ipv4Addr;

use super::facts::HostFacts;
use super::finding::Finding;
use crate::host::netlink::Link;
use crate::host::routing::{Flow, Origin, Refusal, Routing};
use crate::packet::protocol;

/// Packets of one kind, and where they must leave.
struct Traffic {
    /// The packets, for the user.
    what: String,
    flow: Flow,
    origin: Origin,
    /// Name of the interface that they must leave through; `None` if any will do.
    through: Option<String>,
}

/// Asks the kernel about packets to and from each peer. Reports the first fault of each kind of packet.
pub(super) async fn check(facts: &HostFacts<'_>, tun: &Link) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    let mut reported = [false; KINDS];
    for peer in facts.peers.iter().take(MAX_PEERS) {
        let kinds = traffic(facts, tun, peer.subnet.network(), peer.public_ip);
        for (traffic, reported) in kinds.into_iter().zip(&mut reported) {
            if !*reported && let Some(finding) = ask(facts, traffic.as_ref()).await {
                findings.push(finding);
                *reported = true;
            }
        }
    }
    findings
}

/// Of this host itself, of containers, to containers, and the datagrams.
const KINDS: usize = 4;

fn traffic(
    facts: &HostFacts<'_>,
    tun: &Link,
    peer: Ipv4Addr,
    outer: Ipv4Addr,
) -> [Option<Traffic>; KINDS] {
    let flow =
        |source, destination| Flow { source, destination, protocol: protocol::TCP, ports: None };
    let theirs = Ipv4Addr::from_bits(peer.to_bits() + 2);
    let containers = || Some((facts.bridge()?.clone(), facts.container()?));
    let held = |address: &Ipv4Addr| facts.addresses.iter().any(|own| own.local == *address);
    let through = Some(tun.name.clone());
    [
        facts.subnet.map(|subnet| subnet.network()).filter(held).map(|own| Traffic {
            what: format!("packets from this host to {peer}"),
            flow: flow(own, peer),
            origin: Origin::Host,
            through: through.clone(),
        }),
        containers().map(|(bridge, own)| Traffic {
            what: format!("packets from containers to {theirs}"),
            flow: flow(own, theirs),
            origin: Origin::Behind(bridge),
            through,
        }),
        containers().map(|(bridge, own)| Traffic {
            what: format!("packets from {theirs} to containers"),
            flow: flow(theirs, own),
            origin: Origin::Behind(tun.clone()),
            through: Some(bridge.name),
        }),
        facts.interface.as_ref().ok().map(|interface| interface.address).filter(held).map(|own| {
            let ports = Some([facts.port(); 2]);
            Traffic {
                what: format!("datagrams to {outer}"),
                flow: Flow { protocol: protocol::UDP, ports, ..flow(own, outer) },
                origin: Origin::Host,
                through: None,
            }
        }),
    ]
}

async fn ask(facts: &HostFacts<'_>, traffic: Option<&Traffic>) -> Option<Finding> {
    let Traffic { what, flow, origin, through } = traffic?;
    match facts.netlink.routing(&facts.links, flow, origin).await {
        Routing::Through { interface, .. } if through.as_ref().is_some_and(|t| *t != interface) => {
            let text = format!("{what} go to {interface} because of a policy routing rule");
            let remedy = format!(
                "find the rule with `ip rule` and its routes with `ip route show table all`, and delete \
                 it; the kernel's answer: `{}`",
                flow.command(origin)
            );
            Some(Finding::fault("route", text).remedy(remedy))
        }
        // The kernel settings are checked on their own.
        Routing::Refused(Refusal::NotForwarded { .. }) => None,
        Routing::Refused(refusal) => {
            let text = format!("this kernel drops {what}: {}", refusal.sentence(flow));
            let remedy = refusal.remedy().unwrap_or_else(|| format!("`{}`", flow.command(origin)));
            Some(Finding::fault("route", text).remedy(remedy))
        }
        Routing::Through { .. } | Routing::Local => None,
    }
}

/// Largest number of peers that the kernel is asked about.
const MAX_PEERS: usize = 64;
