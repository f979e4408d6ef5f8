//! Rules in iptables, installed with `iptables-restore`: every change of a table is one
//! transaction, so the rules are in force without interruption.
//!
//! Only the daemon's own chains must be readable: a rule of another program may need an extension that this host's
//! or this image's iptables lacks, and then its chain and the whole table cannot be listed.

mod changes;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use self::changes::{ChainState, Jump, removal, transaction};
use super::legacy;
use super::ownership::{Owned, in_order, is_shared};
use super::rules::{FlannelChain, RuleSpec};
use super::tools::{ToolError, Toolbox, run};

/// The programs of one iptables flavour (nft or legacy).
#[derive(Clone, Debug)]
pub(super) struct Iptables {
    tools: Toolbox,
    iptables: PathBuf,
    save: PathBuf,
    restore: PathBuf,
}

/// The daemon's rules in one chain, as iptables listed them after they were installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InstalledChain {
    chain: FlannelChain,
    jumps: Vec<String>,
    rules: Vec<String>,
}

impl Iptables {
    /// Finds the programs called `name`, `name-save` and `name-restore`.
    pub(super) fn find(tools: &Toolbox, name: &str) -> Option<Self> {
        Some(Self {
            iptables: tools.find(name)?,
            save: tools.find(&format!("{name}-save"))?,
            restore: tools.find(&format!("{name}-restore"))?,
            tools: tools.clone(),
        })
    }

    /// The file that the command resolves to, which identifies the flavour.
    pub(super) fn real_path(&self) -> Option<PathBuf> {
        std::fs::canonicalize(&self.iptables).ok()
    }

    /// Replaces the owned rules of a chain with the wanted ones, in one transaction; if none are wanted, removes
    /// them and returns `None`.
    pub(super) async fn install(
        &self,
        chain: FlannelChain,
        spec: &RuleSpec,
        owned: Owned<'_>,
    ) -> Result<Option<InstalledChain>, ToolError> {
        if chain.rules(spec, false).is_empty() {
            self.remove(&chain, owned, false).await?;
            return Ok(None);
        }
        // Another program may change the chain between the reading and the writing.
        if self.replace(&chain, spec, owned).await.is_err() {
            tokio::time::sleep(RETRY_DELAY).await;
            self.replace(&chain, spec, owned).await?;
        }
        let now = self.rules(&chain).await?.unwrap_or_default();
        let rules = now.into_iter().filter(|rule| is_shared(rule) || owned.owns(rule)).collect();
        Ok(Some(InstalledChain { chain, jumps: chain.jumps(spec), rules }))
    }

    async fn replace(
        &self,
        chain: &FlannelChain,
        spec: &RuleSpec,
        owned: Owned<'_>,
    ) -> Result<(), ToolError> {
        let state = self.state(chain, chain.jumps(spec), owned).await?;
        if spec.fully_random && self.tools.may_use(&self.restore, RANDOM_FULLY) {
            let rules = chain.rules(spec, true);
            let outcome = self.feed(&transaction(chain, &rules, &state, owned)).await;
            if outcome.is_ok() || !rules.iter().any(|rule| rule.contains(RANDOM_FULLY)) {
                return outcome;
            }
        }
        let rules = chain.rules(spec, false);
        self.feed(&transaction(chain, &rules, &state, owned)).await?;
        if spec.fully_random && chain.rules(spec, true) != rules {
            // Unknown before iptables 1.6.2, or to the kernel.
            self.tools.give_up(&self.restore, RANDOM_FULLY);
        }
        Ok(())
    }

    /// Returns whether all installed rules still exist in their order, and the jumps to them. Rules of other
    /// programs before or between them are ignored.
    pub(super) async fn intact(&self, installed: &InstalledChain) -> Result<bool, ToolError> {
        let InstalledChain { chain, jumps, rules } = installed;
        let Some(now) = self.rules(chain).await? else { return Ok(false) };
        let jumps = self.jumps(chain, jumps.clone(), &now).await?;
        Ok(in_order(rules, &now) && jumps.iter().all(|(_, jump)| *jump != Jump::Absent))
    }

