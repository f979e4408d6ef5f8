//! Rates: two snapshots of the daemon, an interval apart.

use std::time::Duration;

use clap::Args;

use crate::args::go_values::go_int_in;
use crate::exit::Exit;
use crate::observe::client::Client;
use crate::observe::protocol::snapshot::Snapshot;

/// The flag of the commands that print rates.
#[derive(Clone, Copy, Debug, Args)]
pub struct IntervalArgs {
    /// Milliseconds over which rates are measured; 0: no rates, no wait
    #[arg(long, value_name = "MS", default_value = "1000", value_parser = go_int_in::<0, 3_600_000>)]
    pub interval: i64,
}

impl IntervalArgs {
    /// The interval.
    pub(super) fn length(self) -> Duration {
        Duration::from_millis(self.interval.unsigned_abs())
    }
}

/// Two snapshots of the daemon, from which rates are computed.
pub(super) struct Samples {
    /// The first snapshot; `None` if no rates are wanted.
    pub(super) before: Option<Snapshot>,
    /// The second snapshot.
    pub(super) now: Snapshot,
}

impl Samples {
    /// Takes a snapshot, waits for the interval, and takes another one.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub(super) fn take(client: &Client, args: IntervalArgs) -> Result<Self, Exit> {
        Self::after(client.status()?, client, args)
    }

    /// Waits for the interval after the first snapshot, and takes another one.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub(super) fn after(
        first: Snapshot,
        client: &Client,
        args: IntervalArgs,
    ) -> Result<Self, Exit> {
        if args.interval == 0 {
            return Ok(Self { before: None, now: first });
        }
        std::thread::sleep(args.length());
        Ok(Self::between(Some(first), client.status()?))
    }

    /// Two snapshots, the earlier one first.
    pub(super) fn between(before: Option<Snapshot>, now: Snapshot) -> Self {
        // The counters of a daemon that was restarted in between begin at 0.
        let before = before.filter(|before| before.process.pid == now.process.pid);
        Self { before, now }
    }

    /// Seconds between the snapshots; `None` without rates.
    pub(super) fn seconds(&self) -> Option<f64> {
        let before = self.before.as_ref()?;
        Some(self.now.process.uptime - before.process.uptime).filter(|seconds| *seconds > 0.0)
    }

    /// The rate of a counter, per second; `None` without rates.
    pub(super) fn rate(&self, counter: impl Fn(&Snapshot) -> u64) -> Option<f64> {
        let before = counter(self.before.as_ref()?);
        Some(counter(&self.now).saturating_sub(before) as f64 / self.seconds()?)
    }
}
