//! Looking into the daemon that runs on this host, through its status socket.

pub mod explain;
pub mod log_level;
pub mod peers;
pub mod routes;
pub mod status;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Code, Exit};
use crate::args::go_values::go_int_in;
use crate::observe::client::{Client, ClientError};
use crate::observe::protocol::DEFAULT_SOCKET;
use crate::observe::protocol::snapshot::Snapshot;

/// What every command that asks the daemon takes.
#[derive(Clone, Debug, Args)]
pub struct SocketArgs {
    /// The daemon's status socket
    #[arg(long, value_name = "PATH", env = "FLANNELD_SOCKET", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl SocketArgs {
    /// The daemon.
    pub fn client(&self) -> Client {
        Client::new(&self.socket)
    }
}

/// Arguments of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Over how long rates are measured.
    #[command(flatten)]
    pub interval: IntervalArgs,
}

/// Arguments of `peers`.
#[derive(Clone, Debug, Args)]
pub struct PeersArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Over how long rates are measured.
    #[command(flatten)]
    pub interval: IntervalArgs,
}

/// Arguments of `routes`.
#[derive(Clone, Debug, Args)]
pub struct RoutesArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// Over how long rates are measured.
#[derive(Clone, Copy, Debug, Args)]
pub struct IntervalArgs {
    /// Milliseconds over which rates are measured; 0: no rates, no wait
    #[arg(long, value_name = "MS", default_value = "1000", value_parser = go_int_in::<0, 3_600_000>)]
    pub interval: i64,
}

/// Two looks at the daemon, and what happened in between.
pub struct Looks {
    /// The first look, unless no rates are wanted.
    pub before: Option<Snapshot>,
    /// The second.
    pub now: Snapshot,
}

impl Looks {
    /// Looks, waits, looks again.
    pub fn take(client: &Client, args: IntervalArgs) -> Result<Self, Exit> {
        let mut before = None;
        if args.interval > 0 {
            before = Some(client.status()?);
            std::thread::sleep(Duration::from_millis(args.interval.unsigned_abs()));
        }
        let now = client.status()?;
        // Another daemon has counters of its own.
        let before = before.filter(|before| before.process.pid == now.process.pid);
        Ok(Self { before, now })
    }

    /// Seconds between the looks; `None` without rates.
    pub fn seconds(&self) -> Option<f64> {
        let before = self.before.as_ref()?;
        Some(self.now.process.uptime - before.process.uptime).filter(|seconds| *seconds > 0.0)
    }

    /// The rate of a counter; `None` without rates.
    pub fn rate(&self, counter: impl Fn(&Snapshot) -> u64) -> Option<f64> {
        let before = counter(self.before.as_ref()?);
        Some(counter(&self.now).saturating_sub(before) as f64 / self.seconds()?)
    }
}

impl From<ClientError> for Exit {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::NoDaemon { .. } | ClientError::Broken { .. } => Code::Unavailable,
            ClientError::Permission(_) => Code::Permission,
            ClientError::Refused(_) | ClientError::Garbled(_) => Code::BadData,
        };
        Self::new(code, format!("error: {error}"))
    }
}