    /// Removes the owned rules, and the chain with its jumps once no rule of flannel is left in it, unless another
    /// program uses the chain. Returns one command line per removal, also for a dry run.
    pub(super) async fn remove(
        &self,
        chain: &FlannelChain,
        owned: Owned<'_>,
        dry_run: bool,
    ) -> Result<Vec<String>, ToolError> {
        if self.would_make_table(chain) {
            return Ok(vec![]);
        }
        let mut state = self.state(chain, chain.shared_jumps(), owned).await?;
        let exists = state.rules.is_some();
        // flannel before 0.18 had its rules in the built-in chains.
        for hook in chain.hooks {
            let listed = self.list(chain, hook).await.ok().flatten().unwrap_or_default();
            let old = listed
                .into_iter()
                .filter(|rule| target(rule) != Some(chain.name) && chain.has_comment(rule));
            state.rules.get_or_insert_default().extend(old);
        }
        let (mut commands, unused) = removal(chain, &state, owned);
        if !commands.is_empty() && !dry_run {
            let lines = commands.join("\n");
            self.feed(&format!("*{}\n{lines}\nCOMMIT\n", chain.table)).await?;
        }
        if unused && exists {
            let delete = ["-t", chain.table, "-X", chain.name];
            // The kernel keeps a chain that another program's rule is in or jumps to.
            if dry_run || self.tools.run_with(&self.iptables, "-w", &delete, "").await.is_ok() {
                commands.push(format!("-X {}", chain.name));
            }
        }
        Ok(commands.into_iter().map(|line| format!("iptables -t {} {line}", chain.table)).collect())
    }

    /// Returns flannel's rules in a chain that are not owned.
    pub(super) async fn foreign(
        &self,
        chain: &FlannelChain,
        owned: Owned<'_>,
    ) -> Result<Vec<String>, ToolError> {
        if self.would_make_table(chain) {
            return Ok(vec![]);
        }
        let rules = self.rules(chain).await?.unwrap_or_default();
        let foreign =
            |rule: &String| chain.has_comment(rule) && !is_shared(rule) && !owned.owns(rule);
        Ok(rules.into_iter().filter(foreign).collect())
    }

    /// Whether listing the chain would create its table.
    fn would_make_table(&self, chain: &FlannelChain) -> bool {
        let is_legacy = self.real_path().is_some_and(|program| {
            program.file_name().unwrap_or_default().to_string_lossy().contains("legacy")
        });
        is_legacy && !legacy::has_table(chain.table)
    }

    async fn state(
        &self,
        chain: &FlannelChain,
        wanted: Vec<String>,
        owned: Owned<'_>,
    ) -> Result<ChainState, ToolError> {
        let Some(rules) = self.rules(chain).await? else {
            let jumps = wanted.into_iter().map(|jump| (jump, Jump::Absent)).collect();
            return Ok(ChainState { rules: None, jumps, earlier: vec![] });
        };
        let mut earlier = Vec::new();
        for hook in chain.hooks.iter().filter(|_| chain.has_own_jumps()) {
            let listed = self.list(chain, hook).await.ok().flatten().unwrap_or_default();
            earlier.extend(listed.into_iter().filter(|rule| {
                target(rule) == Some(chain.name)
                    && chain.has_comment(rule)
                    && (is_shared(rule) || owned.owns(rule))
                    && !wanted.contains(rule)
            }));
        }
        let jumps = self.jumps(chain, wanted, &rules).await?;
        Ok(ChainState { rules: Some(rules), jumps, earlier })
    }

    /// Looks for the wanted jumps to an existing chain that holds `rules`.
    async fn jumps(
        &self,
        chain: &FlannelChain,
        wanted: Vec<String>,
        rules: &[String],
    ) -> Result<Vec<(String, Jump)>, ToolError> {
        let daemons =
            if chain.has_own_jumps() { comments(rules.iter().chain(&wanted)).len() } else { 1 };
        let mut jumps = Vec::new();
        for wanted in wanted {
            let jump = self.jump(chain, &wanted, daemons).await?;
            jumps.push((wanted, jump));
        }
        Ok(jumps)
    }

    /// Returns the rules of the daemon's chain, without `-A`; `None` if there is no such chain.
    async fn rules(&self, chain: &FlannelChain) -> Result<Option<Vec<String>>, ToolError> {
        self.list(chain, chain.name).await
    }

