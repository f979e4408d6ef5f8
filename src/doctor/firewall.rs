//! What this host's firewall does to datagrams to and from peers and to packets of the overlay.

use std::net::Ipv4Addr;

use super::facts::HostFacts;
use super::finding::Finding;
use super::netfilter::{BaseChain, Blocker, FilterVerdict, Firewalls, Hook, TestPacket};
use crate::host::firewall::ToolError;
use crate::observe::warnings::send_refused;
use crate::route::Cidr;

/// Follows datagrams to and from peers through the OUTPUT and INPUT hooks, and a container's packet in each
/// direction through the FORWARD hook.
pub(super) fn check(
    facts: &HostFacts<'_>,
    firewalls: &Result<Firewalls, ToolError>,
) -> Vec<Finding> {
    let (port, peers) = (facts.port(), peers(facts));
    let incoming = peers.iter().filter_map(|peer| datagram(facts, Hook::Input, *peer));
    let outgoing = peers.iter().filter_map(|peer| datagram(facts, Hook::Output, *peer));
    let mut findings = vec![
        finding(&format!("UDP {port} from peers"), firewalls, incoming.collect()),
        finding(&format!("UDP {port} to peers"), firewalls, outgoing.collect()),
    ];
    for (check, inbound) in [("FORWARD to containers", true), ("FORWARD from containers", false)] {
        findings.push(finding(check, firewalls, forwarded(facts, inbound).into_iter().collect()));
    }
    findings.into_iter().flatten().collect()
}

/// What this host's own firewall does to the datagrams to and from one peer, if it drops them: a sentence
/// without its subject, and the remedy.
pub(super) fn drops_peer(
    facts: &HostFacts<'_>,
    firewalls: &Result<Firewalls, ToolError>,
    peer: Ipv4Addr,
) -> Option<(String, String)> {
    let port = facts.port();
    let firewalls = firewalls.as_ref().ok()?;
    for (hook, which) in [(Hook::Output, "to"), (Hook::Input, "from")] {
        let Some((packet, open)) = datagram(facts, hook, peer) else { continue };
        if let FilterVerdict::Drop(Blocker { by, chain }) = firewalls.verdict(&packet) {
            let text = format!(
                "this host's own firewall drops the datagrams {which} UDP {port} of {peer}: {by}"
            );
            return Some((text, open.remedy(&chain)));
        }
    }
    // A firewall whose rules are not simulated here.
    let refused = facts.status.as_ref().is_ok_and(|now| now.is_send_refused(peer));
    let text = || format!("{}, though no filter rule does so", send_refused(peer));
    refused.then(|| (text(), ELSEWHERE.into()))
}

const ELSEWHERE: &str = "look for the rule in other tables and hooks: `iptables-save`, `nft list ruleset`; or for an \
                         eBPF program attached to the daemon's cgroup";

/// The peers' addresses. Without a known peer, another address of the same network stands for one.
fn peers(facts: &HostFacts<'_>) -> Vec<Ipv4Addr> {
    let known: Vec<_> = facts.peers.iter().map(|peer| peer.public_ip).take(MAX_PEERS).collect();
    let own = facts.interface.as_ref().ok().map(|interface| interface.address);
    let any = own.map(|own| Ipv4Addr::from_bits(own.to_bits() ^ 1));
    if known.is_empty() { any.into_iter().collect() } else { known }
}

/// The datagram that a peer sends to this host, or that this host sends to the peer.
fn datagram(facts: &HostFacts<'_>, hook: Hook, peer: Ipv4Addr) -> Option<(TestPacket, Opening)> {
    let interface = facts.interface.as_ref().ok()?;
    let (port, name, own) = (facts.port(), &interface.name, interface.address);
    let incoming = hook == Hook::Input;
    let (source, destination) = if incoming { (peer, own) } else { (own, peer) };
    let packet = TestPacket {
        hook,
        protocol: "udp",
        source,
        destination,
        source_port: Some(port),
        destination_port: Some(port),
        input: incoming.then(|| name.clone()),
        output: (!incoming).then(|| name.clone()),
    };
    let (iptables, nft) = if incoming { ("-i", "iifname") } else { ("-o", "oifname") };
    let open = Opening {
        iptables: format!("{iptables} {name} -p udp --dport {port}"),
        nft: format!("{nft} {name} udp dport {port}"),
        firewalld: incoming.then(|| format!("--add-port={port}/udp")),
    };
    Some((packet, open))
}

