//! The rules: the exact text that flannel installs with iptables, and its equivalent for nftables.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::notrack;
use super::port::{self, PortSpec, port_rules};
use crate::route::Cidr;

/// The wanted rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSpec {
    /// The overlay network.
    pub network: Cidr,
    /// This host's subnet.
    pub subnet: Cidr,
    /// Masquerade traffic that leaves the overlay (`--ip-masq`).
    pub masquerade: bool,
    /// Accept forwarded overlay traffic (`--iptables-forward-rules`).
    pub forward: bool,
    /// Keep workloads from sending to the UDP port of a host (`--protect-port`).
    pub port: Option<PortSpec>,
    /// Keep the datagrams of this socket out of connection tracking (`--notrack`).
    pub notrack: Option<SocketAddrV4>,
    /// Use random source ports where tool and kernel support them (off with
    /// `--ip-masq-fully-random-disable`).
    pub fully_random: bool,
    /// Use nftables even if iptables is installed (`EnableNFTables` in the network config).
    pub nftables: bool,
}

/// A chain of the daemon, and the built-in chains that jump to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlannelChain {
    pub(super) table: &'static str,
    pub(super) hooks: &'static [&'static str],
    pub(super) name: &'static str,
    /// What the comment of every rule begins with.
    pub(super) comment: &'static str,
    /// What the rules do, for a message when they are missing.
    pub(super) purpose: &'static str,
}

/// The chain for masquerading.
pub(super) const MASQ: FlannelChain = FlannelChain {
    table: "nat",
    hooks: &["POSTROUTING"],
    name: "FLANNEL-POSTRTG",
    comment: "flanneld masq",
    purpose: "masquerade packets that leave the overlay",
};

/// The chain that accepts forwarded packets.
pub(super) const FORWARD: FlannelChain = FlannelChain {
    table: "filter",
    hooks: &["FORWARD"],
    name: "FLANNEL-FWD",
    comment: "flanneld forward",
    purpose: "accept forwarded packets of the overlay",
};

/// The chain that keeps workloads from the UDP port.
pub(super) const PORT: FlannelChain = FlannelChain {
    table: "mangle",
    hooks: &["FORWARD", "INPUT"],
    name: "FLANNEL-PORT",
    comment: port::COMMENT,
    purpose: "keep containers from sending to the UDP port of a host",
};

/// The chain that keeps the daemon's datagrams out of connection tracking.
pub(super) const NOTRACK: FlannelChain = FlannelChain {
    table: "raw",
    hooks: &["PREROUTING", "OUTPUT"],
    name: "FLANNEL-NOTRACK",
    comment: notrack::COMMENT,
    purpose: "keep the UDP port out of connection tracking",
};

/// All chains of the daemon.
pub(super) const CHAINS: [FlannelChain; 4] = [MASQ, FORWARD, PORT, NOTRACK];

impl FlannelChain {
    /// Whether each daemon has jumps of its own to this chain, whose comment names its network. Otherwise they
    /// share one jump per hook.
    pub(super) fn has_own_jumps(&self) -> bool {
        [PORT, NOTRACK].contains(self)
    }

    /// Returns the jumps to this chain that all daemons share, without `-A`.
    pub(super) fn shared_jumps(&self) -> Vec<String> {
        let hooks = self.hooks.iter().filter(|_| !self.has_own_jumps());
        hooks.map(|hook| self.jump(hook, "", self.comment)).collect()
    }

    /// Returns the wanted jumps to this chain, without `-A`.
    pub(super) fn jumps(&self, spec: &RuleSpec) -> Vec<String> {
        let (matches, comment) = match (*self, &spec.port, spec.notrack) {
            (PORT, Some(port), _) => {
                ([port.iptables_jump(), port.iptables_jump()], port::comment(spec.network))
            }
            (NOTRACK, _, Some(socket)) => {
                (notrack::iptables(socket), notrack::comment(spec.network))
            }
            _ => return self.shared_jumps(),
        };
        let hooks = self.hooks.iter().zip(matches);
        hooks.map(|(hook, matches)| self.jump(hook, &(matches + " "), &comment)).collect()
    }

