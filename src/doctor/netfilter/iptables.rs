//! Reads the output of `iptables-save` and evaluates its rules for one packet.

use std::net::Ipv4Addr;

use super::{Action, BaseChain, Hook, Match, Rule, RuleChain, Ruleset, TestPacket};
use crate::route::Cidr;

/// Returns the packet's built-in chain of the filter table; `None` if there is no such table. `program` is
/// the one that changes these rules.
pub(super) fn parse(saved: &str, program: &'static str, packet: &TestPacket) -> Option<Ruleset> {
    let base = match packet.hook {
        Hook::Input => "INPUT",
        Hook::Forward => "FORWARD",
        Hook::Output => "OUTPUT",
    };
    let mut chains: Vec<RuleChain> = Vec::new();
    for line in saved.lines() {
        if let Some(declared) = line.strip_prefix(':') {
            let mut words = declared.split_whitespace();
            let name = words.next().unwrap_or_default().to_owned();
            let drops = words.next() == Some("DROP");
            let drop_policy =
                drops.then(|| format!("the policy of {program}'s {name} chain (DROP)"));
            chains.push(RuleChain { name, drop_policy, rules: Vec::new() });
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (name, rule) = rule.split_once(' ').unwrap_or((rule, ""));
            if let Some(chain) = chains.iter_mut().find(|chain| chain.name == name) {
                chain.rules.push(evaluate(program, line, rule, packet));
            }
        }
    }
    let base = BaseChain::Iptables { program, chain: base };
    let BaseChain::Iptables { chain: name, .. } = &base else { return None };
    chains.iter().any(|chain| chain.name == *name).then(|| Ruleset { base: base.clone(), chains })
}

fn evaluate(program: &str, line: &str, rule: &str, packet: &TestPacket) -> Rule {
    let words = words(rule);
    let mut words = words.iter().map(String::as_str).peekable();
    let mut matches = Match::Yes;
    let mut action = Action::Continue;
    let mut negate = false;
    while let Some(word) = words.next() {
        if word == "!" {
            negate = true;
            continue;
        }
        if word == "-j" || word == "-g" {
            action = target(word, words.next().unwrap_or_default());
            // The remaining words are options of the target.
            break;
        }
        let mut values = Vec::new();
        while let Some(value) = words.next_if(|next| *next != "!" && !next.starts_with('-')) {
            values.push(value);
        }
        matches = matches.and(option(word, &values, packet).negated(negate));
        negate = false;
    }
    Rule { matches, action, text: format!("{program}'s rule {line}") }
}

/// Decides one option of a rule for the packet.
fn option(name: &str, values: &[&str], packet: &TestPacket) -> Match {
    let value = values.first().copied().unwrap_or_default();
    let is_tcp = Match::of(packet.protocol == "tcp");
    match name {
        // Naming a match module decides nothing; its options follow.
        "-m" | "--comment" => Match::Yes,
        "-p" => Match::of(value == packet.protocol || value == "all"),
        "-s" => within(value, packet.source),
        "-d" => within(value, packet.destination),
        "--src-range" => between(value, packet.source),
        "--dst-range" => between(value, packet.destination),
        "-i" => same_interface(value, packet.input.as_deref()),
        "-o" => same_interface(value, packet.output.as_deref()),
        "--dport" | "--dports" => ports(value, packet.destination_port),
        "--sport" | "--sports" => ports(value, packet.source_port),
        "--ports" => ports(value, packet.source_port).or(ports(value, packet.destination_port)),
        "--ctstate" | "--state" => one_of(value, "NEW"),
        "--ctstatus" => one_of(value, "NONE"),
        "--ctdir" => one_of(value, "ORIGINAL"),
        "--dst-type" => one_of(value, packet.hook.address_type(true)),
        "--src-type" => one_of(value, packet.hook.address_type(false)),
        "--pkt-type" if packet.hook != Hook::Output => one_of(value, "unicast"),
        // It is whole, and routed.
        "-f" | "--physdev-is-bridged" => Match::No,
        "--syn" => is_tcp,
        "--tcp-flags" => is_tcp.and(match values {
            // The first packet has SYN alone.
            [mask, set] => {
                let masked = mask.split(',').any(|flag| flag == "SYN" || flag == "ALL");
                Match::of(if masked { *set == "SYN" } else { *set == "NONE" })
            }
            _ => Match::Maybe,
        }),
        "--icmp-type" if packet.protocol != "icmp" => Match::No,
        _ => Match::Maybe,
    }
}

