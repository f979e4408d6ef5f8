//! One TCP stream measured by iperf3, to cross-check the generator of the lab.

use std::process::Command;

use serde_json::Value;

use super::cpu::Reading;
use super::sample::{BenchSample, Timing};
use super::testbed::Testbed;
use crate::lab::process::LabProcess;
use crate::lab::{LabError, interrupt, tool};

/// Runs an iperf3 server in the second container and a client in the first.
pub(super) fn sample(testbed: &Testbed, timing: Timing) -> Result<BenchSample, LabError> {
    let to = testbed.lab.host(1);
    let mut command = Command::new("iperf3");
    command.args(["--server", "--one-off"]);
    let log = to.directory().join("iperf3.log");
    let mut server = LabProcess::start(to.container().netns(), command, "iperf3's server", log)?;
    interrupt::sleep(std::time::Duration::from_millis(300))?;
    let seconds = timing.window.as_secs().max(1).to_string();
    let target = testbed.container_address(1).to_string();
    let words = ["-c", &target, "-C", "cubic", "-t", &seconds, "-J"];
    let before = Reading::take(&[], &[]);
    let netns = testbed.lab.host(0).container().netns();
    let output = netns.enter(|| tool::run("iperf3", &words)).map_err(|source| {
        LabError::Netns { name: netns.name().unwrap_or_default().to_owned(), source }
    })??;
    let used = before.until(&Reading::take(&[], &[]));
    server.kill()?;
    let report: Value = serde_json::from_str(&output)
        .map_err(|e| LabError::Unusable(format!("iperf3 printed no JSON: {e}")))?;
    let received = &report["end"]["sum_received"];
    match (received["bits_per_second"].as_f64(), received["bytes"].as_f64()) {
        (Some(bits), Some(bytes)) => Ok(BenchSample {
            value: bits / 1e9,
            cpu: used.busy / (bytes / 1e9),
            ..BenchSample::default()
        }),
        _ => Err(LabError::Unusable(format!("iperf3 reports no result: {}", report["error"]))),
    }
}
