//! The machine that was measured on.

use std::fs;
use std::time::Duration;

use serde::Serialize;

use super::cpu::{Reading, processors};
use crate::lab::{LabError, interrupt};

/// What a reader of the figures must know about the machine.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    /// Version of the program.
    pub(super) version: &'static str,
    /// Release of the kernel.
    pub(super) kernel: String,
    /// Architecture.
    pub(super) architecture: &'static str,
    /// Name of the processor.
    pub(super) processor: String,
    /// Processors online.
    pub(super) processors: usize,
    /// Share of all processors that was busy with something else just before, 0 to 1.
    pub(super) busy_before: f64,
}

impl Machine {
    /// Looks around, for one second.
    pub(super) fn look() -> Result<Self, LabError> {
        let before = Reading::take(&[], &[]);
        interrupt::sleep(Duration::from_secs(1))?;
        let used = before.until(&Reading::take(&[], &[]));
        let processors = processors();
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or_else(|| "unknown processor".into(), |(_, name)| name.trim().to_owned());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            kernel: kernel.trim().to_owned(),
            architecture: std::env::consts::ARCH,
            processor,
            processors,
            busy_before: (used.busy / used.elapsed / processors as f64).max(0.0),
        })
    }

    /// A warning where something else was running.
    pub(super) fn warning(&self) -> Option<String> {
        (self.busy_before > QUIET).then(|| {
            format!(
                "the machine was {:.0} % busy with something else: figures are too low, trust the \
                 ratios little",
                self.busy_before * 100.0
            )
        })
    }
}

/// The share of busy processors that counts as a quiet machine.
const QUIET: f64 = 0.05;