fn one_of(list: &str, wanted: &str) -> Match {
    Match::of(list.split(',').any(|one| one.eq_ignore_ascii_case(wanted)))
}

fn within(value: &str, address: Ipv4Addr) -> Match {
    match value.parse::<Cidr>() {
        Ok(cidr) => Match::of(cidr.contains(address)),
        Err(_) => value.parse().map_or(Match::Maybe, |only: Ipv4Addr| Match::of(address == only)),
    }
}

fn between(range: &str, address: Ipv4Addr) -> Match {
    let ends = range.split_once('-').and_then(|(low, high)| {
        Some((low.parse::<Ipv4Addr>().ok()?, high.parse::<Ipv4Addr>().ok()?))
    });
    ends.map_or(Match::Maybe, |(low, high)| Match::of((low..=high).contains(&address)))
}

/// Matches a port against a list such as `80`, `1:5` or `22,80,8000:9000`.
fn ports(list: &str, port: Option<u16>) -> Match {
    let Some(port) = port else { return Match::Maybe };
    Match::of(list.split(',').any(|part| {
        let (low, high) = part.split_once(':').unwrap_or((part, part));
        match (low.parse::<u16>(), high.parse::<u16>()) {
            (Ok(low), Ok(high)) => (low..=high).contains(&port),
            _ => false,
        }
    }))
}

/// Matches an interface name; `eth+` stands for every name that begins with `eth`.
fn same_interface(pattern: &str, name: Option<&str>) -> Match {
    Match::of(name.is_some_and(|name| match pattern.strip_suffix('+') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }))
}

fn target(how: &str, name: &str) -> Action {
    match name {
        "ACCEPT" => Action::Accept,
        "DROP" | "REJECT" => Action::Drop,
        "RETURN" => Action::Return,
        "LOG" | "NFLOG" | "MARK" | "CONNMARK" | "TCPMSS" | "ULOG" | "SET" | "" => Action::Continue,
        "QUEUE" | "NFQUEUE" | "TPROXY" => Action::Unknown,
        chain if how == "-g" => Action::Goto(chain.to_owned()),
        chain => Action::Jump(chain.to_owned()),
    }
}

