//! Reads the output of `nft -j list ruleset` (`libnftables-json(5)`) and evaluates its rules for
//! one packet.
//!
//! The JSON is read as untyped values on purpose: a statement or expression that this module does
//! not know makes one rule unclear and leaves the rest of the ruleset readable.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::{Action, BaseChain, Hook, Match, Rule, RuleChain, Ruleset, TestPacket};
use crate::packet::protocol;
use crate::route::Cidr;

/// Returns the base chains that the packet traverses. With `skip_iptables`, the table of
/// iptables-nft is left out: `iptables-save` shows matches of that table that nft cannot.
pub(super) fn parse(root: &Value, packet: &TestPacket, skip_iptables: bool) -> Vec<Ruleset> {
    let items = root["nftables"].as_array().map_or(&[][..], Vec::as_slice);
    let sees_ipv4 = |item: &Value| {
        let (family, table) = (text(&item["family"]), text(&item["table"]));
        matches!(family, "ip" | "inet") && !(skip_iptables && (family, table) == ("ip", "filter"))
    };
    let chains = items.iter().map(|item| &item["chain"]).filter(|chain| sees_ipv4(chain));
    // A chain of type `route` may drop as well (nft(8)).
    chains
        .filter(|base| {
            base["hook"] == packet.hook.name() && matches!(text(&base["type"]), "filter" | "route")
        })
        .map(|base| {
            let (family, table) = (text(&base["family"]), text(&base["table"]));
            Table { items, family, table, packet }.ruleset(text(&base["name"]))
        })
        .collect()
}

/// A table of nftables, and the packet for which its rules are evaluated.
struct Table<'a> {
    items: &'a [Value],
    family: &'a str,
    table: &'a str,
    packet: &'a TestPacket,
}

