//! The statistics file: all counters as JSON, written at exit and on SIGUSR1.

use std::path::Path;

use serde::Serialize;

use crate::confine::Confinement;
use crate::dataplane::{FeatureState, OtherTraffic, PeerTraffic, RecentMismatch, Stats};
use crate::output_file;

/// The content of the file.
#[derive(Serialize)]
pub struct StatsReport<'a> {
    /// Version of this layout.
    pub version: u32,
    /// The TUN device.
    pub tun: &'a str,
    /// The subnet of this host.
    pub subnet: String,
    /// Number of routes in the table.
    pub routes: usize,
    /// The state of every kernel feature.
    pub features: Vec<FeatureState>,
    /// The confinement of the process.
    pub confinement: &'a Confinement,
    /// Traffic to and from each peer.
    pub peers: Vec<PeerTraffic>,
    /// Traffic that belongs to no peer.
    pub other_traffic: OtherTraffic,
    /// Recent senders of packets that failed a check, the latest first.
    pub mismatches: Vec<RecentMismatch>,
    /// All counters since the start of the process.
    #[serde(flatten)]
    pub stats: &'a Stats,
}

impl StatsReport<'_> {
    /// Writes the file as [`output_file::write`] does; an error is logged.
    pub(super) fn write(&self, path: &Path) {
        let text = serde_json::to_string_pretty(self).expect("numbers and strings make JSON");
        match output_file::write(path, &(text + "\n")) {
            Ok(()) => tracing::debug!(file = %path.display(), "wrote the statistics"),
            Err(error) => {
                tracing::error!(file = %path.display(), "cannot write the statistics: {error}");
            }
        }
    }
}
