//! Counters of all threads at one moment, summed.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::{DirectionStats, ThreadCounters, ThreadStats};

/// The sum of all threads at one moment.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// From the TUN device to UDP.
    pub egress: DirectionStats,
    /// From UDP to the TUN device.
    pub ingress: DirectionStats,
    /// Sleeps, polls and handoffs of the threads.
    #[serde(flatten)]
    pub threads: ThreadStats,
    /// Datagrams that the kernel dropped because a socket's buffer was full.
    pub socket_overflows: u64,
}

impl Stats {
    /// The sum of `threads`.
    pub fn sum<'a>(threads: impl IntoIterator<Item = &'a ThreadCounters>) -> Self {
        let mut sum = Self::default();
        for thread in threads {
            sum.egress += &DirectionStats::from(&thread.egress);
            sum.ingress += &DirectionStats::from(&thread.ingress);
            sum.threads += &ThreadStats::from(thread);
        }
        sum
    }
}

impl AddAssign<&Self> for Stats {
    fn add_assign(&mut self, other: &Self) {
        self.egress += &other.egress;
        self.ingress += &other.ingress;
        self.threads += &other.threads;
        self.socket_overflows += other.socket_overflows;
    }
}
