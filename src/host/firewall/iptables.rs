//! Rules in iptables, installed with `iptables-restore`: every change of a table is one
//! transaction, so the rules are in force without interruption.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::legacy::would_make_table;
use super::rules::{CHAINS, FlannelChain, RuleSpec};
use super::tools::{ToolError, Toolbox, run};

/// The programs of one iptables flavour (nft or legacy).
#[derive(Clone, Debug)]
pub(super) struct Iptables {
    iptables: PathBuf,
    save: PathBuf,
    restore: PathBuf,
}

/// The daemon's rules as `iptables-save` printed them after they were installed, per chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct IptablesRules {
    lines: Vec<(&'static str, Vec<String>)>,
}

impl Iptables {
    /// Finds the programs called `name`, `name-save` and `name-restore`.
    pub(super) fn find(tools: &Toolbox, name: &str) -> Option<Self> {
        Some(Self {
            iptables: tools.find(name)?,
            save: tools.find(&format!("{name}-save"))?,
            restore: tools.find(&format!("{name}-restore"))?,
        })
    }

    /// The file that the command resolves to, which identifies the flavour.
    pub(super) fn real_path(&self) -> Option<PathBuf> {
        std::fs::canonicalize(&self.iptables).ok()
    }

    /// Replaces the content of the daemon's chains with the wanted rules, and removes chains that
    /// are no longer wanted.
    pub(super) async fn install(&self, spec: &RuleSpec) -> Result<IptablesRules, ToolError> {
        let fully_random = spec.fully_random && spec.masquerade && self.knows_fully_random().await;
        match self.restore(spec, fully_random).await {
            // The tool supports --random-fully and the kernel does not.
            Err(ToolError::Failed { said, .. }) if fully_random => {
                tracing::info!(%said, "continuing without random source ports for masquerading");
                self.restore(spec, false).await
            }
            outcome => outcome,
        }
    }

    /// Returns whether all installed rules still exist in their order. Rules of other programs
    /// before or between them are ignored.
    pub(super) async fn intact(&self, installed: &IptablesRules) -> Result<bool, ToolError> {
        for chain in CHAINS {
            let Some((_, wanted)) = installed.lines.iter().find(|(name, _)| *name == chain.name)
            else {
                continue;
            };
            let now = self.lines(&chain).await?;
            let mut found = now.iter();
            if !wanted.iter().all(|line| found.any(|other| other == line)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes every rule with the daemon's comments, and each of its chains unless another program
    /// has a rule in the chain or a jump to it. Returns one command line per removal, also for a
    /// dry run.
    pub(super) async fn remove(
        &self,
        chains: &[FlannelChain],
        dry_run: bool,
    ) -> Result<Vec<String>, ToolError> {
        let mut removed = Vec::new();
        for chain in chains {
            if self.real_path().is_some_and(|program| would_make_table(&program, chain.table)) {
                continue;
            }
            let saved = self.save(chain).await?;
            let (text, what) = removal(chain, &saved);
            if !what.is_empty() && !dry_run {
                self.feed(&text).await?;
            }
            removed
                .extend(what.into_iter().map(|line| format!("iptables -t {} {line}", chain.table)));
        }
        Ok(removed)
    }

    async fn restore(
        &self,
        spec: &RuleSpec,
        fully_random: bool,
    ) -> Result<IptablesRules, ToolError> {
        let mut installed = IptablesRules::default();
        for chain in CHAINS {
            let rules = chain.rules(spec, fully_random);
            if rules.is_empty() {
                // An earlier run may have installed the chain, which is no longer wanted.
                if self.knows_chain(&chain).await {
                    self.remove(&[chain], false).await?;
                }
                continue;
            }
            let before = self.save(&chain).await?;
            self.feed(&transaction(&chain, &rules, &before)).await?;
            installed.lines.push((chain.name, self.lines(&chain).await?));
        }
        Ok(installed)
    }

    async fn knows_chain(&self, chain: &FlannelChain) -> bool {
        run(&self.iptables, &["-w", "-t", chain.table, "-S", chain.name], "").await.is_ok()
    }

    /// Returns the lines of `iptables-save` for the jump to a chain of the daemon and for its
    /// rules.
    async fn lines(&self, chain: &FlannelChain) -> Result<Vec<String>, ToolError> {
        let saved = self.save(chain).await?;
        Ok(saved.lines().filter(|line| is_ours(chain, line)).map(str::to_owned).collect())
    }

    async fn save(&self, chain: &FlannelChain) -> Result<String, ToolError> {
        run(&self.save, &["-t", chain.table], "").await
    }

    async fn feed(&self, text: &str) -> Result<(), ToolError> {
        run(&self.restore, &["--noflush", "-w"], text).await.map(drop)
    }

    /// `--random-fully` came with iptables 1.6.2.
    async fn knows_fully_random(&self) -> bool {
        let said = run(&self.iptables, &["--version"], "").await.unwrap_or_default();
        version_of(&said).is_some_and(|version| version >= [1, 6, 2])
    }
}

/// Parses a version: `iptables v1.8.9 (nf_tables)` to `[1, 8, 9]`.
fn version_of(said: &str) -> Option<[u32; 3]> {
    let number = said.split_whitespace().nth(1)?.strip_prefix('v')?;
    let mut parts = number.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)])
}

