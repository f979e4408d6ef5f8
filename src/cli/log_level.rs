//! `log-level`: changes the log level of the running daemon.

use clap::Args;
use serde_json::{Value, json};

use crate::args::QueryArgs;
use crate::args::values::log_filter;
use crate::exit::Exit;
use crate::observe::protocol::{Command, LogLevel};

/// Arguments of `log-level`.
#[derive(Clone, Debug, Args)]
pub struct LogLevelArgs {
    /// error, warn, info, debug, trace, or a filter such as `info,flannel_udp::subnet=debug`; in force until
    /// the daemon restarts
    #[arg(value_parser = log_filter)]
    pub level: String,
    /// Which daemon is queried, and the form of the output.
    #[command(flatten)]
    pub query: QueryArgs,
}

/// Changes the level and prints the previous one.
///
/// # Errors
/// The daemon does not answer.
pub(super) fn run(args: &LogLevelArgs) -> Result<(), Exit> {
    let command = Command::LogLevel(LogLevel { level: args.level.clone() });
    let changed: Value = args.query.client().ask(&command)?;
    if args.query.json {
        println!("{}", json!({ "version": 1, "before": changed["before"], "now": changed["now"] }));
    } else {
        let level = |name: &str| changed[name].as_str().unwrap_or("?").to_owned();
        println!("log level {}, was {}", level("now"), level("before"));
    }
    Ok(())
}
