//! What the wire between the lab's hosts does to packets.

use std::fmt;

use super::{LabError, tool};
use crate::sys::netns::Netns;

/// The offload settings of the underlay's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Underlay {
    /// A veth pair as it comes: 64 KiB super-packets cross it uncut, which no real wire does.
    #[default]
    Veth,
    /// As a plain network card: nothing larger than the MTU crosses; the kernel cuts packets in
    /// software just before the link and joins them just behind it (GSO and GRO on), checksums are
    /// the card's work.
    Nic,
    /// No help at all: neither GSO nor GRO.
    None,
}

impl Underlay {
    /// The features to switch, as `ethtool -K` names them.
    fn features(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Veth => &[],
            Self::Nic => NIC,
            Self::None => NONE,
        }
    }

    /// Sets the link `device` in the namespace `netns`. What the kernel does not have there, or
    /// fixes to the wanted value, is left alone; a feature fixed to the other value is an error.
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

impl fmt::Display for Underlay {
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
