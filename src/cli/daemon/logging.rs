//! The log: to stderr, one line an event.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::cli::{Code, Exit, Options};

/// Sets up the log for the whole process.
pub(super) fn init(options: &Options) -> Result<(), Exit> {
    let level = options.log_filter();
    // The libraries below have their own idea of what is worth an info line.
    let filter = match options.log_level.is_none() {
        true => format!("warn,flannel_udp={level}"),
        false => level.to_owned(),
    };
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| Exit::usage(format!("error: log level {filter:?}: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .try_init()
        .map_err(|error| Exit::new(Code::Software, format!("cannot start the log: {error}")))?;
    for warning in &options.warnings {
        tracing::warn!("{warning}");
    }
    Ok(())
}
