//! Masquerade and forward rules: installed in one transaction, checked periodically, removed on
//! request.
//!
//! The rules are those of flannel, installed with iptables where it exists, so that either daemon
//! can take over from the other. nftables is used if the network config sets EnableNFTables or
//! iptables is not installed; an `accept` in the daemon's own table is final only for that table
//! (nft(8)), so another table may still drop the packet.

mod iptables;
mod legacy;
mod nft;
mod rules;
mod tools;

use std::time::Duration;

use tokio::sync::watch;

use self::iptables::{Iptables, IptablesRules};
use self::nft::{Nft, NftRules};
use self::rules::CHAINS;
pub use self::rules::{RuleSpec, masquerade_rule};
pub(crate) use self::tools::run;
pub use self::tools::{ToolError, Toolbox};
use super::subnet_file::PreviousSubnetFile;

/// The wanted rules cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// Neither iptables nor nft is installed.
    #[error(
        "{flags} needs firewall rules, but neither iptables (with iptables-save and \
         iptables-restore) nor nft is installed; install one of them, or disable the rules"
    )]
    NoTool {
        /// The flags that need rules.
        flags: &'static str,
    },
    /// The network config sets EnableNFTables, and nft is not installed.
    #[error(
        "the network config sets EnableNFTables, but the nft program is not installed; install \
         nftables, or remove EnableNFTables from the config"
    )]
    NoNft,
    /// The tool failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// The firewall rules of the daemon.
#[derive(Debug)]
pub struct Firewall {
    tools: Toolbox,
    spec: RuleSpec,
    rules: ActiveRules,
}

#[derive(Debug)]
enum ActiveRules {
    /// No rules are wanted.
    NotWanted,
    /// Rules are wanted, and installing them has failed so far.
    Missing,
    Iptables(Iptables, IptablesRules),
    Nft(Nft, NftRules),
}

impl Firewall {
    /// Installs the rules of `spec`, and removes those of an earlier run: rules for another network
    /// or subnet, rules that are no longer wanted, rules that were installed with the other tool.
    ///
    /// A failure to install forward rules alone is logged, and [`Self::check`] tries again.
    ///
    /// # Errors
    /// Masquerade rules are wanted and cannot be installed.
    pub async fn install(
        spec: RuleSpec,
        previous: &PreviousSubnetFile,
        tools: Toolbox,
    ) -> Result<Self, FirewallError> {
        if let (Some(network), Some(subnet)) = (previous.network, previous.subnet)
            && (network, subnet) != (spec.network, spec.subnet)
        {
            tracing::info!(
                "Current network or subnet ({}, {}) is not equal to previous one ({network}, \
                 {subnet}), trying to recycle old iptables rules",
                spec.network,
                spec.subnet
            );
        }
        let rules = match apply(&spec, &tools).await {
            // Forward rules are wanted by default and matter only where the FORWARD policy is to
            // drop, so a host without a firewall tool must not stay without an overlay. flannel
            // does the same.
            Err(error) if !spec.masquerade => {
                tracing::error!("continuing without rules to accept forwarded packets: {error}");
                ActiveRules::Missing
            }
            outcome => outcome?,
        };
        remove_other_kind(&rules, &tools).await;
        let firewall = Self { tools, spec, rules };
        match firewall.rules {
            ActiveRules::NotWanted | ActiveRules::Missing => {}
            _ => tracing::info!(
                masquerade = firewall.spec.masquerade,
                forward = firewall.spec.forward,
                with = firewall.tool(),
                "firewall rules in place"
            ),
        }
        Ok(firewall)
    }

