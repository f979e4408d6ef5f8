//! Removal of rules: those of an earlier run, and at the end of all.

use super::iptables::Iptables;
use super::nft::Nft;
use super::ownership::Owned;
use super::rules::{CHAINS, RuleSpec};
use super::tools::{ToolError, Toolbox};
use super::{ActiveRules, install_chains};
use crate::route::Cidr;

/// The rules that [`cleanup`] removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CleanupScope {
    /// Those about these networks.
    Networks(Vec<Cidr>),
    /// Every rule of this program or of flanneld.
    All,
}

/// What [`cleanup`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleanup {
    /// One command line per removal.
    pub removed: Vec<String>,
    /// Rules of this program or of flanneld about other networks.
    pub left: Vec<String>,
}

/// Removes the rules in `scope` that this program or flanneld has installed, from every iptables and nftables
/// of this host. With `dry_run`, it only returns what it would do.
///
/// # Errors
/// A tool fails.
pub async fn cleanup(
    tools: &Toolbox,
    scope: &CleanupScope,
    dry_run: bool,
) -> Result<Cleanup, ToolError> {
    let owned = match scope {
        CleanupScope::Networks(networks) => Owned::Networks(networks),
        CleanupScope::All => Owned::All,
    };
    let mut found = Cleanup::default();
    let mut seen = Vec::new();
    for name in ["iptables", "iptables-nft", "iptables-legacy"] {
        let Some(tool) = Iptables::find(tools, name) else { continue };
        let path = tool.real_path();
        if seen.contains(&path) {
            continue;
        }
        seen.push(path);
        match cleanup_iptables(&tool, owned, dry_run, &mut found).await {
            Ok(()) => {}
            // The kernel may support only one of the two flavours.
            Err(error) if name != "iptables" => tracing::debug!(%error, "{name} is not usable"),
            Err(error) => return Err(error),
        }
    }
    if let Some(tool) = Nft::find(tools) {
        found.left.extend(tool.foreign(owned).await?);
        found.removed.extend(tool.remove(owned, dry_run).await?);
    }
    Ok(found)
}

async fn cleanup_iptables(
    tool: &Iptables,
    owned: Owned<'_>,
    dry_run: bool,
    found: &mut Cleanup,
) -> Result<(), ToolError> {
    for chain in CHAINS {
        found.left.extend(tool.foreign(&chain, owned).await?);
        found.removed.extend(tool.remove(&chain, owned, dry_run).await?);
    }
    Ok(())
}

/// Removes the rules of an earlier run where no rules are wanted, if a tool is installed.
pub(super) async fn remove_all(spec: &RuleSpec, owned: Owned<'_>, tools: &Toolbox) {
    let outcome = async {
        if let Some(tool) = Iptables::find(tools, "iptables") {
            install_chains(&tool, &CHAINS, spec, owned).await?;
        }
        match Nft::find(tools) {
            Some(tool) => tool.remove(owned, false).await.map(drop),
            None => Ok(()),
        }
    };
    if let Err(error) = outcome.await {
        tracing::debug!(%error, "cannot check the firewall for old rules; no rules are wanted");
    }
}

/// Removes the rules that an earlier run installed with the other tool: they would apply twice.
pub(super) async fn remove_other_kind(rules: &ActiveRules, owned: &[Cidr], tools: &Toolbox) {
    let owned = Owned::Networks(owned);
    let outcome = match rules {
        ActiveRules::NotWanted | ActiveRules::Missing(_) => return,
        ActiveRules::Iptables(..) => match Nft::find(tools) {
            Some(tool) => tool.remove(owned, false).await,
            None => return,
        },
        ActiveRules::Nft(..) => match Iptables::find(tools, "iptables") {
            Some(tool) => {
                let mut found = Cleanup::default();
                let outcome = cleanup_iptables(&tool, owned, false, &mut found).await;
                outcome.map(|()| found.removed)
            }
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