/// A packet of another host to a container of this host, or the other way round.
fn forwarded(facts: &HostFacts<'_>, inbound: bool) -> Option<(TestPacket, Opening)> {
    let (network, own) = (facts.network()?, facts.container()?);
    let tun = facts.tun().map_or("flannel0", |tun| tun.name.as_str()).to_owned();
    let bridge = facts.bridge().map_or("docker0", |bridge| bridge.name.as_str()).to_owned();
    // Any address of the overlay network outside this host's subnet.
    let other = facts.peers.first().map_or(network.last(), |peer| peer.subnet.last());
    let ((source, destination), (input, output)) =
        if inbound { ((other, own), (tun, bridge)) } else { ((own, other), (bridge, tun)) };
    let packet = TestPacket {
        hook: Hook::Forward,
        protocol: "tcp",
        source,
        destination,
        source_port: None,
        destination_port: None,
        input: Some(input),
        output: Some(output),
    };
    Some((packet, Opening::network(network, inbound)))
}

/// What a rule that accepts a packet matches.
#[derive(Clone)]
struct Opening {
    iptables: String,
    nft: String,
    /// Option of `firewall-cmd`, which alone may change the table of firewalld; `None` if there is none for
    /// this hook.
    firewalld: Option<String>,
}

impl Opening {
    fn network(network: Cidr, inbound: bool) -> Self {
        let (iptables, nft) = if inbound { ("-d", "daddr") } else { ("-s", "saddr") };
        Self {
            iptables: format!("{iptables} {network}"),
            nft: format!("ip {nft} {network}"),
            firewalld: Some(format!("--zone=trusted --add-source={network}")),
        }
    }

    /// Accepts the packet before anything else in the chain that drops it, with commands in backquotes.
    fn remedy(&self, chain: &BaseChain) -> String {
        match chain {
            BaseChain::Iptables { program, chain } => format!(
                "delete that rule, or accept the packet before it in {program}'s table filter, chain \
                 {chain}: `{program} -I {chain} {} -j ACCEPT`",
                self.iptables
            ),
            BaseChain::Nft { table, chain } => match &self.firewalld {
                Some(open) if table.ends_with(" firewalld") => format!(
                    "nft's table {table} belongs to firewalld: `firewall-cmd --permanent {open}`, then \
                     `firewall-cmd --reload`"
                ),
                _ => format!(
                    "delete that rule, or accept the packet before it in nft's table {table}, chain \
                     {chain}: `nft insert rule {table} {chain} {} accept`",
                    self.nft
                ),
            },
        }
    }
}

/// The worst that happens to one of the packets; `None` if there is none.
fn finding(
    check: &str,
    firewalls: &Result<Firewalls, ToolError>,
    packets: Vec<(TestPacket, Opening)>,
) -> Option<Finding> {
    if packets.is_empty() {
        return None;
    }
    let firewalls = match firewalls {
        Ok(firewalls) => firewalls,
        Err(error) => {
            let note = Finding::note(check, format!("not checked: {error}"));
            return Some(note.remedy("run as root"));
        }
    };
    let mut unclear = None;
    for (packet, open) in packets {
        let to = packet.destination;
        match firewalls.verdict(&packet) {
            FilterVerdict::Accept => {}
            FilterVerdict::Drop(Blocker { by, chain }) => {
                let fault = Finding::fault(check, format!("dropped by {by} (to {to})"));
                return Some(fault.remedy(open.remedy(&chain)));
            }
            FilterVerdict::Unclear { drop: Blocker { by, chain }, unless } => {
                let text = match unless {
                    Some(unless) => format!(
                        "dropped by {by} unless {unless}, whose condition doctor cannot evaluate, accepts it \
                         first"
                    ),
                    None => format!(
                        "possibly dropped by {by}, which has conditions that doctor cannot evaluate"
                    ),
                };
                let remedy = format!(
                    "inspect these rules; if the packet is dropped: {}",
                    open.remedy(&chain)
                );
                unclear.get_or_insert_with(|| Finding::note(check, text).remedy(remedy));
            }
        }
    }
    Some(unclear.unwrap_or_else(|| {
        let installed = !firewalls.none();
        Finding::ok(
            check,
            if installed { "no rule drops it" } else { "neither iptables nor nft is installed" },
        )
    }))
}

/// Largest number of peers whose datagrams are simulated.
const MAX_PEERS: usize = 64;
