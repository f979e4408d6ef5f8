//! The machine that runs the benchmark.

use std::fs;
use std::time::Duration;

use serde::Serialize;

use super::cpu::{Reading, processors};
use crate::lab::{LabError, interrupt};

/// The properties of the machine that affect the figures.
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
    /// Share of all CPUs that other work used just before the run, 0 to 1.
    pub(super) busy_before: f64,
}

impl Machine {
    /// Reads the properties, and measures the load for one second.
    pub(super) fn inspect() -> Result<Self, LabError> {
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

    /// A warning if other work was running.
    pub(super) fn warning(&self) -> Option<String> {
        (self.busy_before > QUIET).then(|| {
            format!(
                "other work used {:.0} % of the CPUs: the figures are too low and the ratios \
                 unreliable",
                self.busy_before * 100.0
            )
        })
    }
}

/// Share of the CPUs up to which the machine counts as idle.
const QUIET: f64 = 0.05;
