//! Which rules in flannel's chains are this daemon's. Several daemons on one host, stock flanneld among them,
//! share these chains; a rule belongs to the daemon whose network it names.

use crate::route::Cidr;

/// The rules that may be removed or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owned<'a> {
    /// Those about these networks.
    Networks(&'a [Cidr]),
    /// Every rule of flannel.
    All,
}

impl Owned<'_> {
    /// Whether a rule of flannel is among them. A rule that names no network, such as the one for kube-proxy's
    /// mark, serves every daemon and is nobody's.
    pub(super) fn owns(self, rule: &str) -> bool {
        match self {
            Self::All => true,
            Self::Networks(networks) => networks.iter().any(|network| is_about(rule, *network)),
        }
    }
}

/// Whether a rule is about this network. Beside its network a rule names at most a subnet, which lies in it; so
/// one that also names a larger network is about that one.
fn is_about(rule: &str, network: Cidr) -> bool {
    let mut named = prefixes(rule).filter(|named| named.covers(network)).peekable();
    named.peek().is_some() && named.all(|named| named == network)
}

/// Whether a rule names no network.
pub(super) fn is_shared(rule: &str) -> bool {
    prefixes(rule).next().is_none()
}

fn prefixes(rule: &str) -> impl Iterator<Item = Cidr> {
    rule.split_whitespace().filter_map(|word| word.trim_matches('"').parse().ok())
}

/// Whether all `wanted` lines exist in `now` in their order; others may stand before and between them.
pub(super) fn in_order(wanted: &[String], now: &[String]) -> bool {
    let mut now = now.iter();
    wanted.iter().all(|line| now.any(|other| other == line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_belongs_to_the_network_it_names() {
        let about = |rule: &str| {
            let networks = ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"];
            let parsed = |text: &&str| is_about(rule, text.parse().unwrap());
            networks.into_iter().filter(parsed).collect::<Vec<_>>().join(" ")
        };
        for (rule, owner) in [
            ("-s 10.1.7.0/24 -d 10.1.0.0/16 -j RETURN", "10.1.0.0/16"),
            ("! -s 10.1.0.0/16 -d 10.1.7.0/24 -j RETURN", "10.1.0.0/16"),
            ("-s 10.2.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE", "10.2.0.0/16"),
            ("-i docker0 --comment \"flannel-udp port 10.2.0.0/16\" -j DROP", "10.2.0.0/16"),
            ("ip saddr 10.1.0.0/16 accept comment \"flanneld forward\"", "10.1.0.0/16"),
            // The subnet of one daemon may be the network of another.
            ("-s 10.1.0.0/16 -d 10.0.0.0/8 -j RETURN", "10.0.0.0/8"),
            ("-s 10.3.0.0/16 -j ACCEPT", ""),
            ("-m mark --mark 0x4000/0x4000 -j RETURN", ""),
        ] {
            assert_eq!(about(rule), owner, "{rule}");
        }
        assert!(is_shared("-m mark --mark 0x4000/0x4000 -m comment --comment \"flanneld masq\""));
        assert!(!is_shared("-s 10.3.0.0/16 -j ACCEPT"));
    }

    #[test]
    fn order_is_that_of_the_wanted_lines_alone() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(in_order(&lines("a b c"), &lines("x a b y c x")));
        assert!(!in_order(&lines("a b c"), &lines("a c b")));
        assert!(!in_order(&lines("a b c"), &lines("a b")));
    }
}