/// Splits a rule at spaces outside of double quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => word.extend(chars.next()),
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            // A quoted text that begins with a dash must not be taken for an option.
            '-' | '!' if quoted && word.is_empty() => word.push('_'),
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::super::tests::{datagram, forwarded, sent};
    use super::super::{FilterVerdict, TestPacket};
    use super::*;

    fn verdict(rules: &str, packet: &TestPacket) -> FilterVerdict {
        let text = format!("*filter\n{rules}\nCOMMIT\n");
        parse(&text, "iptables", packet).expect("a table").verdict()
    }

    const OPEN: &str =
        ":INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:X - [0:0]\n";
    const SHUT: &str = ":INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT DROP [0:0]\n:X - [0:0]\n";

    #[test]
    fn dropped_packets() {
        let packet = datagram();
        for rule in [
            "-A INPUT -p udp -m udp --dport 8285 -j DROP",
            "-A INPUT -p udp -m multiport --dports 53,8000:9000 -j REJECT --reject-with x",
            "-A INPUT ! -s 10.0.0.0/8 -i eth+ -j X\n-A X -m comment --comment \"-j ACCEPT\" -j DROP",
            "-A INPUT -m state --state NEW -g X\n-A X -j RETURN\n-A X -j ACCEPT\n-A INPUT -j X",
        ] {
            let verdict = verdict(&format!("{OPEN}{rule}"), &packet);
            let dropped = matches!(verdict, FilterVerdict::Drop(_));
            assert_eq!(dropped, !rule.contains("RETURN"), "{rule}: {verdict:?}");
        }
        assert!(
            matches!(verdict(SHUT, &packet), FilterVerdict::Drop(d) if d.by.contains("policy"))
        );
    }

    #[test]
    fn accepted_packets() {
        let packet = datagram();
        for rules in [
            "-A INPUT -p udp --dport 8285 -j ACCEPT",
            "-A INPUT -p tcp -j DROP\n-A INPUT -s 192.168.0.0/24 -j ACCEPT",
            "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j DROP\n-A INPUT -j ACCEPT",
        ] {
            assert_eq!(
                verdict(&format!("{SHUT}{rules}"), &packet),
                FilterVerdict::Accept,
                "{rules}"
            );
        }
        let ours = "-A FORWARD -m comment --comment \"flanneld forward\" -j X\n\
                    -A X -s 10.0.0.0/16 -m comment --comment \"flanneld forward\" -j ACCEPT";
        assert_eq!(verdict(&format!("{SHUT}{ours}"), &forwarded()), FilterVerdict::Accept);
        assert_eq!(parse("", "iptables", &packet), None);
    }

    #[test]
    fn matches_that_cannot_be_evaluated_are_unclear() {
        let packet = datagram();
        for rules in [
            "-A INPUT -m recent --rcheck --seconds 60 -j DROP",
            "-A INPUT -m mac --mac-source 00:11:22:33:44:55 -j ACCEPT\n-A INPUT -j DROP",
        ] {
            assert!(
                matches!(
                    verdict(&format!("{OPEN}{rules}"), &packet),
                    FilterVerdict::Unclear { .. }
                ),
                "{rules}"
            );
        }
    }

    /// A condition that cannot hold for the first packet of a flow that no rule has translated is decided.
    #[test]
    fn conditions_that_cannot_hold_for_the_packet_are_decided() {
        let reject = "-j REJECT --reject-with icmp-admin-prohibited";
        for (packet, chain, accepts) in [
            (forwarded(), "FORWARD", "-m conntrack --ctstate DNAT -j ACCEPT"),
            (forwarded(), "FORWARD", "-m conntrack --ctstatus SEEN_REPLY,ASSURED -j ACCEPT"),
            (forwarded(), "FORWARD", "-m conntrack --ctdir REPLY -j ACCEPT"),
            (forwarded(), "FORWARD", "-m addrtype --dst-type LOCAL -j ACCEPT"),
            (forwarded(), "FORWARD", "-m physdev --physdev-is-bridged -j ACCEPT"),
            (forwarded(), "FORWARD", "-p tcp -m tcp --tcp-flags SYN,ACK ACK -j ACCEPT"),
            (forwarded(), "FORWARD", "-m iprange --src-range 10.0.3.0-10.0.3.9 -j ACCEPT"),
            (datagram(), "INPUT", "-m pkttype --pkt-type broadcast -j ACCEPT"),
            (datagram(), "INPUT", "-m addrtype ! --dst-type LOCAL -j ACCEPT"),
            (datagram(), "INPUT", "-p icmp -m icmp --icmp-type 8 -j ACCEPT"),
            (sent(), "OUTPUT", "-o lo -j ACCEPT"),
            (sent(), "OUTPUT", "-i eth0 -j ACCEPT"),
            (sent(), "OUTPUT", "-m addrtype --dst-type LOCAL -j ACCEPT"),
        ] {
            let rules = format!("{OPEN}-A {chain} {accepts}\n-A {chain} {reject}");
            let verdict = verdict(&rules, &packet);
            let by = match &verdict {
                FilterVerdict::Drop(drop) => drop.by.as_str(),
                _ => "",
            };
            assert!(by.contains("-j REJECT"), "{accepts}: {verdict:?}");
        }
    }

    #[test]
    fn a_verdict_that_is_unclear_names_the_rule_that_makes_it_so() {
        let set = "-A OUTPUT -m set --match-set friends dst -j ACCEPT";
        let rules = format!("{OPEN}{set}\n-A OUTPUT -p udp -j DROP");
        let FilterVerdict::Unclear { drop, unless: Some(unless) } = verdict(&rules, &sent()) else {
            panic!("{rules}");
        };
        assert!(drop.by.contains("-p udp -j DROP") && unless.contains("friends"), "{unless}");
        // A chain that may end early decides nothing after that.
        let rules =
            format!("{OPEN}-A OUTPUT -j X\n-A X -m mark --mark 0x1 -j RETURN\n-A X -j DROP");
        let verdict = verdict(&rules, &sent());
        assert!(matches!(verdict, FilterVerdict::Unclear { unless: None, .. }), "{verdict:?}");
    }

    #[test]
    fn loops_end() {
        let rules = format!("{OPEN}:Y - [0:0]\n-A INPUT -j X\n-A X -j Y\n-A Y -j X");
        assert_eq!(verdict(&rules, &datagram()), FilterVerdict::Accept);
    }
}
