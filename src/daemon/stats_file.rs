//! The statistics file: all counters as JSON, at the end and on SIGUSR1.

use std::path::Path;

use serde::Serialize;

use crate::confine::Confinement;
use crate::dataplane::{FeatureState, OtherTraffic, PeerTraffic, RecentMismatch, Stats};
use crate::host::subnet_file::write_text;

/// What the file holds.
#[derive(Serialize)]
pub struct Report<'a> {
    /// Version of this layout.
    pub version: u32,
    /// The TUN device.
    pub tun: &'a str,
    /// The subnet of this host.
    pub subnet: String,
    /// Number of routes in the table.
    pub routes: usize,
    /// How every feature of the kernel stands.
    pub features: Vec<FeatureState>,
    /// What holds the process.
    pub confinement: &'a Confinement,
    /// What was carried to and from each peer.
    pub peers: Vec<PeerTraffic>,
    /// What was carried and belongs to none of them.
    pub other_traffic: OtherTraffic,
    /// Who failed a check lately, the last one first.
    pub mismatches: Vec<RecentMismatch>,
    /// All counters since the start of the process.
    #[serde(flatten)]
    pub stats: &'a Stats,
}

impl Report<'_> {
    /// Replaces the file at `path` in one step.
    pub(super) fn write(&self, path: &Path) {
        let text = serde_json::to_string_pretty(self).expect("numbers and strings make JSON");
        match write_text(path, &(text + "\n")) {
            Ok(()) => tracing::debug!(file = %path.display(), "wrote the statistics"),
            Err(error) => {
                tracing::error!(file = %path.display(), "cannot write the statistics: {error}");
            }
        }
    }
}
