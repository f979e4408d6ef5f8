//! Rules in nftables, installed with `nft -f`: one transaction replaces the daemon's whole table.

use std::path::PathBuf;

use super::rules::{NFT_TABLE, RuleSpec, nft_removal, nft_transaction};
use super::tools::{ToolError, Toolbox, run};

/// The nft program.
#[derive(Clone, Debug)]
pub(super) struct Nft {
    program: PathBuf,
}

/// The daemon's table as nft listed it after it was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NftRules {
    listing: String,
}

impl Nft {
    pub(super) fn find(tools: &Toolbox) -> Option<Self> {
        Some(Self { program: tools.find("nft")? })
    }

    /// Installs the wanted rules.
    pub(super) async fn install(&self, spec: &RuleSpec) -> Result<NftRules, ToolError> {
        let random = spec.masquerade && spec.fully_random && self.accepts(spec).await;
        run(&self.program, &["-f", "-"], &nft_transaction(spec, random)).await?;
        Ok(NftRules { listing: self.listing().await?.unwrap_or_default() })
    }

    /// Returns whether the table is still as it was installed.
    pub(super) async fn intact(&self, installed: &NftRules) -> Result<bool, ToolError> {
        Ok(self.listing().await?.as_ref() == Some(&installed.listing))
    }

    /// Removes the daemon's table; returns the equivalent command if there was one.
    pub(super) async fn remove(&self, dry_run: bool) -> Result<Vec<String>, ToolError> {
        if self.listing().await?.is_none() {
            return Ok(vec![]);
        }
        if !dry_run {
            run(&self.program, &["-f", "-"], &nft_removal()).await?;
        }
        Ok(vec![format!("nft delete table ip {NFT_TABLE}")])
    }

    /// Returns whether tool and kernel support random source ports.
    async fn accepts(&self, spec: &RuleSpec) -> bool {
        run(&self.program, &["--check", "-f", "-"], &nft_transaction(spec, true)).await.is_ok()
    }

    /// Lists the table without counters; `None` if there is none.
    async fn listing(&self) -> Result<Option<String>, ToolError> {
        match run(&self.program, &["-s", "list", "table", "ip", NFT_TABLE], "").await {
            Ok(listing) => Ok(Some(listing)),
            Err(ToolError::Failed { said, .. }) if said.contains("No such file") => Ok(None),
            Err(error) => Err(error),
        }
    }
}