impl<'a> Table<'a> {
    /// The table's own items of one kind.
    fn all(&self, kind: &'static str) -> impl Iterator<Item = &'a Value> {
        let (family, table) = (self.family, self.table);
        let items = self.items.iter().map(move |item| &item[kind]);
        items.filter(move |item| item["family"] == family && item["table"] == table)
    }

    fn ruleset(&self, base: &str) -> Ruleset {
        let table = format!("{} {}", self.family, self.table);
        let chains = self.all("chain").map(|chain| {
            let name = text(&chain["name"]).to_owned();
            let rules = self.all("rule").filter(|rule| rule["chain"] == chain["name"]);
            let rules = rules.flat_map(|rule| self.evaluate(rule)).collect();
            let drop_policy = (chain["policy"] == "drop")
                .then(|| format!("the policy of chain {name} in nft's table {table} (drop)"));
            RuleChain { name, drop_policy, rules }
        });
        let chains = chains.collect();
        Ruleset { base: BaseChain::Nft { table, chain: base.to_owned() }, chains }
    }

    /// Evaluates a rule. It may have several statements with actions; each becomes a [`Rule`].
    fn evaluate(&self, rule: &Value) -> Vec<Rule> {
        let shown = format!(
            "rule {} of chain {} in nft's table {} {}",
            rule["handle"],
            text(&rule["chain"]),
            self.family,
            self.table
        );
        let mut matches = Match::Yes;
        let mut rules = Vec::new();
        let statements = rule["expr"].as_array().map_or(&[][..], Vec::as_slice);
        for (name, body) in statements.iter().filter_map(|s| s.as_object()?.iter().next()) {
            let to = || text(&body["target"]).to_owned();
            let action = match name.as_str() {
                "match" => {
                    matches = matches.and(self.condition(body));
                    continue;
                }
                // Statements without a verdict.
                "counter" | "log" | "comment" | "mangle" | "notrack" | "meter" | "set" | "map"
                | "flow" | "dup" | "last" | "ct helper" | "ct timeout" | "ct expectation" => {
                    continue;
                }
                "accept" => Action::Accept,
                "drop" | "reject" => Action::Drop,
                "return" => Action::Return,
                "jump" => Action::Jump(to()),
                "goto" => Action::Goto(to()),
                "continue" => Action::Continue,
                "xt" if body["type"] == "match" || body["name"] == "comment" => {
                    matches = matches.and(Match::Maybe);
                    continue;
                }
                "xt" if body["name"] == "REJECT" => Action::Drop,
                "vmap" => self.verdict_map(body),
                "limit" | "quota" | "ct count" | "connlimit" => {
                    matches = matches.and(Match::Maybe);
                    continue;
                }
                _ => Action::Unknown,
            };
            rules.push(Rule { matches, action, text: shown.clone() });
        }
        rules
    }

    /// Evaluates a verdict map such as `ct state vmap { established : accept, invalid : drop }`.
    fn verdict_map(&self, body: &Value) -> Action {
        let named = self.elements("map", &body["data"]);
        let Some(pairs) = body["data"]["set"].as_array().or(named) else { return Action::Unknown };
        for pair in pairs {
            let verdict = pair[1].as_object().and_then(|v| v.keys().next()).map(String::as_str);
            match self.compare(&body["key"], &pair[0]) {
                Match::No => {}
                Match::Maybe => return Action::Unknown,
                Match::Yes => {
                    return match verdict {
                        Some("accept") => Action::Accept,
                        Some("drop") => Action::Drop,
                        Some("continue" | "return") => Action::Continue,
                        Some("jump") => Action::Jump(text(&pair[1]["jump"]["target"]).into()),
                        Some("goto") => Action::Goto(text(&pair[1]["goto"]["target"]).into()),
                        _ => Action::Unknown,
                    };
                }
            }
        }
        Action::Continue
    }

    /// The elements of the named set or map that `name` refers to, as `@name`.
    fn elements(&self, kind: &'static str, name: &Value) -> Option<&'a Vec<Value>> {
        let name = text(name).strip_prefix('@')?;
        let set = self.all(kind).find(|set| text(&set["name"]) == name)?;
        // A set without elements has no such field.
        Some(set["elem"].as_array().unwrap_or(const { &Vec::new() }))
    }

    fn condition(&self, body: &Value) -> Match {
        let negate = match text(&body["op"]) {
            "==" | "in" => false,
            "!=" => true,
            _ => return Match::Maybe,
        };
        self.compare(&body["left"], &body["right"]).negated(negate)
    }

    /// Compares the field of the packet that `left` names with `right`, a value or a set of values.
    fn compare(&self, left: &Value, right: &Value) -> Match {
        if let Some(fields) = left["concat"].as_array() {
            return self.compare_all(fields, right);
        }
        let named = self.elements("set", right);
        if let Some(any) = right.as_array().or(right["set"].as_array()).or(named) {
            let no = Match::No;
            return any.iter().fold(no, |found, one| found.or(self.compare(left, one)));
        }
        // An element with a comment or a timeout.
        let right = right.get("elem").map_or(right, |elem| &elem["val"]);
        if text(right).starts_with('@') {
            return Match::Maybe;
        }
        let packet = self.packet;
        let protocol = Match::of(right == packet.protocol || right == number_of(packet.protocol));
        let payload = (text(&left["payload"]["protocol"]), text(&left["payload"]["field"]));
        match (payload, text(&left["meta"]["key"]), text(&left["ct"]["key"])) {
            (("ip", "saddr"), ..) => address(right, packet.source),
            (("ip", "daddr"), ..) => address(right, packet.destination),
            (("ip", "protocol"), ..) | (_, "l4proto", _) => protocol,
            (("ip6" | "arp" | "icmpv6", _), ..) => Match::No,
            ((upper, _), ..) if UPPER.contains(&upper) && upper != packet.protocol => Match::No,
            (("udp" | "tcp" | "th", "dport"), ..) => port(right, packet.destination_port),
            (("udp" | "tcp" | "th", "sport"), ..) => port(right, packet.source_port),
            (_, "nfproto" | "protocol", _) => Match::of(matches!(text(right), "ipv4" | "ip")),
            (_, "iifname" | "iif", _) => interface(right, packet.input.as_deref()),
            (_, "oifname" | "oif", _) => interface(right, packet.output.as_deref()),
            (_, "pkttype", _) if packet.hook != Hook::Output => {
                Match::of(matches!(text(right), "host" | "unicast"))
            }
            // The first packet of its flow, which no rule has translated.
            (_, _, "state") => Match::of(right == "new"),
            (_, _, "status") => Match::No,
            (_, _, "direction") => Match::of(right == "original"),
            _ if left["fib"]["result"] == "type" => {
                let flags = left["fib"]["flags"].as_array();
                let destination = flags.is_some_and(|flags| flags.iter().any(|f| f == "daddr"));
                Match::of(right == packet.hook.address_type(destination))
            }
            _ => Match::Maybe,
        }
    }

    /// Compares several fields with the concatenations of a set.
    fn compare_all(&self, fields: &[Value], right: &Value) -> Match {
        let named = self.elements("set", right);
        if let Some(any) = right.as_array().or(right["set"].as_array()).or(named) {
            let no = Match::No;
            return any.iter().fold(no, |found, one| found.or(self.compare_all(fields, one)));
        }
        let right = right.get("elem").map_or(right, |elem| &elem["val"]);
        let Some(values) = right["concat"].as_array() else { return Match::Maybe };
        let pairs = fields.iter().zip(values);
        pairs.fold(Match::Yes, |all, (field, value)| all.and(self.compare(field, value)))
    }
}

fn address(right: &Value, address: Ipv4Addr) -> Match {
    let parse = |value: &Value| text(value).parse::<Ipv4Addr>().ok();
    if let (Some(network), Some(len)) =
        (parse(&right["prefix"]["addr"]), right["prefix"]["len"].as_u64())
    {
        let len = u8::try_from(len).unwrap_or(32).min(32);
        return Match::of(Cidr::new(network, len).contains(address));
    }
    if let [low, high] = right["range"].as_array().map_or(&[][..], Vec::as_slice) {
        return match (parse(low), parse(high)) {
            (Some(low), Some(high)) => Match::of((low..=high).contains(&address)),
            _ => Match::Maybe,
        };
    }
    parse(right).map_or(Match::Maybe, |only| Match::of(only == address))
}

fn port(right: &Value, port: Option<u16>) -> Match {
    let Some(port) = port.map(u64::from) else { return Match::Maybe };
    if let [low, high] = right["range"].as_array().map_or(&[][..], Vec::as_slice) {
        return match (low.as_u64(), high.as_u64()) {
            (Some(low), Some(high)) => Match::of((low..=high).contains(&port)),
            _ => Match::Maybe,
        };
    }
    right.as_u64().map_or(Match::Maybe, |only| Match::of(only == port))
}

fn interface(right: &Value, name: Option<&str>) -> Match {
    let Some(pattern) = right.as_str() else { return Match::Maybe };
    Match::of(name.is_some_and(|name| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number_of(name: &str) -> u64 {
    let number = match name {
        "icmp" => protocol::ICMP,
        "tcp" => protocol::TCP,
        _ => protocol::UDP,
    };
    number.into()
}

/// Upper protocols whose fields another packet does not have.
const UPPER: [&str; 8] = ["tcp", "udp", "udplite", "icmp", "sctp", "dccp", "esp", "ah"];

#[cfg(test)]
mod tests {
    use super::super::tests::{datagram, forwarded, sent};
    use super::super::{FilterVerdict, worst};
    use super::*;

    fn verdict(policy: &str, rules: &str, packet: &TestPacket) -> FilterVerdict {
        let hook = packet.hook.name();
        let rules: Vec<String> = rules
            .split('\n')
            .filter(|expr| !expr.is_empty())
            .map(|expr| {
                format!(
                    r#",{{"rule":{{"family":"inet","table":"filter","chain":"c","handle":7,"expr":[{expr}]}}}}"#
                )
            })
            .collect();
        let listed = format!(
            r#"{{"nftables":[{{"chain":{{"family":"inet","table":"filter","name":"c","type":"filter","hook":"{hook}","prio":0,"policy":"{policy}"}}}}{SETS}{}]}}"#,
            rules.concat()
        );
        let listed = serde_json::from_str(&listed).expect("JSON");
        worst(parse(&listed, packet, true).iter().map(Ruleset::verdict))
    }

    const SETS: &str = r#",{"set":{"family":"inet","table":"filter","name":"open","type":"inet_service","elem":[53,{"elem":{"val":{"range":[8000,9000]},"comment":"x"}}]}},{"set":{"family":"inet","table":"filter","name":"none","type":"inet_service"}},{"map":{"family":"inet","table":"filter","name":"ports","type":"inet_service","map":"verdict","elem":[[8285,{"accept":null}]]}}"#;
    const DPORT: &str =
        r#"{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":R}}"#;
    const STATE: &str = r#"{"vmap":{"key":{"ct":{"key":"state"}},"data":{"set":[["established",{"accept":null}],["invalid",{"drop":null}]]}}}"#;

    #[test]
    fn ports_policies_and_states() {
        let packet = datagram();
        let dport = |right: &str, verdict: &str| {
            format!("{},{{\"counter\":null}},{{\"{verdict}\":null}}", DPORT.replace('R', right))
        };
        for (policy, rules, expected) in [
            ("accept", dport("8285", "drop"), true),
            ("accept", dport(r#"{"set":[53,{"range":[8000,9000]}]}"#, "reject"), true),
            ("accept", dport("53", "drop"), false),
            ("drop", dport("8285", "accept"), false),
            ("drop", STATE.to_owned(), true),
            ("drop", format!("{STATE}\n{}", dport("8285", "accept")), false),
            ("drop", String::new(), true),
        ] {
            let verdict = verdict(policy, &rules, &packet);
            assert_eq!(
                matches!(verdict, FilterVerdict::Drop(_)),
                expected,
                "{policy} {rules}: {verdict:?}"
            );
        }
    }

    #[test]
    fn addresses_and_interfaces() {
        let from = r#"{"match":{"op":"OP","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"10.0.0.0","len":16}}}},{"accept":null}"#;
        let out = r#"{"match":{"op":"==","left":{"meta":{"key":"oifname"}},"right":"docker*"}},{"accept":null}"#;
        let packet = forwarded();
        assert_eq!(verdict("drop", &from.replace("OP", "=="), &packet), FilterVerdict::Accept);
        assert_eq!(verdict("drop", out, &packet), FilterVerdict::Accept);
        assert!(matches!(
            verdict("drop", &from.replace("OP", "!="), &packet),
            FilterVerdict::Drop(_)
        ));
        assert!(matches!(
            verdict("drop", &from.replace("OP", ">"), &packet),
            FilterVerdict::Unclear { .. }
        ));
    }

    /// A condition that cannot hold for the first packet of a flow that no rule has translated is decided,
    /// and so are the contents of sets.
    #[test]
    fn conditions_that_cannot_hold_for_the_packet_are_decided() {
        let is = |left: &str, right: &str| {
            format!(r#"{{"match":{{"op":"==","left":{left},"right":{right}}}}},{{"accept":null}}"#)
        };
        let icmp = r#"{"payload":{"protocol":"icmp","field":"type"}}"#;
        let dport = r#"{"payload":{"protocol":"udp","field":"dport"}}"#;
        let type_of = r#"{"fib":{"result":"type","flags":["daddr"]}}"#;
        let pair = r#"{"concat":[{"payload":{"protocol":"udp","field":"dport"}},{"meta":{"key":"iifname"}}]}"#;
        let map = format!(r#"{{"vmap":{{"key":{dport},"data":"@ports"}}}}"#);
        for (packet, accepts, accepted) in [
            (forwarded(), is(r#"{"ct":{"key":"status"}}"#, r#""dnat""#), false),
            (forwarded(), is(r#"{"ct":{"key":"direction"}}"#, r#""reply""#), false),
            (forwarded(), is(type_of, r#""local""#), false),
            (datagram(), is(type_of, r#""local""#), true),
            (datagram(), is(icmp, r#""echo-request""#), false),
            (datagram(), is(r#"{"meta":{"key":"l4proto"}}"#, "17"), true),
            (datagram(), is(r#"{"meta":{"key":"pkttype"}}"#, r#""broadcast""#), false),
            (datagram(), is(dport, r#""@open""#), true),
            (datagram(), is(dport, r#""@none""#), false),
            (datagram(), is(pair, r#"{"set":[{"concat":[8285,"eth0"]}]}"#), true),
            (datagram(), is(pair, r#"{"set":[{"concat":[8285,"eth1"]}]}"#), false),
            (datagram(), map, true),
            (sent(), is(r#"{"meta":{"key":"iifname"}}"#, r#""eth0""#), false),
            (sent(), is(r#"{"meta":{"key":"oifname"}}"#, r#""eth0""#), true),
        ] {
            let verdict = verdict("accept", &format!("{accepts}\n{{\"reject\":null}}"), &packet);
            let right = match verdict {
                FilterVerdict::Accept => accepted,
                FilterVerdict::Drop(_) => !accepted,
                FilterVerdict::Unclear { .. } => false,
            };
            assert!(right, "{accepts}: {verdict:?}");
        }
    }

    #[test]
    fn junk_yields_no_chains() {
        for junk in ["null", "[]", r#"{"nftables":7}"#, r#"{"nftables":[{"chain":7},7]}"#] {
            let value = serde_json::from_str(junk).expect("JSON");
            assert!(parse(&value, &datagram(), false).is_empty(), "{junk}");
        }
    }
}
