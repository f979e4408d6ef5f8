//! Entries of systemd's journal in its native protocol, which has fields
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! The thread that logs only makes the entry. The thread that writes the log sends it, and is the only one that
//! waits if the journal is slow.

use std::fmt::Debug;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::layer::Context;

use super::fields::{MESSAGE, ShownFields};
use super::format::severity;
use super::writer::LogQueue;

/// The journal's socket.
pub(super) struct JournalSocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl JournalSocket {
    /// Where the journal listens (`systemd-journald.service(8)`).
    pub(super) const PATH: &str = "/run/systemd/journal/socket";

    /// Makes a socket to send entries to `path`.
    ///
    /// # Errors
    /// Nothing is there, or the kernel refuses a socket.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        path.metadata()?;
        Ok(Self { socket: UnixDatagram::unbound()?, path: path.to_owned() })
    }
}

/// Takes one entry per call.
impl Write for JournalSocket {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        // By name each time, because the journal's socket may have been created again.
        self.socket.send_to(entry, &self.path)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes an entry of each event.
pub(super) struct JournalLayer(pub(super) LogQueue);

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        self.0.push(entry(event));
    }
}

/// The entry of an event: the line that stderr would get, without its time, and every field under its own name.
fn entry(event: &Event<'_>) -> Vec<u8> {
    let metadata = event.metadata();
    let level = metadata.level();
    let mut line = format!("{level:>5} ");
    // A string takes every text.
    let _ = ShownFields.format_fields(Writer::new(&mut line), event);
    let mut entry = Entry(Vec::new());
    entry.put("MESSAGE", &line);
    entry.put("PRIORITY", &severity(*level).to_string());
    entry.put("SYSLOG_IDENTIFIER", env!("CARGO_PKG_NAME"));
    entry.put("FLANNEL_TARGET", metadata.target());
    if let (Some(file), Some(number)) = (metadata.file(), metadata.line()) {
        entry.put("CODE_FILE", file);
        entry.put("CODE_LINE", &number.to_string());
    }
    event.record(&mut entry);
    entry.0
}

struct Entry(Vec<u8>);

impl Entry {
    fn put(&mut self, name: &str, value: &str) {
        let value = &value.as_bytes()[..value.len().min(MAX_VALUE)];
        self.0.extend(name.as_bytes());
        if value.contains(&b'\n') {
            self.0.push(b'\n');
            self.0.extend((value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend(value);
        self.0.push(b'\n');
    }

    fn put_field(&mut self, field: &Field, value: &str) {
        if field.name() != MESSAGE {
            self.put(&format!("{PREFIX}{}", field.name().to_ascii_uppercase()), value);
        }
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_field(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put_field(field, &format!("{value:?}"));
    }
}

/// What the names of this program's fields begin with.
const PREFIX: &str = "FLANNEL_";

/// Longest value in bytes: an entry has to fit into one datagram, for which the kernel allows 208 KiB by default
/// (`net.core.wmem_max`). Only a panic's backtrace comes near.
const MAX_VALUE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::super::writer;
    use super::*;

    /// What the journal reads: names and values.
    fn parse(mut entry: &[u8]) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while !entry.is_empty() {
            let end = entry.iter().position(|&byte| byte == b'\n').unwrap();
            let (line, rest) =
                (String::from_utf8(entry[..end].to_vec()).unwrap(), &entry[end + 1..]);
            match line.split_once('=') {
                Some((name, value)) => {
                    fields.push((name.to_owned(), value.to_owned()));
                    entry = rest;
                }
                None => {
                    let (len, rest) = rest.split_first_chunk().unwrap();
                    let (value, rest) = rest.split_at(u64::from_le_bytes(*len) as usize);
                    fields.push((line, String::from_utf8(value.to_vec()).unwrap()));
                    entry = rest.strip_prefix(b"\n").unwrap();
                }
            }
        }
        fields
    }

    #[test]
    fn an_event_is_an_entry_with_fields() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        assert!(JournalSocket::open(&path).is_err());
        let journal = UnixDatagram::bind(&path).unwrap();
        let (queue, log) = writer::queue();
        let subscriber = tracing_subscriber::registry().with(JournalLayer(queue.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let subnet = "10.0.7.0/24";
            tracing::warn!(
                kind = "lease",
                subnet,
                peer = %std::net::Ipv4Addr::LOCALHOST,
                left = 7,
                "the lease of {subnet} is lost"
            );
            tracing::error!("two\nlines");
        });
        let end = queue.clone();
        drop(queue);
        std::thread::scope(|scope| {
            scope.spawn(|| log.run(&mut JournalSocket::open(&path).unwrap()));
            end.flush();
            drop(end);
        });
        let mut buffer = [0; 4096];
        let mut next = || {
            let len = journal.recv(&mut buffer).unwrap();
            parse(&buffer[..len])
        };
        let (lost, lines) = (next(), next());
        let has = |entry: &[(String, String)], name: &str, value: &str| {
            assert!(
                entry.iter().any(|(n, v)| (&**n, &**v) == (name, value)),
                "{name}={value}: {entry:?}"
            );
        };
        // The subnet stands in the sentence, the kind is known from it.
        has(&lost, "MESSAGE", " WARN the lease of 10.0.7.0/24 is lost peer=127.0.0.1 left=7");
        has(&lost, "PRIORITY", "4");
        has(&lost, "SYSLOG_IDENTIFIER", "flannel-udp");
        has(&lost, "FLANNEL_KIND", "lease");
        has(&lost, "FLANNEL_SUBNET", "10.0.7.0/24");
        has(&lost, "FLANNEL_PEER", "127.0.0.1");
        has(&lost, "FLANNEL_LEFT", "7");
        assert!(lost.iter().any(|(name, _)| name == "CODE_LINE"), "{lost:?}");
        has(&lines, "MESSAGE", "ERROR two\nlines");
        has(&lines, "PRIORITY", "3");
    }
}
