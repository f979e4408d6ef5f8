//! A sample: what one measurement of one mode yields.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::lab::traffic::Percentiles;

/// One sample of one measure.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct BenchSample {
    /// The measured value, in the unit of the measure.
    pub(super) value: f64,
    /// CPU seconds per gigabyte, or CPU microseconds per packet or round trip, of the whole machine: both
    /// ends, both tunnels and the kernel.
    pub(super) cpu: f64,
    /// `cpu` of only the lab's processes and the kernel's softirq threads.
    pub(super) own_cpu: f64,
    /// CPUs in use on average, by thread of the daemons.
    pub(super) threads: BTreeMap<String, f64>,
    /// System calls that moved packets, per inner packet, over both directions and both ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) calls_per_packet: Option<f64>,
    /// Share of the packets sent that did not arrive, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) loss: Option<f64>,
    /// Share of the packets sent that overflowed the sink's receive buffer, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) overflow: Option<f64>,
    /// CPUs that the generator used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) generator: Option<f64>,
    /// Round-trip times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) times: Option<Percentiles>,
    /// Requests without an answer within 200 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unanswered: Option<u64>,
    /// Gbit/s of the bulk stream beside the round trips.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) beside: Option<f64>,
    /// Packets that arrived after a later packet of their flow.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) disordered: u64,
}

/// Durations of the phases of a sample.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// From the start of the generators to the start of the window.
    pub(super) warm_up: Duration,
    /// The time that is measured.
    pub(super) window: Duration,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}
