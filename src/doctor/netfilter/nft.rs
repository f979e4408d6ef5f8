//! Reads the output of `nft -j list ruleset` (`libnftables-json(5)`) and evaluates its rules for
//! one packet.
//!
//! The JSON is read as untyped values on purpose: a statement or expression that this module does
//! not know makes one rule unclear and leaves the rest of the ruleset readable.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::{Action, Hook, Match, Rule, RuleChain, Ruleset, TestPacket};
use crate::route::Cidr;

/// Returns the base chains that the packet traverses. With `skip_iptables`, the table of
/// iptables-nft is left out: `iptables-save` shows matches of that table that nft cannot.
pub(super) fn parse(listed: &str, packet: &TestPacket, skip_iptables: bool) -> Vec<Ruleset> {
    let Ok(root) = serde_json::from_str::<Value>(listed) else { return vec![] };
    let items = root["nftables"].as_array().map_or(&[][..], Vec::as_slice);
    let hook = match packet.hook {
        Hook::Input => "input",
        Hook::Forward => "forward",
    };
    let sees_ipv4 = |item: &Value| {
        let (family, table) = (text(&item["family"]), text(&item["table"]));
        matches!(family, "ip" | "inet") && !(skip_iptables && (family, table) == ("ip", "filter"))
    };
    let chains = || items.iter().map(|item| &item["chain"]).filter(|chain| sees_ipv4(chain));
    chains()
        .filter(|base| base["hook"] == hook && base["type"] == "filter")
        .map(|base| {
            let same_table =
                |item: &Value| item["family"] == base["family"] && item["table"] == base["table"];
            let place = format!("nft's table {} {}", text(&base["family"]), text(&base["table"]));
            let chains = chains().filter(|chain| same_table(chain)).map(|chain| {
                let name = text(&chain["name"]).to_owned();
                let rules = items
                    .iter()
                    .map(|item| &item["rule"])
                    .filter(|rule| same_table(rule) && rule["chain"] == chain["name"])
                    .flat_map(|rule| evaluate(rule, &place, packet))
                    .collect();
                let drop_policy = (chain["policy"] == "drop")
                    .then(|| format!("the policy of chain {name} in {place} (drop)"));
                RuleChain { name, drop_policy, rules }
            });
            Ruleset { base: text(&base["name"]).to_owned(), chains: chains.collect() }
        })
        .collect()
}

/// Evaluates a rule. It may have several statements with actions; each becomes a [`Rule`].
fn evaluate(rule: &Value, place: &str, packet: &TestPacket) -> Vec<Rule> {
    let shown = format!(
        "rule {} of chain {} in {place} (nft -a list ruleset)",
        rule["handle"],
        text(&rule["chain"])
    );
    let mut matches = Match::Yes;
    let mut rules = Vec::new();
    let statements = rule["expr"].as_array().map_or(&[][..], Vec::as_slice);
    for (name, body) in statements.iter().filter_map(|s| s.as_object()?.iter().next()) {
        let to = || text(&body["target"]).to_owned();
        let action = match name.as_str() {
            "match" => {
                matches = matches.and(condition(body, packet));
                continue;
            }
            "counter" | "log" | "comment" | "mangle" | "notrack" | "meter" => continue,
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
            "vmap" => verdict_map(body, packet),
            "limit" => {
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
fn verdict_map(body: &Value, packet: &TestPacket) -> Action {
    let pairs = body["data"]["set"].as_array();
    let Some(pairs) = pairs else { return Action::Unknown };
    for pair in pairs {
        let verdict = pair[1].as_object().and_then(|v| v.keys().next()).map(String::as_str);
        match compare(&body["key"], &pair[0], packet) {
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

fn condition(body: &Value, packet: &TestPacket) -> Match {
    let negate = match text(&body["op"]) {
        "==" | "in" => false,
        "!=" => true,
        _ => return Match::Maybe,
    };
    compare(&body["left"], &body["right"], packet).negated(negate)
}

/// Compares the field of the packet that `left` names with `right`, a value or a set of values.
fn compare(left: &Value, right: &Value, packet: &TestPacket) -> Match {
    let any = right.as_array().or_else(|| right["set"].as_array());
    if let Some(any) = any {
        let outcomes: Vec<_> = any.iter().map(|one| compare(left, one, packet)).collect();
        return if outcomes.contains(&Match::Yes) {
            Match::Yes
        } else if outcomes.contains(&Match::Maybe) {
            Match::Maybe
        } else {
            Match::No
        };
    }
    if text(right).starts_with('@') {
        return Match::Maybe; // A named set, whose elements are not part of the rule.
    }
    let payload = (text(&left["payload"]["protocol"]), text(&left["payload"]["field"]));
    let port = |port: Option<u16>| match port {
        Some(port) => number(right, port),
        None => Match::Maybe,
    };
    match (payload, text(&left["meta"]["key"]), text(&left["ct"]["key"])) {
        (("ip", "saddr"), ..) => address(right, packet.source),
        (("ip", "daddr"), ..) => address(right, packet.destination),
        (("ip", "protocol"), ..) => Match::of(right == packet.protocol),
        (("udp" | "tcp", _), ..) if payload.0 != packet.protocol => Match::No,
        (("udp" | "tcp" | "th", "dport"), ..) => port(packet.destination_port),
        (("udp" | "tcp" | "th", "sport"), ..) => port(packet.source_port),
        (_, "l4proto", _) => Match::of(right == packet.protocol),
        (_, "nfproto" | "protocol", _) => Match::of(matches!(text(right), "ipv4" | "ip")),
        (_, "iifname" | "iif", _) => interface(right, &packet.input),
        (_, "oifname" | "oif", _) => match &packet.output {
            Some(output) => interface(right, output),
            None => Match::No,
        },
        (_, _, "state") => Match::of(right == "new"),
        _ => Match::Maybe,
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

fn number(right: &Value, number: u16) -> Match {
    let number = u64::from(number);
    if let [low, high] = right["range"].as_array().map_or(&[][..], Vec::as_slice) {
        return match (low.as_u64(), high.as_u64()) {
            (Some(low), Some(high)) => Match::of((low..=high).contains(&number)),
            _ => Match::Maybe,
        };
    }
    right.as_u64().map_or(Match::Maybe, |only| Match::of(only == number))
}

/// Matches an interface name; `eth*` stands for every name that begins with `eth`.
fn interface(right: &Value, name: &str) -> Match {
    let Some(pattern) = right.as_str() else { return Match::Maybe };
    Match::of(match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{datagram, forwarded};
    use super::super::{FilterVerdict, worst};
    use super::*;

    fn verdict(policy: &str, rules: &str, packet: &TestPacket) -> FilterVerdict {
        let hook = if packet.hook == Hook::Input { "input" } else { "forward" };
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
            r#"{{"nftables":[{{"chain":{{"family":"inet","table":"filter","name":"c","type":"filter","hook":"{hook}","prio":0,"policy":"{policy}"}}}}{}]}}"#,
            rules.concat()
        );
        worst(parse(&listed, packet, true).iter().map(Ruleset::verdict))
    }

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
            FilterVerdict::Unclear(_)
        ));
    }

    #[test]
    fn junk_yields_no_chains() {
        for junk in ["", "[]", r#"{"nftables":7}"#, r#"{"nftables":[{"chain":7},7]}"#] {
            assert!(parse(junk, &datagram(), false).is_empty(), "{junk}");
        }
    }
}
