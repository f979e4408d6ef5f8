//! Simulates what this host's firewall would do to a packet, from all its rules, not only the
//! daemon's.
//!
//! The rules of each base chain are evaluated in order, as the kernel does. A condition is decided for the
//! packet in question: the first of its flow, which no rule has translated. What this module cannot
//! evaluate may hold or not, so a verdict that depends on it is [`FilterVerdict::Unclear`]. Only the filter
//! hooks input, forward and output are simulated (of iptables the table filter), not eBPF.

mod iptables;
mod nft;
mod walk;

use std::net::Ipv4Addr;

use serde_json::Value;

use self::walk::{Action, Match, Rule, RuleChain, Ruleset};
use crate::host::firewall::{ToolError, Toolbox, legacy, run};

/// A packet to simulate, the first one of its flow (conntrack state `new`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TestPacket {
    /// The hook at which the packet is filtered.
    pub(super) hook: Hook,
    /// `udp`, `tcp`, `icmp`.
    pub(super) protocol: &'static str,
    /// Source address.
    pub(super) source: Ipv4Addr,
    /// Destination address.
    pub(super) destination: Ipv4Addr,
    /// Source port, if all such packets have the same.
    pub(super) source_port: Option<u16>,
    /// Destination port, if all such packets have the same.
    pub(super) destination_port: Option<u16>,
    /// Name of the interface that the packet arrived through, unless this host sends it.
    pub(super) input: Option<String>,
    /// Name of the interface that the packet leaves through, unless it is for this host.
    pub(super) output: Option<String>,
}

/// A filter hook of netfilter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// Packets for this host.
    Input,
    /// Packets that this host forwards.
    Forward,
    /// Packets of this host itself.
    Output,
}

impl Hook {
    /// The name of the hook in nftables.
    fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
        }
    }

    /// Type of the packet's address in the local routing table, as `fib` and `addrtype` name it.
    fn address_type(self, destination: bool) -> &'static str {
        let local = match self {
            Self::Input => destination,
            Self::Forward => false,
            Self::Output => !destination,
        };
        if local { "local" } else { "unicast" }
    }
}

/// What the firewall does to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FilterVerdict {
    /// No rule drops it.
    Accept,
    /// It is dropped, depending on a condition that cannot be evaluated here.
    Unclear {
        /// What drops it.
        drop: Blocker,
        /// The rule that accepts it before, if its condition holds; `None` if the condition is that of the
        /// rule that drops it.
        unless: Option<String>,
    },
    /// It is dropped.
    Drop(Blocker),
}

/// A rule or policy that drops a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blocker {
    /// The rule or policy, for the user.
    pub(super) by: String,
    /// The base chain in which a rule that accepts the packet must come first.
    pub(super) chain: BaseChain,
}

/// A chain that the kernel itself calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BaseChain {
    /// Of the filter table of iptables.
    Iptables {
        /// The program that changes it.
        program: &'static str,
        /// `INPUT`, `FORWARD` or `OUTPUT`.
        chain: &'static str,
    },
    /// Of nftables.
    Nft {
        /// Address family and name of the table, such as `inet filter`.
        table: String,
        /// Name of the chain.
        chain: String,
    },
}

/// All firewall rules of this host.
#[derive(Debug, Default)]
pub(super) struct Firewalls {
    /// Output of `iptables-save`, with the program that changes these rules.
    saved: Vec<(&'static str, String)>,
    /// Output of `nft -j list ruleset`.
    listed: Option<Value>,
    /// Whether `saved` has the rules of iptables-nft, which `listed` has too.
    iptables_in_nft: bool,
}

impl Firewalls {
    /// Reads the rules; without any tool there are none.
    ///
    /// # Errors
    /// A tool fails, for example without `CAP_NET_ADMIN`.
    pub(super) async fn read(tools: &Toolbox) -> Result<Self, ToolError> {
        let mut firewalls = Self::default();
        let mut seen = Vec::new();
        for (name, save) in [
            ("iptables", "iptables-save"),
            ("iptables-nft", "iptables-nft-save"),
            ("iptables-legacy", "iptables-legacy-save"),
        ] {
            let Some(program) = tools.find(save) else { continue };
            let version = run(&program, &["-V"], "").await.unwrap_or_default();
            let is_nft = version.contains("nf_tables");
            if seen.contains(&is_nft) {
                continue;
            }
            seen.push(is_nft);
            firewalls.iptables_in_nft |= is_nft;
            if !is_nft && !legacy::has_table("filter") {
                continue;
            }
            firewalls.saved.push((name, run(&program, &["-t", "filter"], "").await?));
        }
        if let Some(program) = tools.find("nft") {
            let listed = run(&program, &["-j", "list", "ruleset"], "").await?;
            firewalls.listed = serde_json::from_str(&listed).ok();
        }
        Ok(firewalls)
    }

    /// Whether no firewall tool is installed.
    pub(super) fn none(&self) -> bool {
        self.saved.is_empty() && self.listed.is_none()
    }

    /// Simulates a packet's way through every firewall.
    pub(super) fn verdict(&self, packet: &TestPacket) -> FilterVerdict {
        let iptables =
            self.saved.iter().filter_map(|(name, saved)| iptables::parse(saved, name, packet));
        let listed = self.listed.as_ref();
        let nft = listed.map(|listed| nft::parse(listed, packet, self.iptables_in_nft));
        worst(iptables.chain(nft.into_iter().flatten()).map(|rules| rules.verdict()))
    }
}

/// A packet traverses every base chain of a hook, and one of them is enough to drop it.
fn worst(verdicts: impl Iterator<Item = FilterVerdict>) -> FilterVerdict {
    verdicts
        .max_by_key(|verdict| match verdict {
            FilterVerdict::Accept => 0,
            FilterVerdict::Unclear { .. } => 1,
            FilterVerdict::Drop(_) => 2,
        })
        .unwrap_or(FilterVerdict::Accept)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn datagram() -> TestPacket {
        TestPacket {
            hook: Hook::Input,
            protocol: "udp",
            source: Ipv4Addr::new(192, 168, 0, 2),
            destination: Ipv4Addr::new(192, 168, 0, 1),
            source_port: Some(8285),
            destination_port: Some(8285),
            input: Some("eth0".into()),
            output: None,
        }
    }

    pub(super) fn sent() -> TestPacket {
        let TestPacket { source, destination, .. } = datagram();
        TestPacket {
            hook: Hook::Output,
            source: destination,
            destination: source,
            input: None,
            output: Some("eth0".into()),
            ..datagram()
        }
    }

    pub(super) fn forwarded() -> TestPacket {
        TestPacket {
            hook: Hook::Forward,
            protocol: "tcp",
            source: Ipv4Addr::new(10, 0, 2, 2),
            destination: Ipv4Addr::new(10, 0, 1, 2),
            source_port: None,
            destination_port: None,
            input: Some("flannel0".into()),
            output: Some("docker0".into()),
        }
    }

    #[test]
    fn one_firewall_is_enough_to_drop() {
        let chain = BaseChain::Iptables { program: "iptables", chain: "INPUT" };
        let drop = |by: &str| Blocker { by: by.into(), chain: chain.clone() };
        let verdicts = [
            FilterVerdict::Accept,
            FilterVerdict::Drop(drop("x")),
            FilterVerdict::Unclear { drop: drop("y"), unless: None },
        ];
        assert_eq!(worst(verdicts.into_iter()), FilterVerdict::Drop(drop("x")));
        assert_eq!(worst(std::iter::empty()), FilterVerdict::Accept);
    }
}
