//! Masquerade and forward rules: put in place in one step, looked after, taken away on request.
//!
//! iptables is used where there is one, with flannel's own text, so that either daemon can take over
//! from the other. nftables is used where the network config asks for it or no iptables exists; an
//! `accept` there ends only our own table's look at a packet, as nftables has it, so another table
//! may still drop.

mod iptables;
mod nft;
mod rules;
mod tools;

use std::time::Duration;

use tokio::sync::watch;

use self::iptables::{Iptables, IptablesRules};
use self::nft::{Nft, NftRules};
use self::rules::CHAINS;
pub use self::rules::{Spec, masquerade_rule};
pub(crate) use self::tools::run;
pub use self::tools::{ToolError, Toolbox};
use super::subnet_file::PreviousSubnetFile;

/// Rules that are wanted cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// Neither tool exists.
    #[error(
        "{flags} wants firewall rules, but neither iptables (with iptables-save and \
         iptables-restore) nor nft is installed; install one of them, or turn the rules off"
    )]
    NoTool {
        /// The flags that want rules.
        flags: &'static str,
    },
    /// The network config wants nftables.
    #[error(
        "the network config sets EnableNFTables, but the nft program is not installed; install \
         nftables, or take EnableNFTables out of the config"
    )]
    NoNft,
    /// The tool refuses.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// Rules in force.
#[derive(Debug)]
pub struct Firewall {
    tools: Toolbox,
    spec: Spec,
    rules: ActiveRules,
}

#[derive(Debug)]
enum ActiveRules {
    /// No rule is wanted.
    NotWanted,
    /// Rules are wanted and could not be had yet.
    Missing,
    Iptables(Iptables, IptablesRules),
    Nft(Nft, NftRules),
}

impl Firewall {
    /// Puts the rules of `spec` in force, and removes what an earlier run left: rules for another
    /// network or subnet, rules that are no longer wanted, rules in the other kind of firewall.
    ///
    /// Masquerading that cannot be had is an error; rules to accept forwarded packets are tried again
    /// by [`Self::check`].
    pub async fn install(
        spec: Spec,
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
            // On by default, and without it packets are dropped only where somebody asks for that:
            // no reason for a host without a firewall to stay without an overlay. As flannel.
            Err(error) if !spec.masquerade => {
                tracing::error!("going on without rules to accept forwarded packets: {error}");
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

    /// The program that holds the rules, if any are wanted.
    pub fn tool(&self) -> &'static str {
        match self.rules {
            ActiveRules::NotWanted | ActiveRules::Missing => "none",
            ActiveRules::Iptables(..) => "iptables",
            ActiveRules::Nft(..) => "nftables",
        }
    }

    /// Looks after the rules once: true if something was missing and has been restored.
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

    /// Changes over to other rules in one step, as after a lease of another subnet.
    pub async fn replace(&mut self, spec: Spec) -> Result<(), FirewallError> {
        self.rules = apply(&spec, &self.tools).await?;
        self.spec = spec;
        Ok(())
    }

    /// Looks after the rules every `period`, and follows changes of the wanted ones, until the
    /// sender of `specs` is dropped.
    pub async fn run(mut self, period: Duration, mut specs: watch::Receiver<Spec>) {
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
            // The same trouble every few seconds is told once.
            let error = outcome.err().map(|error| error.to_string()).unwrap_or_default();
            if error != last_error {
                if error.is_empty() {
                    tracing::info!("firewall rules can be checked again");
                } else {
                    tracing::error!("cannot look after the firewall rules: {error}");
                }
                last_error = error;
            }
        }
    }
}

/// Removes every rule that this program or flanneld has installed, from all firewalls of this host
/// that can be reached; returns what was removed as the commands that would do it, a line each.
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
            // The kernel may have only one of the two flavours.
            Err(error) if name != "iptables" => tracing::debug!(%error, "{name} is not usable"),
            Err(error) => return Err(error),
        }
    }
    if let Some(tool) = Nft::find(tools) {
        removed.extend(tool.remove(dry_run).await?);
    }
    Ok(removed)
}

async fn apply(spec: &Spec, tools: &Toolbox) -> Result<ActiveRules, FirewallError> {
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

/// Nothing is wanted: take away what an earlier run left, if there is a tool to do so.
async fn remove_all(spec: &Spec, tools: &Toolbox) {
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
        tracing::debug!(%error, "no look at the firewall, and no rule is wanted");
    }
}

/// Rules of an earlier run that used the other tool would apply twice.
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
        Ok(_) => tracing::info!("removed the rules that an earlier run had put elsewhere"),
        Err(error) => tracing::debug!(%error, "no look at the other kind of firewall"),
    }
}
