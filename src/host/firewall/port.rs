//! The rules that keep workloads from sending to the UDP port of a host.
//!
//! Who can send a datagram to that port from an address of a host can deliver inner packets with any source.
//! A container can: its packets are masqueraded, or it has the right to forge sources (`CAP_NET_RAW`, Docker's
//! default). A packet of a workload comes in from the containers' side or from the overlay, or has a source in
//! the overlay. Hosts' own datagrams come in from the interface between hosts.
//!
//! The rules are in the `mangle` table, whose FORWARD and INPUT see the destination after DNAT and before any
//! ACCEPT of the filter table, wherever other programs put theirs. A nested overlay, from container to
//! container, passes: its packets leave through flannel0 or on the containers' side.
//!
//! Every UDP packet of the host passes those hooks, so each daemon has a jump of its own that only packets to its
//! port take: all others cost one rule.

use super::containers::is_plain;
use crate::route::Cidr;

/// What [`super::RuleSpec::port`] protects, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// The UDP port of every host in the overlay.
    pub port: u16,
    /// The interface between hosts.
    pub underlay: String,
    /// The TUN device.
    pub device: String,
    /// Interfaces on the containers' side; [`super::Firewall`] finds them.
    pub containers: Vec<String>,
}

impl PortSpec {
    /// Protects a port; the names of the interfaces are still unknown.
    pub fn new(port: u16) -> Self {
        Self { port, underlay: String::new(), device: String::new(), containers: vec![] }
    }

    /// The match of the jump to the rules, for iptables. What comes in from the interface between hosts is left
    /// alone by all of them, and so does not take it.
    pub(super) fn iptables_jump(&self) -> String {
        let elsewhere = self.plain_underlay().map(|name| format!("! -i {name} "));
        format!("{}-p udp -m udp --dport {}", elsewhere.unwrap_or_default(), self.port)
    }

    /// The same for nftables.
    pub(super) fn nft_jump(&self) -> String {
        let elsewhere = self.plain_underlay().map(|name| format!("iifname != \"{name}\" "));
        format!("{}udp dport {}", elsewhere.unwrap_or_default(), self.port)
    }

    /// The interface between hosts, if its name can stand in a rule.
    fn plain_underlay(&self) -> Option<&str> {
        Some(self.underlay.as_str()).filter(|name| is_plain(name))
    }
}

/// The match of a rule; the interfaces are names.
pub(super) enum PortMatch<'a> {
    Input(&'a str),
    Output(&'a str),
    /// A source in the network, and not in from this interface.
    Source(Cidr, &'a str),
}

/// Returns the rules in order: the match, and whether packets that fit are dropped (or else left alone).
pub(super) fn port_rules(network: Cidr, spec: &PortSpec) -> Vec<(PortMatch<'_>, bool)> {
    let inner: Vec<&str> = std::iter::once(&spec.device)
        .chain(&spec.containers)
        .map(String::as_str)
        .filter(|name| is_plain(name) && *name != spec.underlay)
        .collect();
    let mut rules: Vec<_> = inner.iter().map(|name| (PortMatch::Output(name), false)).collect();
    rules.extend(inner.iter().map(|name| (PortMatch::Input(name), true)));
    rules.extend(spec.plain_underlay().map(|name| (PortMatch::Source(network, name), true)));
    rules
}

/// The comment of these rules and of the jumps to them, which names the network that they belong to.
pub(super) fn comment(network: Cidr) -> String {
    format!("{COMMENT} {network}")
}

/// What the comment of each of these rules begins with.
pub(super) const COMMENT: &str = "flannel-udp port";

impl PortMatch<'_> {
    pub(super) fn iptables(&self) -> String {
        match self {
            Self::Input(name) => format!("-i {name}"),
            Self::Output(name) => format!("-o {name}"),
            Self::Source(network, name) => format!("-s {network} ! -i {name}"),
        }
    }

    pub(super) fn nft(&self) -> String {
        match self {
            Self::Input(name) => format!("iifname \"{name}\""),
            Self::Output(name) => format!("oifname \"{name}\""),
            Self::Source(network, name) => format!("ip saddr {network} iifname != \"{name}\""),
        }
    }
}
