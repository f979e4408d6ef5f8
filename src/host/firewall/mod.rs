//! Masquerade and forward rules, and rules that protect the UDP port: installed in one transaction per table,
//! checked periodically, removed on request.
//!
//! The masquerade and forward rules are those of flannel, installed with iptables where it exists, so that either
//! daemon can take over from the other. nftables is used if the network config sets EnableNFTables or
//! iptables is not installed; an `accept` in the daemon's own table is final only for that table
//! (nft(8)), so another table may still drop the packet.
//!
//! Several daemons may run on one host, each with a network of its own, and share flannel's chains: each touches
//! only the rules about its own network (`ownership`).

mod cleanup;
mod containers;
mod iptables;
pub(crate) mod legacy;
mod lock;
mod nft;
mod notrack;
mod ownership;
mod port;
mod rules;
mod tools;

use std::time::Duration;

use tokio::sync::watch;

pub use self::cleanup::{Cleanup, CleanupScope, cleanup};
use self::cleanup::{remove_all, remove_other_kind};
use self::iptables::{InstalledChain, Iptables};
use self::nft::{Nft, NftRules};
use self::ownership::Owned;
pub use self::port::PortSpec;
use self::rules::{CHAINS, FlannelChain, MASQ};
pub use self::rules::{RuleSpec, masquerade_rule};
pub(crate) use self::tools::run;
pub use self::tools::{ToolError, Toolbox};
use super::subnet_file::PreviousSubnetFile;
use crate::route::Cidr;

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
    /// The wanted rules as the caller gave them.
    given: RuleSpec,
    /// The same with the interfaces on the containers' side.
    spec: RuleSpec,
    /// The networks whose rules are this daemon's: its own and that of the run before.
    owned: Vec<Cidr>,
    rules: ActiveRules,
}

#[derive(Debug)]
enum ActiveRules {
    /// No rules are wanted.
    NotWanted,
    /// Rules are wanted, and no tool could be used so far.
    Missing(String),
    Iptables(Iptables, Vec<InstalledChain>, Vec<(FlannelChain, ToolError)>),
    Nft(Nft, NftRules),
}

impl Firewall {
    /// Installs the rules of `spec`, and removes those of an earlier run: rules for another network
    /// or subnet, rules that are no longer wanted, rules that were installed with the other tool.
    ///
    /// A failure to install other rules than those for masquerading is a problem ([`Self::problems`]), and
    /// [`Self::check`] tries again.
    ///
    /// # Errors
    /// Masquerade rules are wanted and cannot be installed.
    pub async fn install(
        given: RuleSpec,
        previous: &PreviousSubnetFile,
        tools: Toolbox,
    ) -> Result<Self, FirewallError> {
        let mut owned = vec![given.network];
        if let (Some(network), Some(subnet)) = (previous.network, previous.subnet)
            && (network, subnet) != (given.network, given.subnet)
        {
            tracing::info!(
                "Current network or subnet ({}, {}) is not equal to previous one ({network}, \
                 {subnet}), trying to recycle old iptables rules",
                given.network,
                given.subnet
            );
            owned.push(network);
        }
        let spec = with_containers(&given).await;
        let rules = match apply(&spec, &owned, &tools).await {
            // The other rules are wanted by default and matter only in some networks, so a host without a
            // firewall tool must not stay without an overlay. flannel does the same.
            Err(error) if !spec.masquerade => {
                tracing::debug!("continuing without firewall rules: {error}");
                ActiveRules::Missing(error.brief())
            }
            outcome => outcome?,
        };
        remove_other_kind(&rules, &owned, &tools).await;
        let firewall = Self { tools, given, spec, owned, rules };
        match firewall.rules {
            ActiveRules::NotWanted | ActiveRules::Missing(_) => {}
            _ => tracing::info!(
                masquerade = firewall.spec.masquerade,
                forward = firewall.spec.forward,
                port = firewall.spec.port.as_ref().map(|spec| spec.port),
                with = firewall.tool(),
                "firewall rules in place"
            ),
        }
        Ok(firewall)
    }

