//! How many packets of unknown hosts a worker delivers while the route table is not in step.

use std::time::{Duration, Instant};

/// A budget that is refilled as time passes.
pub(super) struct PacketBudget {
    left: u32,
    refilled: Instant,
}

impl Default for PacketBudget {
    fn default() -> Self {
        Self { left: BURST, refilled: Instant::now() }
    }
}

impl PacketBudget {
    /// Takes one packet from the budget; false if it is spent.
    pub(super) fn take(&mut self) -> bool {
        if self.left == 0 {
            self.refill(Instant::now());
        }
        let has = self.left > 0;
        self.left -= u32::from(has);
        has
    }

    fn refill(&mut self, now: Instant) {
        let earned = now.duration_since(self.refilled).as_micros() / INTERVAL.as_micros();
        if earned > 0 {
            self.left = u32::try_from(earned).unwrap_or(BURST).min(BURST);
            self.refilled = now;
        }
    }
}

/// Packets in one burst: what arrives at a busy host in the time that it takes to read the leases.
const BURST: u32 = 2_000;
/// Time after which there is room for one more: 1,000 packets per second and worker.
const INTERVAL: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_has_a_burst_and_a_rate() {
        let mut budget = PacketBudget::default();
        let start = budget.refilled;
        budget.left = 1;
        assert!(budget.take());
        for (after, left) in [(0, 0), (20, 20), (21, 1), (1_000_000, BURST)] {
            budget.left = 0;
            budget.refill(start + Duration::from_millis(after));
            assert_eq!(budget.left, left, "{after} ms");
        }
    }
}
