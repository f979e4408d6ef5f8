//! Rules in nftables, installed with `nft -f` in one transaction. The table is flannel's, so several daemons may
//! share it; each replaces its own rules only, by their handles.

use std::path::PathBuf;

use super::notrack;
use super::ownership::{Owned, in_order, is_shared};
use super::port::{self, port_rules};
use super::rules::{MasqueradeTarget, RuleSpec, masquerade_rules};
use super::tools::{ToolError, Toolbox, run};

/// flannel's table in nftables.
const TABLE: &str = "flannel-ipv4";

/// The chains: name, and type, hook and priority of a base chain. A chain stands before those that jump to it.
const CHAINS: [(&str, &str); 7] = [
    ("forward", "type filter hook forward priority 0; policy accept;"),
    ("postrtg", "type nat hook postrouting priority 100; policy accept;"),
    (PORT, ""),
    // Before the filter chains of others; a drop is final for all of them (nft(8)).
    ("port-forward", "type filter hook forward priority -150; policy accept;"),
    ("port-input", "type filter hook input priority -150; policy accept;"),
    // Before connection tracking, at -200 (nft(8)).
    ("notrack-input", "type filter hook prerouting priority -300; policy accept;"),
    ("notrack-output", "type filter hook output priority -300; policy accept;"),
];

/// The chain that protects the UDP port.
const PORT: &str = "port";

/// The nft program.
#[derive(Clone, Debug)]
pub(super) struct Nft {
    program: PathBuf,
}

/// The daemon's rules as nft listed them after they were installed, by chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NftRules {
    chains: Vec<(String, Vec<String>)>,
}

/// A chain of the table, with each rule and its handle.
struct ListedChain {
    name: String,
    rules: Vec<(String, String)>,
}

impl Nft {
    pub(super) fn find(tools: &Toolbox) -> Option<Self> {
        Some(Self { program: tools.find("nft")? })
    }

    /// Replaces the owned rules with the wanted ones.
    pub(super) async fn install(
        &self,
        spec: &RuleSpec,
        owned: Owned<'_>,
    ) -> Result<NftRules, ToolError> {
        let before = self.listing().await?;
        let random = transaction(spec, true, before.as_deref(), owned);
        // Tool and kernel may not support random source ports.
        let random = Some(random).filter(|_| spec.masquerade && spec.fully_random);
        let accepted = match &random {
            Some(text) => run(&self.program, &["--check", "-f", "-"], text).await.is_ok(),
            None => false,
        };
        let text = random.filter(|_| accepted);
        let text = text.unwrap_or_else(|| transaction(spec, false, before.as_deref(), owned));
        run(&self.program, &["-f", "-"], &text).await?;
        let now = self.listing().await?.unwrap_or_default().into_iter();
        let chains = now.map(|chain| {
            let rules = chain.rules.into_iter().map(|(rule, _)| rule);
            (chain.name, rules.filter(|rule| is_shared(rule) || owned.owns(rule)).collect())
        });
        Ok(NftRules { chains: chains.collect() })
    }

    /// Returns whether all installed rules still exist in their order.
    pub(super) async fn intact(&self, installed: &NftRules) -> Result<bool, ToolError> {
        let now = self.listing().await?.unwrap_or_default();
        Ok(installed.chains.iter().all(|(name, rules)| {
            now.iter().find(|chain| chain.name == *name).is_some_and(|chain| {
                let now: Vec<_> = chain.rules.iter().map(|(rule, _)| rule.clone()).collect();
                in_order(rules, &now)
            })
        }))
    }

    /// Removes the owned rules, and the table with the last rule of it; returns the equivalent commands.
    pub(super) async fn remove(
        &self,
        owned: Owned<'_>,
        dry_run: bool,
    ) -> Result<Vec<String>, ToolError> {
        let Some(listed) = self.listing().await? else { return Ok(vec![]) };
        let commands = removal(&listed, owned);
        if !commands.is_empty() && !dry_run {
            run(&self.program, &["-f", "-"], &(commands.join("\n") + "\n")).await?;
        }
        Ok(commands.into_iter().map(|command| format!("nft {command}")).collect())
    }

    /// Returns flannel's rules that are not owned.
    pub(super) async fn foreign(&self, owned: Owned<'_>) -> Result<Vec<String>, ToolError> {
        let listed = self.listing().await?.unwrap_or_default().into_iter();
        let rules = listed.flat_map(|chain| chain.rules).map(|(rule, _)| rule);
        Ok(rules.filter(|rule| !is_shared(rule) && !owned.owns(rule)).collect())
    }