/// Returns the input of `iptables-restore --noflush` that replaces the rules of a chain and moves
/// the jump to it to the end of its built-in chain, where flannel places the jump. Declaring a
/// chain that is not built-in empties it (iptables-restore(8)).
fn transaction(chain: &FlannelChain, rules: &[String], before: &str) -> String {
    let jump = chain.jump();
    let mut text = format!("*{}\n:{} - [0:0]\n", chain.table, chain.name);
    for line in before.lines().filter_map(|line| line.strip_prefix("-A ")) {
        if is_jump(chain, line) {
            let _ = writeln!(text, "-D {line}");
        }
    }
    let _ = writeln!(text, "-A {jump}");
    for rule in rules {
        let _ = writeln!(text, "-A {rule}");
    }
    text.push_str("COMMIT\n");
    text
}

/// Returns the input that removes the daemon's rules, and the commands that are equivalent to it.
fn removal(chain: &FlannelChain, saved: &str) -> (String, Vec<String>) {
    let mut commands = Vec::new();
    let (mut declared, mut others) = (false, false);
    let comment = format!("--comment \"{}\"", chain.comment);
    for line in saved.lines() {
        declared |= line.strip_prefix(':').is_some_and(|l| first_word(l) == chain.name);
        let Some(rule) = line.strip_prefix("-A ") else { continue };
        if rule.contains(&comment) {
            commands.push(format!("-D {rule}"));
        } else if first_word(rule) == chain.name || target(rule) == Some(chain.name) {
            others = true;
        }
    }
    if declared && !others {
        commands.push(format!("-X {}", chain.name));
    }
    let text = format!("*{}\n{}\nCOMMIT\n", chain.table, commands.join("\n"));
    (text, commands)
}

fn is_ours(chain: &FlannelChain, line: &str) -> bool {
    line.strip_prefix("-A ").is_some_and(|rule| {
        first_word(rule) == chain.name || (first_word(rule) == chain.hook && is_jump(chain, rule))
    })
}

/// Returns whether a rule is the daemon's jump to its chain. A jump without the daemon's comment
/// belongs to another program.
fn is_jump(chain: &FlannelChain, rule: &str) -> bool {
    target(rule) == Some(chain.name) && rule.contains(&format!("--comment \"{}\"", chain.comment))
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
    use super::super::rules::{FORWARD, MASQ};
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version_of("iptables v1.8.9 (nf_tables)\n"), Some([1, 8, 9]));
        assert_eq!(version_of("iptables v1.4.21"), Some([1, 4, 21]));
        assert_eq!(version_of("iptables v1.8 (legacy)"), Some([1, 8, 0]));
        assert_eq!(version_of(""), None);
    }

    #[test]
    fn removal_leaves_the_rules_of_other_programs() {
        let saved = "*nat\n:POSTROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n:FLANNEL-POSTRTG - [0:0]\n\
            -A POSTROUTING -j DOCKER\n\
            -A POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG\n\
            -A POSTROUTING -s 10.0.0.0/16 -m comment --comment \"flanneld masq\" -j MASQUERADE\n\
            -A FLANNEL-POSTRTG -s 10.0.7.0/24 -m comment --comment \"flanneld masq\" -j RETURN\n\
            COMMIT\n";
        let (_, commands) = removal(&MASQ, saved);
        assert_eq!(commands.len(), 4);
        assert_eq!(commands.last().unwrap(), "-X FLANNEL-POSTRTG");
        // Another program's rule in the chain keeps the chain, and so does its jump to the chain.
        for theirs in ["-A FLANNEL-POSTRTG -p tcp -j ACCEPT\n", "-A DOCKER -j FLANNEL-POSTRTG\n"] {
            let (_, commands) = removal(&MASQ, &saved.replace("COMMIT\n", theirs));
            assert_eq!(commands.len(), 3);
            assert!(commands.iter().all(|command| command.starts_with("-D ")));
        }
        assert!(removal(&FORWARD, saved).1.is_empty());
    }

    #[test]
    fn an_existing_jump_moves_to_the_end() {
        let before = "-A FORWARD -j FLANNEL-FWD\n\
            -A FORWARD -m comment --comment \"flanneld forward\" -j FLANNEL-FWD\n\
            -A FORWARD -m comment --comment \"flanneld forward\" -j FLANNEL-FWD\n";
        let text = transaction(&FORWARD, &["FLANNEL-FWD -j ACCEPT".into()], before);
        assert_eq!(text.matches("-D FORWARD").count(), 2);
        assert_eq!(text.matches("-A FORWARD").count(), 1);
        assert!(text.starts_with("*filter\n:FLANNEL-FWD - [0:0]\n") && text.ends_with("COMMIT\n"));
    }
}