    /// Name of the tool that holds the rules; `none` if no rules are installed.
    pub fn tool(&self) -> &'static str {
        match self.rules {
            ActiveRules::NotWanted | ActiveRules::Missing => "none",
            ActiveRules::Iptables(..) => "iptables",
            ActiveRules::Nft(..) => "nftables",
        }
    }

    /// Checks the rules once and restores them; returns true if a rule was missing.
    ///
    /// # Errors
    /// The tool fails.
    pub async fn check(&mut self) -> Result<bool, FirewallError> {
        let intact = match &self.rules {
            ActiveRules::NotWanted => true,
            ActiveRules::Missing => {
                self.rules = apply(&self.spec, &self.tools).await?;
                tracing::info!(with = self.tool(), "firewall rules in place");
                return Ok(true);
            }
            ActiveRules::Iptables(tool, installed) => tool.intact(installed).await?,
            ActiveRules::Nft(tool, installed) => tool.intact(installed).await?,
        };
        if !intact {
            tracing::info!("Some {} rules are missing; deleting and recreating rules", self.tool());
            self.rules = apply(&self.spec, &self.tools).await?;
            tracing::info!("bootstrap done");
        }
        Ok(!intact)
    }

    /// Replaces the rules in one transaction, for example after the lease of another subnet.
    ///
    /// # Errors
    /// The tool fails; the old rules stay.
    pub async fn replace(&mut self, spec: RuleSpec) -> Result<(), FirewallError> {
        self.rules = apply(&spec, &self.tools).await?;
        self.spec = spec;
        Ok(())
    }

    /// Checks the rules every `period`, and applies changes of the wanted ones, until the sender of
    /// `specs` is dropped.
    pub async fn run(mut self, period: Duration, mut specs: watch::Receiver<RuleSpec>) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.reset();
        let mut last_error = String::new();
        loop {
            let outcome = tokio::select! {
                _ = ticks.tick() => self.check().await.map(drop),
                changed = specs.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let spec = specs.borrow_and_update().clone();
                    if spec == self.spec { Ok(()) } else { self.replace(spec).await }
                }
            };
            // An error that persists is logged once.
            let error = outcome.err().map(|error| error.to_string()).unwrap_or_default();
            if error != last_error {
                if error.is_empty() {
                    tracing::info!("firewall rules can be checked again");
                } else {
                    tracing::error!("cannot check the firewall rules: {error}");
                }
                last_error = error;
            }
        }
    }
}

/// Removes every rule that this program or flanneld has installed, from every iptables and nftables
/// of this host; returns one command line per removal. With `dry_run`, it only returns them.
///
/// # Errors
/// A tool fails.
pub async fn cleanup(tools: &Toolbox, dry_run: bool) -> Result<Vec<String>, ToolError> {
    let mut removed = Vec::new();
    let mut seen = Vec::new();
    for name in ["iptables", "iptables-nft", "iptables-legacy"] {
        let Some(tool) = Iptables::find(tools, name) else { continue };
        let path = tool.real_path();
        if seen.contains(&path) {
            continue;
        }
        seen.push(path);
        match tool.remove(&CHAINS, dry_run).await {
            Ok(lines) => removed.extend(lines),
            // The kernel may support only one of the two flavours.
            Err(error) if name != "iptables" => tracing::debug!(%error, "{name} is not usable"),
            Err(error) => return Err(error),
        }
    }
    if let Some(tool) = Nft::find(tools) {
        removed.extend(tool.remove(dry_run).await?);
    }
    Ok(removed)
}

async fn apply(spec: &RuleSpec, tools: &Toolbox) -> Result<ActiveRules, FirewallError> {
    let flags = match (spec.masquerade, spec.forward) {
        (false, false) => {
            remove_all(spec, tools).await;
            return Ok(ActiveRules::NotWanted);
        }
        (true, false) => "--ip-masq",
        (false, true) => "--iptables-forward-rules",
        (true, true) => "--ip-masq (and --iptables-forward-rules, which is on by default)",
    };
    if !spec.nftables
        && let Some(tool) = Iptables::find(tools, "iptables")
    {
        let installed = tool.install(spec).await?;
        return Ok(ActiveRules::Iptables(tool, installed));
    }
    match Nft::find(tools) {
        Some(tool) => {
            let installed = tool.install(spec).await?;
            Ok(ActiveRules::Nft(tool, installed))
        }
        None if spec.nftables => Err(FirewallError::NoNft),
        None => Err(FirewallError::NoTool { flags }),
    }
}

/// Removes the rules of an earlier run where no rules are wanted, if a tool is installed.
async fn remove_all(spec: &RuleSpec, tools: &Toolbox) {
    let outcome = async {
        if let Some(tool) = Iptables::find(tools, "iptables") {
            tool.install(spec).await?;
        }
        match Nft::find(tools) {
            Some(tool) => tool.remove(false).await.map(drop),
            None => Ok(()),
        }
    };
    if let Err(error) = outcome.await {
        tracing::debug!(%error, "cannot check the firewall for old rules; no rules are wanted");
    }
}

/// Removes the rules that an earlier run installed with the other tool: they would apply twice.
async fn remove_other_kind(rules: &ActiveRules, tools: &Toolbox) {
    let outcome = match rules {
        ActiveRules::NotWanted | ActiveRules::Missing => return,
        ActiveRules::Iptables(..) => match Nft::find(tools) {
            Some(tool) => tool.remove(false).await,
            None => return,
        },
        ActiveRules::Nft(..) => match Iptables::find(tools, "iptables") {
            Some(tool) => tool.remove(&CHAINS, false).await,
            None => return,
        },
    };
    match outcome {
        Ok(removed) if removed.is_empty() => {}
        Ok(_) => tracing::info!(
            "removed the rules that an earlier run had installed with the other tool"
        ),
        Err(error) => tracing::debug!(%error, "cannot check the other tool for old rules"),
    }
}
