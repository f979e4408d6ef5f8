//! The walk of a packet through the rules of a base chain and the chains that it jumps to.

use super::{BaseChain, Blocker, FilterVerdict};

/// A base chain and the chains it may jump to, their matches already evaluated for the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ruleset {
    /// The base chain.
    pub(super) base: BaseChain,
    /// Every chain of the table.
    pub(super) chains: Vec<RuleChain>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleChain {
    pub(super) name: String,
    /// Description of the policy, if the policy is to drop.
    pub(super) drop_policy: Option<String>,
    pub(super) rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) matches: Match,
    pub(super) action: Action,
    /// Description of the rule, for the user.
    pub(super) text: String,
}

/// Whether a rule's condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    Maybe,
}

impl Match {
    pub(super) fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Maybe,
        }
    }

    pub(super) fn or(self, other: Self) -> Self {
        self.negated(true).and(other.negated(true)).negated(true)
    }

    pub(super) fn negated(self, negate: bool) -> Self {
        match self {
            Self::Maybe => Self::Maybe,
            _ => Self::of((self == Self::Yes) != negate),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
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
    /// The first rule that may have accepted the packet.
    accept: Option<String>,
    /// The first rule that may have dropped the packet.
    drop: Option<String>,
}

enum WalkEnd {
    Accept,
    Drop(String),
}

impl Ruleset {
    pub(super) fn verdict(&self) -> FilterVerdict {
        let base = match &self.base {
            BaseChain::Iptables { chain, .. } => chain,
            BaseChain::Nft { chain, .. } => chain.as_str(),
        };
        let mut uncertain = Uncertain::default();
        let end = self.walk(base, &mut uncertain, 0).or_else(|| {
            let policy = self.chain(base)?.drop_policy.clone()?;
            Some(WalkEnd::Drop(policy))
        });
        let drop = |by| Blocker { by, chain: self.base.clone() };
        match (end, uncertain) {
            (Some(WalkEnd::Drop(by)), Uncertain { accept: None, .. }) => {
                FilterVerdict::Drop(drop(by))
            }
            (Some(WalkEnd::Drop(by)), Uncertain { accept, .. }) => {
                FilterVerdict::Unclear { drop: drop(by), unless: accept }
            }
            (_, Uncertain { drop: Some(by), .. }) => {
                FilterVerdict::Unclear { drop: drop(by), unless: None }
            }
            _ => FilterVerdict::Accept,
        }
    }

    fn chain(&self, name: &str) -> Option<&RuleChain> {
        self.chains.iter().find(|chain| chain.name == name)
    }

    /// Walks through a chain that the packet reaches, up to a verdict.
    fn walk(&self, name: &str, uncertain: &mut Uncertain, depth: u32) -> Option<WalkEnd> {
        if depth > MAX_DEPTH {
            return None;
        }
        // Whether a rule may have ended this chain before.
        let mut left = false;
        for rule in &self.chain(name)?.rules {
            if rule.matches == Match::No {
                continue;
            }
            let certain = rule.matches == Match::Yes && !left;
            let end = match &rule.action {
                Action::Continue => continue,
                Action::Return if certain => return None,
                Action::Return => {
                    left = true;
                    continue;
                }
                Action::Accept => Some(WalkEnd::Accept),
                Action::Drop => Some(WalkEnd::Drop(rule.text.clone())),
                Action::Jump(to) => self.walk(to, uncertain, depth + 1),
                Action::Goto(to) => match self.walk(to, uncertain, depth + 1) {
                    None if certain => return None,
                    None => {
                        left = true;
                        continue;
                    }
                    end => end,
                },
                Action::Unknown => {
                    uncertain.accept.get_or_insert_with(|| rule.text.clone());
                    uncertain.drop.get_or_insert_with(|| rule.text.clone());
                    continue;
                }
            };
            match end {
                None => {}
                Some(end) if certain => return Some(end),
                Some(WalkEnd::Accept) => {
                    uncertain.accept.get_or_insert_with(|| rule.text.clone());
                }
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