    /// Lists the table without counters; `None` if there is none.
    async fn listing(&self) -> Result<Option<Vec<ListedChain>>, ToolError> {
        match run(&self.program, &["-s", "-a", "list", "table", "ip", TABLE], "").await {
            Ok(listing) => Ok(Some(parse(&listing))),
            Err(ToolError::Failed { said, .. }) if said.contains("No such file") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Parses `nft -a list table`: each chain and rule ends in `# handle N`.
fn parse(listing: &str) -> Vec<ListedChain> {
    let mut chains: Vec<ListedChain> = Vec::new();
    for line in listing.lines().map(str::trim) {
        let Some((text, handle)) = line.rsplit_once(" # handle ") else { continue };
        if let Some(name) = text.strip_prefix("chain ").and_then(|t| t.strip_suffix(" {")) {
            chains.push(ListedChain { name: name.to_owned(), rules: vec![] });
        } else if let Some(chain) = chains.last_mut() {
            chain.rules.push((text.to_owned(), handle.to_owned()));
        }
    }
    chains
}

/// Returns the commands that remove the owned rules: one for the table if nothing else is in it.
fn removal(listed: &[ListedChain], owned: Owned<'_>) -> Vec<String> {
    if !has_others(listed, owned) {
        return vec![format!("delete table ip {TABLE}")];
    }
    let rules = listed.iter().flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule)));
    rules
        .filter(|(_, (rule, _))| owned.owns(rule) && !is_shared(rule))
        .map(|(chain, (_, handle))| {
            format!("delete rule ip {TABLE} {} handle {handle}", chain.name)
        })
        .collect()
}

/// Whether the table holds rules of another daemon.
fn has_others(listed: &[ListedChain], owned: Owned<'_>) -> bool {
    let mut rules = listed.iter().flat_map(|chain| &chain.rules);
    rules.any(|(rule, _)| !is_shared(rule) && !owned.owns(rule))
}

/// Returns a transaction for `nft -f` after which the table's owned rules are exactly those of `spec`.
fn transaction(
    spec: &RuleSpec,
    fully_random: bool,
    before: Option<&[ListedChain]>,
    owned: Owned<'_>,
) -> String {
    let mut text = String::new();
    let mut line = |statement: String| {
        text.push_str(&statement);
        text.push('\n');
    };
    let wanted = rules(spec, fully_random);
    for command in before.map_or(vec![], |listed| removal(listed, owned)) {
        line(command);
    }
    let kept = before.filter(|listed| has_others(listed, owned));
    line(format!("add table ip {TABLE}"));
    for (name, hook) in CHAINS {
        let rules: Vec<_> = wanted.iter().filter(|(chain, _)| *chain == name).collect();
        if rules.is_empty() {
            continue;
        }
        line(format!("add chain ip {TABLE} {name} {{ {hook} }}"));
        let has_shared = kept.is_some_and(|listed| {
            let chain = listed.iter().find(|chain| chain.name == name);
            chain.is_some_and(|chain| chain.rules.iter().any(|(rule, _)| is_shared(rule)))
        });
        for (_, rule) in rules {
            // A rule for every daemon stands before all of theirs.
            let how = if is_shared(rule) { "insert" } else { "add" };
            if !(is_shared(rule) && has_shared) {
                line(format!("{how} rule ip {TABLE} {name} {rule}"));
            }
        }
    }
    text
}

/// Returns the wanted rules in order, each with its chain.
fn rules(spec: &RuleSpec, fully_random: bool) -> Vec<(&'static str, String)> {
    let network = spec.network;
    let mut rules = Vec::new();
    if spec.forward {
        for matches in [format!("ip saddr {network}"), format!("ip daddr {network}")] {
            rules.push(("forward", format!("{matches} accept comment \"flanneld forward\"")));
        }
    }
    if spec.masquerade {
        let masquerade = if fully_random { "masquerade fully-random" } else { "masquerade" };
        for (matches, target) in masquerade_rules(spec) {
            let verdict = match target {
                MasqueradeTarget::Return => "return",
                MasqueradeTarget::Masquerade => masquerade,
            };
            let text = format!("{} {verdict} comment \"flanneld masq\"", matches.nft());
            rules.push(("postrtg", text));
        }
    }
    if let Some(protected) = &spec.port {
        let comment = port::comment(network);
        let wanted = port_rules(network, protected);
        for base in ["port-forward", "port-input"].into_iter().filter(|_| !wanted.is_empty()) {
            let matches = protected.nft_jump();
            rules.push((base, format!("{matches} jump {PORT} comment \"{comment}\"")));
        }
        for (matches, drops) in wanted {
            let verdict = if drops { "drop" } else { "return" };
            let (matches, port) = (matches.nft(), protected.port);
            let text = format!("{matches} udp dport {port} {verdict} comment \"{comment}\"");
            rules.push((PORT, text));
        }
    }
    if let Some(socket) = spec.notrack {
        let comment = notrack::comment(network);
        let matches = notrack::nft(socket).into_iter();
        rules.extend(
            matches.map(|(chain, text)| (chain, format!("{text} notrack comment \"{comment}\""))),
        );
    }
    rules
}
