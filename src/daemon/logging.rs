//! The log: one line per event on stderr.

use std::cell::RefCell;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::daemon::Options;
use crate::exit::{Code, Exit};

/// The log of the process; its filter can be changed at run time.
pub(super) struct Log {
    filter: RefCell<String>,
    reload: Box<dyn Fn(EnvFilter) -> Result<(), String>>,
}

/// Sets up the log for the whole process, and writes the warnings that parsing the options gave.
///
/// # Errors
/// A bad filter, or a log that is set up already.
pub(super) fn init(options: &Options) -> Result<Log, Exit> {
    let level = options.log_filter();
    // A plain level applies to this program's own lines; the libraries log far more at the same level.
    let text = if options.log_level.is_none() { own_lines(level) } else { level.to_owned() };
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

    /// Sets the filter to a level for this program's own lines, or to a filter for all lines. Returns the
    /// previous filter and the new one.
    ///
    /// # Errors
    /// A sentence for the user.
    pub(super) fn set(&self, text: &str) -> Result<(String, String), String> {
        let filter = if text.contains(['=', ',']) { text.to_owned() } else { own_lines(text) };
        let parsed = EnvFilter::try_new(&filter)
            .map_err(|error| format!("{text:?} is not a log level or filter: {error}"))?;
        (self.reload)(parsed)?;
        let before = self.filter.replace(filter.clone());
        tracing::info!(%before, now = %filter, "log level changed");
        Ok((before, filter))
    }
}

/// The filter that sets `level` for this program's own lines.
fn own_lines(level: &str) -> String {
    format!("warn,flannel_udp={level}")
}
