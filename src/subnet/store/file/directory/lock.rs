//! The lock of the directory, and the file system's clock.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use tracing::warn;

use super::LeaseDirectory;

impl LeaseDirectory {
    /// Takes the lock, and measures the file system's clock.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] while another process keeps the lock.
    pub(super) fn lock(&self) -> io::Result<File> {
        let file = self.measure_clock()?;
        let until = Instant::now() + LOCK_WAIT;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::WOULDBLOCK) if Instant::now() < until => {
                    thread::sleep(Duration::from_millis(fastrand::u64(2..12)));
                }
                Err(Errno::WOULDBLOCK) => {
                    let text = "another process holds a lock on .lock (see `fuser -v .lock` there)";
                    return Err(io::Error::new(ErrorKind::TimedOut, text));
                }
                Err(error) => {
                    warn!(
                        dir = %self.dir.display(), %error,
                        "the file system does not support locks; relying on hard links to keep leases \
                         distinct"
                    );
                    return Ok(file);
                }
            }
        }
    }

    /// Measures the file system's clock by a write to the lock file, which is returned.
    pub(super) fn measure_clock(&self) -> io::Result<File> {
        let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits();
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(flags.cast_signed())
            .open(self.dir.join(".lock"))?;
        file.write_all(b"\n")?;
        let theirs = file.metadata()?.modified()?;
        let skew = match theirs.duration_since(SystemTime::now()) {
            Ok(ahead) => ahead.as_millis() as i64,
            Err(behind) => -(behind.duration().as_millis() as i64),
        };
        self.skew.store(skew, Ordering::Relaxed);
        Ok(file)
    }
}

/// Time to wait for the lock, within the time limit of a call.
const LOCK_WAIT: Duration = Duration::from_secs(3);
