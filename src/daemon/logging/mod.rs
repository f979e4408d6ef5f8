//! The log: one line per event on stderr, or one entry in systemd's journal, written by a thread of its own.

mod fields;
mod format;
mod journal;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, reload};

use fields::ShownFields;
use format::LineFormat;
use journal::{JournalLayer, JournalSocket};
use writer::{LogQueue, LogWriter};

use crate::args::log_filter;
use crate::confine::WorkerConfinement;
use crate::daemon::Options;
use crate::exit::{Code, Exit};

/// The log of the process; its filter can be changed at run time.
pub(super) struct Log {
    filter: RefCell<String>,
    /// The filter at the start.
    initial: String,
    reload: Box<dyn Fn(EnvFilter) -> Result<(), String>>,
    queue: LogQueue,
}

/// The log's writer, which has not been started.
pub(super) struct PendingWriter {
    writer: LogWriter,
    sink: Box<dyn Write + Send>,
}

/// Sets up the log for the whole process, and logs the warnings that parsing the options gave. Lines are
/// written once the writer is started.
///
/// # Errors
/// A bad filter, or a log that is set up already.
pub(super) fn init(options: &Options) -> Result<(Log, PendingWriter), Exit> {
    let text = log_filter(options.log_level())
        .map_err(|error| Exit::usage(format!("error: --log-level: {error}")))?;
    let (queue, writer) = writer::queue();
    let (filter, handle) = reload::Layer::new(EnvFilter::new(&text));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = queue.clone();
    let is_journal = format::stderr_is_journal();
    let journal = is_journal.then(|| JournalSocket::open(Path::new(JournalSocket::PATH)));
    let (started, sink): (_, Box<dyn Write + Send>) = match journal {
        Some(Ok(socket)) => (registry.with(JournalLayer(lines)).try_init(), Box::new(socket)),
        _ => {
            let layer = fmt::layer()
                .with_writer(move || lines.clone())
                .with_ansi(io::stderr().is_terminal())
                .fmt_fields(ShownFields)
                .event_format(LineFormat::for_stderr(is_journal));
            (registry.with(layer).try_init(), Box::new(io::stderr()))
        }
    };
    started.map_err(|error| Exit::new(Code::Software, format!("cannot start the log: {error}")))?;
    log_panics();
    for warning in &options.warnings {
        tracing::warn!("{warning}");
    }
    let reload = Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()));
    let log = Log { filter: RefCell::new(text.clone()), initial: text, reload, queue };
    Ok((log, PendingWriter { writer, sink }))
}

impl PendingWriter {
    /// Starts the thread that writes the log. Threads are started only after the process is confined.
    ///
    /// # Errors
    /// [`Code::System`] if the kernel refuses another thread.
    pub(super) fn start(self, confinement: WorkerConfinement) -> Result<(), Exit> {
        self.writer.start(confinement, self.sink).map_err(|error| {
            Exit::new(Code::System, format!("cannot start the thread that writes the log: {error}"))
        })
    }
}

impl Log {
    /// The filter in force.
    pub(super) fn filter(&self) -> String {
        self.filter.borrow().clone()
    }

    /// The number of lines that were lost because nobody read them or the disk was full.
    pub(super) fn lost(&self) -> u64 {
        self.queue.lost()
    }

    /// The end of the log, to be waited for before the process ends.
    pub(super) fn end(&self) -> LogEnd {
        LogEnd(self.queue.clone())
    }

    /// Sets the filter to a level for this program's own lines, or to a filter for all lines. Returns the
    /// previous filter and the new one.
    ///
    /// # Errors
    /// A sentence for the user.
    pub(super) fn set(&self, text: &str) -> Result<(String, String), String> {
        let filter = log_filter(text)?;
        let before = self.replace(filter.clone())?;
        tracing::info!(%before, now = %filter, "log level changed");
        Ok((before, filter))
    }

    /// Sets the filter that the log had at the start.
    pub(super) fn reset(&self) {
        if let Err(error) = self.replace(self.initial.clone()) {
            tracing::error!("cannot set the log level: {error}");
        }
    }

    fn replace(&self, filter: String) -> Result<String, String> {
        (self.reload)(EnvFilter::new(&filter))?;
        Ok(self.filter.replace(filter))
    }
}

/// Waits, but not for long, until the last lines are written.
pub(super) struct LogEnd(LogQueue);

impl LogEnd {
    /// Logs the outcome of the daemon, at a clean end with whether this host holds a lease. What it returns is to be printed: nothing if the log has the error, or
    /// the error itself where the level leaves errors out.
    pub(super) fn finish(&self, outcome: Result<bool, Exit>) -> Result<(), Exit> {
        let outcome = match outcome {
            Ok(holds_lease) => {
                let lease = if holds_lease { "; the lease is kept for the next start" } else { "" };
                tracing::info!("stopped{lease}");
                Ok(())
            }
            Err(exit) if tracing::enabled!(tracing::Level::ERROR) => {
                tracing::error!("{exit}");
                Err(Exit::new(exit.code, ""))
            }
            Err(exit) => Err(exit),
        };
        self.0.flush();
        outcome
    }
}

/// Has panics logged: what the standard library prints would wait for whoever reads stderr.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let backtrace = Backtrace::capture();
        let trace = match backtrace.status() {
            BacktraceStatus::Captured => format!("\n{backtrace}"),
            _ => String::new(),
        };
        tracing::error!("thread {}: {panic}{trace}", thread.name().unwrap_or("without a name"));
    }));
}
