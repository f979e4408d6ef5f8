//! `log-level`: shows or changes the log level of the running daemon.

use clap::Args;
use serde_json::{Value, json};

use crate::args::{QueryArgs, checked_log_filter};
use crate::exit::Exit;
use crate::observe::protocol::{Command, LogLevel};

/// Arguments of `log-level`.
#[derive(Clone, Debug, Args)]
pub struct LogLevelArgs {
    /// error, warn, info, debug, trace, off, or a filter such as `info,flannel_udp::subnet=debug`; in force
    /// until the daemon restarts [default: print the level]
    #[arg(value_parser = checked_log_filter)]
    pub level: Option<String>,
    /// Which daemon is queried, and the form of the output.
    #[command(flatten)]
    pub query: QueryArgs,
}

/// Prints the level; or changes it, and prints the previous one too.
///
/// # Errors
/// The daemon does not answer.
pub(super) fn run(args: &LogLevelArgs) -> Result<(), Exit> {
    let command = Command::LogLevel(LogLevel { level: args.level.clone() });
    let changed: Value = args.query.client().ask(&command)?;
    if args.query.json {
        println!("{}", json!({ "version": 1, "before": changed["before"], "now": changed["now"] }));
        return Ok(());
    }
    let now = changed["now"].as_str().unwrap_or("?");
    match changed["before"].as_str() {
        Some(before) => println!("log level {now}, was {before}"),
        None => println!("log level {now}"),
    }
    Ok(())
}