    /// Name of the tool that holds the rules; `none` if no rules are installed.
    pub fn tool(&self) -> &'static str {
        match self.rules {
            ActiveRules::NotWanted | ActiveRules::Missing(_) => "none",
            ActiveRules::Iptables(..) => "iptables",
            ActiveRules::Nft(..) => "nftables",
        }
    }

    /// What is missing, in a sentence each.
    pub fn problems(&self) -> Vec<String> {
        match &self.rules {
            ActiveRules::Missing(error) => vec![format!("the firewall rules are missing: {error}")],
            ActiveRules::Iptables(.., failed) => {
                let sentence = |(chain, error): &(FlannelChain, ToolError)| {
                    format!("the rules to {} are missing: {}", chain.purpose, error.brief())
                };
                failed.iter().map(sentence).collect()
            }
            _ => vec![],
        }
    }

    /// Checks the rules once and restores them; returns true if a rule was missing.
    ///
    /// # Errors
    /// The tool fails.
    pub async fn check(&mut self) -> Result<bool, FirewallError> {
        let spec = with_containers(&self.given).await;
        if spec != self.spec {
            tracing::info!(
                containers = ?spec.port.as_ref().map(|port| &port.containers),
                "updating the firewall rules for the containers' interfaces"
            );
            self.spec = spec;
            self.rules = apply(&self.spec, &self.owned, &self.tools).await?;
            return Ok(false);
        }
        let intact = match &mut self.rules {
            ActiveRules::NotWanted => true,
            ActiveRules::Missing(_) => {
                self.rules = apply(&self.spec, &self.owned, &self.tools).await?;
                tracing::info!(with = self.tool(), "firewall rules in place");
                return Ok(true);
            }
            ActiveRules::Iptables(tool, installed, failed) => {
                let again = failed.drain(..).map(|(chain, _)| chain).collect::<Vec<_>>();
                let (more, still) =
                    install_chains(tool, &again, &self.spec, Owned::Networks(&self.owned)).await?;
                installed.extend(more);
                *failed = still;
                let mut intact = true;
                for chain in installed {
                    intact &= tool.intact(chain).await?;
                }
                intact
            }
            ActiveRules::Nft(tool, installed) => tool.intact(installed).await?,
        };
        if !intact {
            tracing::info!(
                kind = "repair",
                "Some {} rules are missing; deleting and recreating rules",
                self.tool()
            );
            self.rules = apply(&self.spec, &self.owned, &self.tools).await?;
            tracing::info!("bootstrap done");
        }
        Ok(!intact)
    }

    /// Replaces the rules in one transaction, for example after the lease of another subnet.
    ///
    /// # Errors
    /// The tool fails; the old rules stay.
    pub async fn replace(&mut self, given: RuleSpec) -> Result<(), FirewallError> {
        let spec = with_containers(&given).await;
        self.rules = apply(&spec, &self.owned, &self.tools).await?;
        (self.given, self.spec) = (given, spec);
        Ok(())
    }

    /// Checks the rules every `period`, and applies changes of the wanted ones, until the sender of
    /// `specs` is dropped. `report` gets what is wrong, in a sentence each, after every check.
    pub async fn run(
        mut self,
        period: Duration,
        mut specs: watch::Receiver<RuleSpec>,
        report: impl Fn(Vec<String>),
    ) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.reset();
        report(self.problems());
        loop {
            let outcome = tokio::select! {
                _ = ticks.tick() => self.check().await.map(drop),
                changed = specs.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let given = specs.borrow_and_update().clone();
                    if given == self.given { Ok(()) } else { self.replace(given).await }
                }
            };
            let mut problems = self.problems();
            if let Err(error) = outcome {
                tracing::debug!("{error}");
                problems.push(format!("the firewall rules cannot be checked: {}", error.brief()));
            }
            report(problems);
        }
    }
}

impl FirewallError {
    /// The error in one line.
    fn brief(&self) -> String {
        match self {
            Self::Tool(error) => error.brief(),
            _ => self.to_string(),
        }
    }
}

/// Adds the interfaces that the containers of this host are behind now.
async fn with_containers(given: &RuleSpec) -> RuleSpec {
    let mut spec = given.clone();
    if let Some(port) = &mut spec.port {
        let others = [port.underlay.as_str(), port.device.as_str(), "lo"];
        match containers::interfaces(given.subnet, &others).await {
            Ok(names) => port.containers = names,
            Err(error) => tracing::debug!("cannot look for the containers' interfaces: {error}"),
        }
    }
    spec
}

async fn apply(
    spec: &RuleSpec,
    owned: &[Cidr],
    tools: &Toolbox,
) -> Result<ActiveRules, FirewallError> {
    tracing::debug!(
        kind = "firewall",
        subnet = %spec.subnet,
        masquerade = spec.masquerade,
        forward = spec.forward,
        port = spec.port.as_ref().map(|port| port.port),
        "updating the firewall rules"
    );
    let owned = Owned::Networks(owned);
    let flags = match (spec.masquerade, spec.forward, spec.port.is_some()) {
        (false, false, false) if spec.notrack.is_some() => "--notrack",
        (false, false, false) => {
            remove_all(spec, owned, tools).await;
            return Ok(ActiveRules::NotWanted);
        }
        (true, false, false) => "--ip-masq",
        (true, ..) => "--ip-masq (and other flags, which are on by default)",
        (false, true, _) => "--iptables-forward-rules",
        (false, false, true) => "--protect-port",
    };
    if !spec.nftables
        && let Some(tool) = Iptables::find(tools, "iptables")
    {
        let (installed, failed) = install_chains(&tool, &CHAINS, spec, owned).await?;
        return Ok(ActiveRules::Iptables(tool, installed, failed));
    }
    match Nft::find(tools) {
        Some(tool) => {
            let installed = tool.install(spec, owned).await?;
            Ok(ActiveRules::Nft(tool, installed))
        }
        None if spec.nftables => Err(FirewallError::NoNft),
        None => Err(FirewallError::NoTool { flags }),
    }
}

/// Installs chains with iptables; returns the installed ones, and those that failed with their errors.
///
/// # Errors
/// The chain for masquerading is wanted and cannot be installed.
async fn install_chains(
    tool: &Iptables,
    chains: &[FlannelChain],
    spec: &RuleSpec,
    owned: Owned<'_>,
) -> Result<(Vec<InstalledChain>, Vec<(FlannelChain, ToolError)>), ToolError> {
    let (mut installed, mut failed) = (Vec::new(), Vec::new());
    for chain in chains {
        match tool.install(*chain, spec, owned).await {
            Ok(rules) => installed.extend(rules),
            Err(error) if chain.rules(spec, false).is_empty() => {
                tracing::debug!(%error, "cannot look for old rules in {}", chain.name);
            }
            Err(error) if *chain == MASQ => return Err(error),
            Err(error) => failed.push((*chain, error)),
        }
    }
    Ok((installed, failed))
}
