//! The thread that writes the log.
//!
//! Whoever reads standard error or the journal decides how long a write to it takes, and whether it succeeds: a pipe that
//! nobody reads, a disk that is full. So no other thread writes there. Lines go into a bounded queue; one that
//! finds it full, or that cannot be written, is lost and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rustix::event::{PollFd, PollFlags, poll};

use crate::confine::WorkerConfinement;
use crate::humanize;

/// The writing end of the queue of lines.
#[derive(Clone)]
pub(super) struct LogQueue {
    entries: Sender<Entry>,
    lost: Arc<AtomicU64>,
}

/// The reading end, until a thread takes it.
pub(super) struct LogWriter {
    entries: Receiver<Entry>,
    lost: Arc<AtomicU64>,
}

enum Entry {
    Line(Vec<u8>),
    /// All lines before this have been written, or lost.
    Reached(Sender<()>),
}

/// Makes an empty queue.
pub(super) fn queue() -> (LogQueue, LogWriter) {
    let (sender, receiver) = bounded(MAX_QUEUED);
    let lost = Arc::new(AtomicU64::new(0));
    let writer = LogWriter { entries: receiver, lost: Arc::clone(&lost) };
    (LogQueue { entries: sender, lost }, writer)
}

impl LogQueue {
    /// Adds a line or an entry of the journal; never waits.
    pub(super) fn push(&self, line: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.entries.try_send(Entry::Line(line)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of lines that were lost.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until the lines so far are written, but not longer than [`MAX_WAIT_AT_END`].
    pub(super) fn flush(&self) {
        let (reached, wait) = bounded(1);
        if self.entries.send_timeout(Entry::Reached(reached), MAX_WAIT_AT_END).is_ok() {
            let _ = wait.recv_timeout(MAX_WAIT_AT_END);
        }
    }
}

/// Takes one line per call, as `tracing-subscriber` writes them; never waits, never fails.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogWriter {
    /// Starts the thread, which writes each line to `sink` in one call if it can. It confines itself as the
    /// threads that carry packets do.
    ///
    /// # Errors
    /// The kernel refuses another thread.
    pub(super) fn start(
        self,
        confinement: WorkerConfinement,
        mut sink: Box<dyn Write + Send>,
    ) -> io::Result<()> {
        thread::Builder::new().name("log".into()).spawn(move || {
            if let Err(error) = confinement.enter() {
                tracing::error!("cannot confine the thread that writes the log: {error}");
            }
            self.run(&mut sink);
        })?;
        Ok(())
    }

    pub(super) fn run(self, sink: &mut impl Write) {
        let mut reported = 0;
        for entry in self.entries {
            match entry {
                Entry::Line(line) => match write(sink, &line) {
                    Ok(()) => {
                        let lost = self.lost.load(Ordering::Relaxed);
                        if lost != reported {
                            let new = lost - reported;
                            tracing::warn!(
                                "{} of the log {} lost: nothing read the log, or it could not be written",
                                humanize::counted(new, "line"),
                                humanize::agree(new, "was", "were")
                            );
                            reported = lost;
                        }
                    }
                    Err(_) => {
                        self.lost.fetch_add(1, Ordering::Relaxed);
                    }
                },
                Entry::Reached(sender) => drop(sender.send(())),
            }
        }
    }
}

/// Writes all of `line`, also to a pipe or terminal that another program has made non-blocking.
fn write(sink: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match sink.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let stderr = io::stderr();
                poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lines that may wait: those of a start with all its details, some hundred kilobytes.
const MAX_QUEUED: usize = 1024;

/// Longest wait for the last lines when the process ends. A line takes microseconds unless nobody reads it.
const MAX_WAIT_AT_END: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails for a while, then takes everything.
    struct Disk {
        full: bool,
        written: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            if self.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            // In pieces, as a pipe may take a line.
            let taken = line.len().min(2);
            self.written.extend(&line[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_beyond_the_queue_are_counted() {
        let (mut queue, writer) = queue();
        for _ in 0..MAX_QUEUED + 3 {
            queue.write_all(b"line\n").unwrap();
        }
        assert_eq!(queue.lost(), 3);
        let lost = queue.clone();
        drop(queue);
        let mut disk = Disk { full: false, written: vec![] };
        std::thread::scope(|scope| {
            scope.spawn(|| writer.run(&mut disk));
            lost.flush();
            drop(lost);
        });
        assert_eq!(disk.written.len(), MAX_QUEUED * "line\n".len());
    }

    #[test]
    fn lines_for_a_full_disk_are_counted() {
        let (mut queue, writer) = queue();
        queue.write_all(b"line\n").unwrap();
        let lost = Arc::clone(&queue.lost);
        drop(queue);
        writer.run(&mut Disk { full: true, written: vec![] });
        assert_eq!(lost.load(Ordering::Relaxed), 1);
    }
}
