//! The links between the lab's hosts.

use std::fmt;

use super::{LabError, tool};
use crate::sys::netns::Netns;

/// The offloads of the underlay's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum UnderlayKind {
    /// The defaults of a veth pair, which passes GSO packets of up to 64 KiB whole, as no real link does.
    #[default]
    Veth,
    /// As a plain network card: the kernel segments packets in software before the link and coalesces them
    /// behind it (GSO and GRO), so no packet on the link exceeds the MTU. Checksums are offloaded.
    Nic,
    /// Neither GSO nor GRO.
    None,
}

impl UnderlayKind {
    /// The features to set, by their names in `ethtool -K`.
    fn features(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Veth => &[],
            Self::Nic => NIC,
            Self::None => NONE,
        }
    }

    /// Sets the features of the link `device` in the namespace `netns`. Features that the link lacks or that
    /// have the wanted value are skipped; a feature fixed to another value is an error.
    pub(super) fn apply(self, netns: &str, device: &str) -> Result<(), LabError> {
        if self.features().is_empty() {
            return Ok(());
        }
        let state = ethtool(netns, &["-k", device])?;
        for (feature, wanted) in self.features() {
            let Some(now) = state.lines().find_map(|line| setting(line, feature)) else { continue };
            let word = if *wanted { "on" } else { "off" };
            if now.split_whitespace().next() != Some(word) {
                ethtool(netns, &["-K", device, feature, word])?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for UnderlayKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Veth => "veth",
            Self::Nic => "nic",
            Self::None => "none",
        })
    }
}

fn setting<'a>(line: &'a str, feature: &str) -> Option<&'a str> {
    line.trim().strip_prefix(feature)?.strip_prefix(": ")
}

fn ethtool(netns: &str, arguments: &[&str]) -> Result<String, LabError> {
    Netns::open(netns)
        .and_then(|inside| inside.enter(|| tool::run("ethtool", arguments)))
        .map_err(|source| LabError::Netns { name: netns.to_owned(), source })?
}

const NIC: &[(&str, bool)] = &[
    ("tx-checksum-ip-generic", true),
    ("generic-segmentation-offload", true),
    ("generic-receive-offload", true),
    ("tx-tcp-segmentation", false),
    ("tx-tcp6-segmentation", false),
    ("tx-tcp-ecn-segmentation", false),
    ("tx-tcp-mangleid-segmentation", false),
    ("tx-tcp-accecn-segmentation", false),
    ("tx-gso-partial", false),
    ("tx-gso-list", false),
    ("tx-udp-segmentation", false),
    ("tx-udp_tnl-segmentation", false),
    ("tx-udp_tnl-csum-segmentation", false),
    ("tx-gre-segmentation", false),
    ("tx-gre-csum-segmentation", false),
    ("tx-ipxip4-segmentation", false),
    ("tx-ipxip6-segmentation", false),
    ("tx-sctp-segmentation", false),
];

const NONE: &[(&str, bool)] = &[
    ("tx-tcp-segmentation", false),
    ("tx-tcp6-segmentation", false),
    ("tx-tcp-ecn-segmentation", false),
    ("tx-tcp-mangleid-segmentation", false),
    ("tx-gso-list", false),
    ("tx-udp-segmentation", false),
    ("tx-udp_tnl-segmentation", false),
    ("tx-udp_tnl-csum-segmentation", false),
    ("generic-segmentation-offload", false),
    ("generic-receive-offload", false),
];