    async fn list(
        &self,
        chain: &FlannelChain,
        name: &str,
    ) -> Result<Option<Vec<String>>, ToolError> {
        if self.tools.may_use(&self.iptables, "-S") {
            let args = ["-t", chain.table, "-S", name];
            match self.tools.run_with(&self.iptables, "-w", &args, "").await {
                Ok(listed) => return Ok(Some(rules_of(&listed, name))),
                Err(error) if error.is_unknown_option("-S") => {
                    self.tools.give_up(&self.iptables, "-S");
                }
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let saved = run(&self.save, &["-t", chain.table], "").await?;
        let declaration = format!(":{name} ");
        let exists = saved.lines().any(|line| line.starts_with(&declaration));
        Ok(exists.then(|| rules_of(&saved, name)))
    }

    /// Looks for a jump to an existing chain, to which this number of daemons have jumps.
    async fn jump(
        &self,
        chain: &FlannelChain,
        wanted: &str,
        daemons: usize,
    ) -> Result<Jump, ToolError> {
        let found = |found| if found { Jump::Present } else { Jump::Absent };
        if self.tools.may_use(&self.iptables, "-C") {
            // The comment is one argument.
            let quoted: Vec<&str> = wanted.split('"').collect();
            let mut args = vec!["-t", chain.table, "-C"];
            for (number, part) in quoted.into_iter().enumerate() {
                if number % 2 == 0 { args.extend(part.split_whitespace()) } else { args.push(part) }
            }
            match self.tools.run_with(&self.iptables, "-w", &args, "").await {
                Ok(_) => return Ok(Jump::Present),
                Err(error) if error.is_unknown_option("-C") => {
                    self.tools.give_up(&self.iptables, "-C");
                }
                Err(error) if error.exit_code() == Some(1) => return Ok(Jump::Absent),
                Err(error) => return self.fixed_jump(chain, daemons, error).await,
            }
        }
        let listed = self.list(chain, first_word(wanted)).await?.unwrap_or_default();
        Ok(found(listed.iter().any(|rule| rule == wanted)))
    }

    /// Judges a jump from a hook that the tool cannot read by the number of references to the chain, which
    /// iptables prints in the chain's own list.
    async fn fixed_jump(
        &self,
        chain: &FlannelChain,
        daemons: usize,
        error: ToolError,
    ) -> Result<Jump, ToolError> {
        let args = ["-t", chain.table, "-n", "-L", chain.name];
        let listed = self.tools.run_with(&self.iptables, "-w", &args, "").await?;
        tracing::debug!("cannot look for the jump to {}: {}", chain.name, error.brief());
        let enough = references(&listed).ok_or(error)? >= chain.hooks.len() * daemons;
        Ok(if enough { Jump::Fixed } else { Jump::Absent })
    }

    async fn feed(&self, text: &str) -> Result<(), ToolError> {
        self.tools.run_with(&self.restore, "-w", &["--noflush"], text).await.map(drop)
    }
}

/// The option of the MASQUERADE target for random source ports.
const RANDOM_FULLY: &str = "--random-fully";

/// Time after which a failed transaction is tried once more.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Whether the chain that was asked for does not exist, in the words of legacy iptables, of its nft variant and of
/// that before 1.8.10.
fn is_missing(error: &ToolError) -> bool {
    let ToolError::Failed { said, .. } = error else { return false };
    error.exit_code() == Some(1)
        && ["No chain", "does not exist", "is incompatible"].iter().any(|w| said.contains(w))
}

/// Returns the rules of a chain from a list by `-S` or `iptables-save`, without `-A`.
fn rules_of(listed: &str, chain: &str) -> Vec<String> {
    let rules = listed.lines().filter_map(|line| line.strip_prefix("-A "));
    rules.filter(|rule| first_word(rule) == chain).map(str::to_owned).collect()
}

/// Returns the number in `Chain NAME (1 references)`.
fn references(listed: &str) -> Option<usize> {
    let (number, _) = listed.lines().next()?.split_once('(')?.1.split_once(' ')?;
    number.parse().ok()
}

/// The comments of rules, each once.
fn comments<'a>(rules: impl Iterator<Item = &'a String>) -> HashSet<&'a str> {
    rules.filter_map(|rule| rule.split('"').nth(1)).collect()
}

fn target(rule: &str) -> Option<&str> {
    let mut words = rule.split_whitespace();
    words.find(|word| matches!(*word, "-j" | "-g"))?;
    words.next()
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::super::rules::PORT;
    use super::*;

    #[test]
    fn lists_are_read() {
        let saved = "*mangle\n:FORWARD ACCEPT [0:0]\n:FLANNEL-PORT - [0:0]\n\
                     -A FORWARD -p udp -j FLANNEL-PORT\n-A FLANNEL-PORT -i docker0 -j DROP\nCOMMIT\n";
        assert_eq!(rules_of(saved, PORT.name), ["FLANNEL-PORT -i docker0 -j DROP"]);
        assert_eq!(references("Chain FLANNEL-PORT (2 references)\ntarget prot"), Some(2));
        assert_eq!(references(""), None);
    }
}