    fn jump(&self, hook: &str, matches: &str, comment: &str) -> String {
        format!("{hook} {matches}-m comment --comment \"{comment}\" -j {}", self.name)
    }

    /// Whether a rule was installed by flannel or by this program.
    pub(super) fn has_comment(&self, rule: &str) -> bool {
        rule.contains(&format!("--comment \"{}", self.comment))
    }

    /// Returns the rules of this chain in order, without `-A`; empty if the chain is not wanted.
    pub(super) fn rules(&self, spec: &RuleSpec, fully_random: bool) -> Vec<String> {
        let network = spec.network;
        let mut comment = self.comment.to_owned();
        let bodies: Vec<(String, &str)> = match *self {
            MASQ if spec.masquerade => {
                let masquerade =
                    if fully_random { "MASQUERADE --random-fully" } else { "MASQUERADE" };
                let rules = masquerade_rules(spec).into_iter();
                rules
                    .map(|(matches, target)| match target {
                        MasqueradeTarget::Return => (matches.iptables(), "RETURN"),
                        MasqueradeTarget::Masquerade => (matches.iptables(), masquerade),
                    })
                    .collect()
            }
            FORWARD if spec.forward => {
                vec![(format!("-s {network}"), "ACCEPT"), (format!("-d {network}"), "ACCEPT")]
            }
            PORT => spec.port.as_ref().map_or(vec![], |spec| {
                comment = port::comment(network);
                let rules = port_rules(network, spec).into_iter();
                rules
                    .map(|(matches, drops)| {
                        let text =
                            format!("{} -p udp -m udp --dport {}", matches.iptables(), spec.port);
                        (text, if drops { "DROP" } else { "RETURN" })
                    })
                    .collect()
            }),
            NOTRACK => spec.notrack.map_or(vec![], |socket| {
                comment = notrack::comment(network);
                notrack::iptables(socket).map(|matches| (matches, "CT --notrack")).into()
            }),
            _ => vec![],
        };
        bodies
            .into_iter()
            .map(|(matches, target)| {
                format!("{} {matches} -m comment --comment \"{comment}\" -j {target}", self.name)
            })
            .collect()
    }
}

/// The match of a masquerading rule; with `false`, the address must be outside the prefix.
pub(super) struct MasqueradeMatch {
    /// The packet has kube-proxy's mark; kube-proxy masquerades it itself.
    marked: bool,
    source: Option<(bool, Cidr)>,
    destination: Option<(bool, Cidr)>,
}

/// The target of a masquerading rule.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MasqueradeTarget {
    Return,
    Masquerade,
}

/// Returns the rules for masquerading, in order.
pub(super) fn masquerade_rules(spec: &RuleSpec) -> [(MasqueradeMatch, MasqueradeTarget); 6] {
    let RuleSpec { network, subnet, .. } = *spec;
    let multicast = Cidr::new(Ipv4Addr::new(224, 0, 0, 0), 4);
    let between = |source, destination| MasqueradeMatch {
        marked: false,
        source: Some(source),
        destination: Some(destination),
    };
    [
        (
            MasqueradeMatch { marked: true, source: None, destination: None },
            MasqueradeTarget::Return,
        ),
        // Within the overlay network sources stay unchanged.
        (between((true, subnet), (true, network)), MasqueradeTarget::Return),
        (between((true, network), (true, subnet)), MasqueradeTarget::Return),
        // From outside to a container of this host: the container sees the client's address.
        (between((false, network), (true, subnet)), MasqueradeTarget::Return),
        // To the outside: the source becomes this host's address.
        (between((true, network), (false, multicast)), MasqueradeTarget::Masquerade),
        // From or through this host into the overlay: the source becomes flannel0's address.
        (between((false, network), (true, network)), MasqueradeTarget::Masquerade),
    ]
}

