//! The form of a line on stderr: with its time, or with its severity where a journal reads it whose socket for
//! entries is missing.

use std::fmt;

use rustix::fs::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Formats lines for whoever reads stderr.
pub(super) enum LineFormat {
    /// Time, level, message.
    Timed(Format<Full, SystemTime>),
    /// Level and message after a severity that the journal takes off (`sd-daemon(3)`); it keeps the time itself.
    Journal(Format<Full, ()>),
}

impl LineFormat {
    /// The form for this process's stderr.
    pub(super) fn for_stderr(is_journal: bool) -> Self {
        if is_journal { Self::journal() } else { Self::timed() }
    }

    fn timed() -> Self {
        Self::Timed(Format::default().with_target(false))
    }

    fn journal() -> Self {
        Self::Journal(Format::default().with_target(false).without_time())
    }
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self {
            Self::Timed(format) => format.format_event(context, writer, event),
            Self::Journal(format) => {
                let mut text = String::new();
                format.format_event(context, Writer::new(&mut text), event)?;
                let severity = severity(*event.metadata().level());
                // Each line is an entry of its own there.
                text.lines().try_for_each(|line| writeln!(writer, "<{severity}>{line}"))
            }
        }
    }
}

/// Whether stderr leads to systemd's journal (`JOURNAL_STREAM` in `systemd.exec(5)`).
pub(super) fn stderr_is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let stderr = fstat(std::io::stderr()).map(|file| format!("{}:{}", file.st_dev, file.st_ino));
    // A process that inherits the variable may have another stderr.
    stderr.is_ok_and(|stderr| stderr == stream)
}

/// The severity of syslog(3).
pub(super) fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LineFormat) -> String {
        let buffer = Buffer::default();
        let lines = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .event_format(format)
            .with_max_level(Level::DEBUG)
            .with_writer(move || lines.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!("two\nlines");
            tracing::warn!(peers = 2, "a warning");
            tracing::info!("news");
            tracing::debug!("detail");
        });
        let written = buffer.0.lock().unwrap().clone();
        String::from_utf8(written).unwrap()
    }

    #[test]
    fn the_journal_gets_a_severity_per_line_and_no_time() {
        let lines =
            "<3>ERROR two\n<3>lines\n<4> WARN a warning peers=2\n<6> INFO news\n<7>DEBUG detail\n";
        assert_eq!(logged(LineFormat::journal()), lines);
    }

    #[test]
    fn others_get_the_time_and_no_severity() {
        let text = logged(LineFormat::timed());
        assert!(!text.contains('<') && text.contains("Z  WARN a warning peers=2\n"), "{text}");
        // No journal is behind the stderr of a test.
        assert!(!stderr_is_journal());
    }
}
