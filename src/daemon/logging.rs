//! The log: to stderr, one line an event.

use std::cell::RefCell;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::daemon::Options;
use crate::exit::{Code, Exit};

/// The log of the process, whose filter can be changed while it runs.
pub(super) struct Log {
    filter: RefCell<String>,
    reload: Box<dyn Fn(EnvFilter) -> Result<(), String>>,
}

/// Sets up the log for the whole process.
pub(super) fn init(options: &Options) -> Result<Log, Exit> {
    let level = options.log_filter();
    // The libraries below have their own idea of what is worth an info line.
    let text = match options.log_level.is_none() {
        true => ours(level),
        false => level.to_owned(),
    };
    let filter = EnvFilter::try_new(&text)
        .map_err(|error| Exit::usage(format!("error: log level {text:?}: {error}")))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    subscriber
        .try_init()
        .map_err(|error| Exit::new(Code::Software, format!("cannot start the log: {error}")))?;
    for warning in &options.warnings {
        tracing::warn!("{warning}");
    }
    let reload = Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()));
    Ok(Log { filter: RefCell::new(text), reload })
}

impl Log {
    /// The filter in force.
    pub(super) fn filter(&self) -> String {
        self.filter.borrow().clone()
    }

    /// Changes the filter: to a level of our own lines, or to a filter of all lines. Returns the one
    /// before and the new one; the error is a sentence.
    pub(super) fn set(&self, text: &str) -> Result<(String, String), String> {
        let filter = if text.contains(['=', ',']) { text.to_owned() } else { ours(text) };
        let parsed = EnvFilter::try_new(&filter)
            .map_err(|error| format!("{text:?} is no log level or filter: {error}"))?;
        (self.reload)(parsed)?;
        let before = self.filter.replace(filter.clone());
        tracing::info!(%before, now = %filter, "log level changed");
        Ok((before, filter))
    }
}

/// The filter for a level of our own lines.
fn ours(level: &str) -> String {
    format!("warn,flannel_udp={level}")
}
