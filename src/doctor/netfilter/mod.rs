//! Simulates what this host's firewall would do to a packet, from all its rules, not only the
//! daemon's.
//!
//! The rules of each base chain are evaluated in order, as the kernel does. A match that this
//! module cannot evaluate may hold or not, so a verdict that depends on it is
//! [`FilterVerdict::Unclear`]. Only the filter hooks are simulated, not `raw`, `mangle` or eBPF.

mod iptables;
mod nft;

use std::net::Ipv4Addr;

use crate::host::firewall::{ToolError, Toolbox, run};

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
    /// Name of the interface that the packet arrived through.
    pub(super) input: String,
    /// Name of the interface that the packet leaves through, if it is forwarded.
    pub(super) output: Option<String>,
}

/// A filter hook of netfilter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// Packets for this host.
    Input,
    /// Packets that this host forwards.
    Forward,
}

/// What the firewall does to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FilterVerdict {
    /// No rule drops it.
    Accept,
    /// This rule or policy drops it if a match holds that cannot be evaluated here.
    Unclear(String),
    /// This rule or policy drops it.
    Drop(String),
}

/// Simulates a packet's way through every firewall of this host; `None` if no firewall tool is
/// installed.
///
/// # Errors
/// A tool fails, for example without `CAP_NET_ADMIN`.
pub(super) async fn verdict(
    tools: &Toolbox,
    packet: &TestPacket,
) -> Result<Option<FilterVerdict>, ToolError> {
    let mut rulesets = Vec::new();
    let mut iptables_in_nft = false;
    let mut seen = Vec::new();
    for name in ["iptables-save", "iptables-nft-save", "iptables-legacy-save"] {
        let Some(program) = tools.find(name) else { continue };
        let version = run(&program, &["-V"], "").await.unwrap_or_default();
        let is_nft = version.contains("nf_tables");
        if seen.contains(&is_nft) {
            continue;
        }
        seen.push(is_nft);
        iptables_in_nft |= is_nft;
        let saved = run(&program, &["-t", "filter"], "").await?;
        rulesets.extend(iptables::parse(&saved, packet));
    }
    if let Some(program) = tools.find("nft") {
        let listed = run(&program, &["-j", "list", "ruleset"], "").await?;
        rulesets.extend(nft::parse(&listed, packet, iptables_in_nft));
        seen.push(true);
    }
    Ok((!seen.is_empty()).then(|| worst(rulesets.iter().map(Ruleset::verdict))))
}

/// A packet traverses every base chain of a hook, and one of them is enough to drop it.
fn worst(verdicts: impl Iterator<Item = FilterVerdict>) -> FilterVerdict {
    verdicts
        .max_by_key(|verdict| match verdict {
            FilterVerdict::Accept => 0,
            FilterVerdict::Unclear(_) => 1,
            FilterVerdict::Drop(_) => 2,
        })
        .unwrap_or(FilterVerdict::Accept)
}

/// A base chain and the chains it may jump to, their matches already evaluated for the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ruleset {
    /// Name of the base chain.
    base: String,
    chains: Vec<RuleChain>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RuleChain {
    name: String,
    /// Description of the policy, if the policy is to drop.
    drop_policy: Option<String>,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    matches: Match,
    action: Action,
    /// Description of the rule, for the user.
    text: String,
}

/// Whether a rule's condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    Maybe,
}

impl Match {
    fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Maybe,
        }
    }

    fn negated(self, negate: bool) -> Self {
        match self {
            Self::Maybe => Self::Maybe,
            _ => Self::of((self == Self::Yes) != negate),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// The packet continues with the next rule, as after a counter, a log or a mark.
    Continue,
    /// An action that this module does not know, and that may accept or drop the packet.
    Unknown,
}

/// Verdicts that depend on matches or actions that could not be evaluated.
#[derive(Default)]
struct Uncertain {
    /// Some rule may have accepted the packet.
    accept: bool,
    /// The first rule that may have dropped the packet.
    drop: Option<String>,
}

enum WalkEnd {
    Accept,
    Drop(String),
}

impl Ruleset {
    fn verdict(&self) -> FilterVerdict {
        let mut uncertain = Uncertain::default();
        let end = self.walk(&self.base, true, &mut uncertain, 0).or_else(|| {
            let policy = self.chain(&self.base)?.drop_policy.clone()?;
            Some(WalkEnd::Drop(policy))
        });
        match (end, uncertain) {
            (Some(WalkEnd::Drop(by)), Uncertain { accept: false, .. }) => FilterVerdict::Drop(by),
            (Some(WalkEnd::Drop(by)), _) => FilterVerdict::Unclear(by),
            (_, Uncertain { drop: Some(by), .. }) => FilterVerdict::Unclear(by),
            _ => FilterVerdict::Accept,
        }
    }

    fn chain(&self, name: &str) -> Option<&RuleChain> {
        self.chains.iter().find(|chain| chain.name == name)
    }

    /// Evaluates a chain up to a verdict; `certain` says whether the packet certainly reaches the
    /// chain.
    fn walk(
        &self,
        name: &str,
        certain: bool,
        uncertain: &mut Uncertain,
        depth: u32,
    ) -> Option<WalkEnd> {
        if depth > MAX_DEPTH {
            return None;
        }
        for rule in &self.chain(name)?.rules {
            let certain = match rule.matches {
                Match::No => continue,
                Match::Yes => certain,
                Match::Maybe => false,
            };
            let end = match &rule.action {
                Action::Continue => continue,
                Action::Return if certain => return None,
                Action::Return => continue,
                Action::Accept => Some(WalkEnd::Accept),
                Action::Drop => Some(WalkEnd::Drop(rule.text.clone())),
                Action::Jump(to) => self.walk(to, certain, uncertain, depth + 1),
                Action::Goto(to) => match self.walk(to, certain, uncertain, depth + 1) {
                    None if certain => return None,
                    end => end,
                },
                Action::Unknown => {
                    uncertain.accept = true;
                    uncertain.drop.get_or_insert_with(|| rule.text.clone());
                    continue;
                }
            };
            match end {
                None => {}
                Some(end) if certain => return Some(end),
                Some(WalkEnd::Accept) => uncertain.accept = true,
                Some(WalkEnd::Drop(by)) => {
                    uncertain.drop.get_or_insert(by);
                }
            }
        }
        None
    }
}

/// Limit on nested jumps, the kernel's own (`NFT_JUMP_STACK_SIZE`).
const MAX_DEPTH: u32 = 16;

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
            input: "eth0".into(),
            output: None,
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
            input: "flannel0".into(),
            output: Some("docker0".into()),
        }
    }

    #[test]
    fn one_firewall_is_enough_to_drop() {
        let verdicts = [
            FilterVerdict::Accept,
            FilterVerdict::Drop("x".into()),
            FilterVerdict::Unclear("y".into()),
        ];
        assert_eq!(worst(verdicts.into_iter()), FilterVerdict::Drop("x".into()));
        assert_eq!(worst(std::iter::empty()), FilterVerdict::Accept);
    }
}
