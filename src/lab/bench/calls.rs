//! The daemons' packet system calls, from their own counters.

use serde_json::Value;

use super::testbed::Testbed;

/// Counts of both daemons, added.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Calls {
    calls: u64,
    packets: u64,
}

impl Calls {
    /// Reads the counters of both daemons; `None` in a mode without daemons.
    pub(super) fn read(testbed: &mut Testbed) -> Option<Self> {
        let mut sum = Self::default();
        for number in 0..2 {
            let stats = testbed.lab.host_mut(number).daemon_mut()?.stats().ok()?;
            sum.add(&stats);
        }
        (sum.packets > 0).then_some(sum)
    }

    /// Calls per packet received since the reading `before`.
    pub(super) fn per_packet_since(self, before: Self) -> Option<f64> {
        let packets = self.packets.checked_sub(before.packets).filter(|n| *n > 0)?;
        Some(self.calls.checked_sub(before.calls)? as f64 / packets as f64)
    }

    fn add(&mut self, stats: &Value) {
        for direction in ["egress", "ingress"] {
            let count = |name: &str| {
                [&stats[direction], &stats["dataplane"][direction]]
                    .iter()
                    .find_map(|counters| counters[name].as_u64())
                    .unwrap_or(0)
            };
            self.calls += count("in_calls") + count("out_calls");
            self.packets += count("packets");
        }
    }
}