impl MasqueradeMatch {
    fn fit(&self, source: Ipv4Addr, destination: Ipv4Addr) -> bool {
        let fits = |side: Option<(bool, Cidr)>, address| {
            side.is_none_or(|(inside, prefix)| prefix.contains(address) == inside)
        };
        !self.marked && fits(self.source, source) && fits(self.destination, destination)
    }

    fn iptables(&self) -> String {
        let mut words = Vec::new();
        if self.marked {
            words.push("-m mark --mark 0x4000/0x4000".to_owned());
        }
        for (flag, side) in [("-s", self.source), ("-d", self.destination)] {
            let Some((inside, prefix)) = side else { continue };
            words.push(format!("{}{flag} {prefix}", if inside { "" } else { "! " }));
        }
        words.join(" ")
    }

    pub(super) fn nft(&self) -> String {
        let mut words = Vec::new();
        if self.marked {
            words.push("meta mark & 0x4000 == 0x4000".to_owned());
        }
        for (field, side) in [("saddr", self.source), ("daddr", self.destination)] {
            let Some((inside, prefix)) = side else { continue };
            words.push(format!("ip {field} {}{prefix}", if inside { "" } else { "!= " }));
        }
        words.join(" ")
    }
}

/// Returns the masquerading rule that matches a packet without kube-proxy's mark, in iptables'
/// syntax, and whether it rewrites the source; `None` if no rule matches or masquerading is not
/// wanted.
pub fn masquerade_rule(
    spec: &RuleSpec,
    source: Ipv4Addr,
    destination: Ipv4Addr,
) -> Option<(String, bool)> {
    let mut rules = masquerade_rules(spec).into_iter().filter(|_| spec.masquerade);
    rules.find_map(|(matches, target)| {
        let masquerades = target == MasqueradeTarget::Masquerade;
        let name = if masquerades { "MASQUERADE" } else { "RETURN" };
        matches
            .fit(source, destination)
            .then(|| (format!("{} -j {name}", matches.iptables()), masquerades))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> RuleSpec {
        RuleSpec {
            network: "10.0.0.0/16".parse().unwrap(),
            subnet: "10.0.7.0/24".parse().unwrap(),
            masquerade: true,
            forward: true,
            port: Some(PortSpec {
                port: 8285,
                underlay: "eth0".into(),
                device: "flannel0".into(),
                containers: vec!["docker0".into()],
            }),
            notrack: Some("192.168.0.1:8285".parse().unwrap()),
            fully_random: true,
            nftables: false,
        }
    }

    #[test]
    fn the_port_is_kept_out_of_connection_tracking() {
        let rule = |matches: &str| {
            format!(
                "FLANNEL-NOTRACK {matches} 8285 -m comment --comment \"flannel-udp notrack \
                 10.0.0.0/16\" -j CT --notrack"
            )
        };
        assert_eq!(
            NOTRACK.rules(&spec(), true),
            [
                rule("-d 192.168.0.1/32 -p udp -m udp --dport"),
                rule("-s 192.168.0.1/32 -p udp -m udp --sport"),
            ]
        );
    }

    #[test]
    fn the_text_is_that_of_flannel() {
        assert_eq!(
            MASQ.jumps(&spec()),
            [r#"POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG"#]
        );
        assert_eq!(
            FORWARD.jumps(&spec()),
            [r#"FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD"#]
        );
        assert_eq!(
            MASQ.rules(&spec(), true),
            [
                r#"FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN"#,
                r#"FLANNEL-POSTRTG -s 10.0.7.0/24 -d 10.0.0.0/16 -m comment --comment "flanneld masq" -j RETURN"#,
                r#"FLANNEL-POSTRTG -s 10.0.0.0/16 -d 10.0.7.0/24 -m comment --comment "flanneld masq" -j RETURN"#,
                r#"FLANNEL-POSTRTG ! -s 10.0.0.0/16 -d 10.0.7.0/24 -m comment --comment "flanneld masq" -j RETURN"#,
                r#"FLANNEL-POSTRTG -s 10.0.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully"#,
                r#"FLANNEL-POSTRTG ! -s 10.0.0.0/16 -d 10.0.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully"#,
            ]
        );
        assert!(!MASQ.rules(&spec(), false).iter().any(|rule| rule.contains("random")));
        assert_eq!(
            FORWARD.rules(&spec(), true),
            [
                r#"FLANNEL-FWD -s 10.0.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT"#,
                r#"FLANNEL-FWD -d 10.0.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT"#,
            ]
        );
    }

    #[test]
    fn workloads_are_kept_from_the_port() {
        let rule = |matches: &str, target: &str| {
            format!(
                "FLANNEL-PORT {matches} -p udp -m udp --dport 8285 \
                 -m comment --comment \"flannel-udp port 10.0.0.0/16\" -j {target}"
            )
        };
        assert_eq!(
            PORT.rules(&spec(), true),
            [
                rule("-o flannel0", "RETURN"),
                rule("-o docker0", "RETURN"),
                rule("-i flannel0", "DROP"),
                rule("-i docker0", "DROP"),
                rule("-s 10.0.0.0/16 ! -i eth0", "DROP"),
            ]
        );
        // Only packets to the port take the jump, and none from the interface between hosts.
        let jump = |matches: &str| {
            ["FORWARD", "INPUT"]
                .map(|hook| rule(matches, "FLANNEL-PORT").replacen(PORT.name, hook, 1))
        };
        assert_eq!(PORT.jumps(&spec()), jump("! -i eth0"));
        assert!(PORT.shared_jumps().is_empty());
        // What comes in from the interface between hosts is never a workload's, whatever its routes.
        let mut flat = spec();
        flat.port.as_mut().unwrap().containers = vec!["eth0".into(), "odd+".into()];
        assert_eq!(PORT.rules(&flat, true).len(), 3);
        flat.port.as_mut().unwrap().underlay = "odd+".into();
        assert!(PORT.jumps(&flat)[1].starts_with("INPUT -p udp -m udp --dport 8285 "));
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rule = |source: &str, destination: &str| {
            masquerade_rule(&spec(), source.parse().unwrap(), destination.parse().unwrap())
        };
        let kept = |text: &str| Some((format!("{text} -j RETURN"), false));
        let masked = |text: &str| Some((format!("{text} -j MASQUERADE"), true));
        assert_eq!(rule("10.0.7.2", "10.0.8.2"), kept("-s 10.0.7.0/24 -d 10.0.0.0/16"));
        assert_eq!(rule("10.0.8.2", "10.0.7.2"), kept("-s 10.0.0.0/16 -d 10.0.7.0/24"));
        assert_eq!(rule("9.9.9.9", "10.0.7.2"), kept("! -s 10.0.0.0/16 -d 10.0.7.0/24"));
        assert_eq!(rule("10.0.7.2", "9.9.9.9"), masked("-s 10.0.0.0/16 ! -d 224.0.0.0/4"));
        assert_eq!(rule("9.9.9.9", "10.0.8.2"), masked("! -s 10.0.0.0/16 -d 10.0.0.0/16"));
        assert_eq!(rule("10.0.7.2", "224.0.0.9"), None);
        assert_eq!(rule("9.9.9.9", "8.8.8.8"), None);
        let off = RuleSpec { masquerade: false, ..spec() };
        assert_eq!(masquerade_rule(&off, [10, 0, 7, 2].into(), [9, 9, 9, 9].into()), None);
    }

    #[test]
    fn rules_that_are_not_wanted_are_not_installed() {
        let nothing =
            RuleSpec { masquerade: false, forward: false, port: None, notrack: None, ..spec() };
        assert!(CHAINS.iter().all(|chain| chain.rules(&nothing, true).is_empty()));
    }
}
