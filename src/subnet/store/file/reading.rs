//! Reading the files of a directory that others write to. Every function here blocks.
//!
//! Whatever stands under an entry's name, it costs that entry only: nothing but an ordinary file is
//! opened, no link is followed, and a file whose server hangs holds up one thread once.

use std::fs::{self, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// Whether a symbolic link stands for what it leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    Follow,
    Refuse,
}

/// Why a file was not read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// There is no such file.
    Absent,
    /// The directory cannot be searched.
    Directory(io::Error),
    /// Not an ordinary file.
    Kind(&'static str),
    /// The file cannot be opened or read at this moment.
    Unreadable(io::Error),
}

/// Reads an ordinary file, at most 64 KiB of it.
pub(super) fn read(path: &Path, links: Links) -> Result<(Metadata, Vec<u8>), ReadError> {
    let absent = |error: &io::Error| error.kind() == ErrorKind::NotFound;
    let found = match links {
        Links::Follow => fs::metadata(path),
        Links::Refuse => fs::symlink_metadata(path),
    };
    let found = found.map_err(|error| {
        if absent(&error) { ReadError::Absent } else { ReadError::Directory(error) }
    })?;
    // Opening a device can change its state, so its kind is looked at before.
    ordinary(found.file_type())?;
    let unreadable = |error: io::Error| {
        if absent(&error) { ReadError::Absent } else { ReadError::Unreadable(error) }
    };
    let no_link = if links == Links::Refuse { OFlags::NOFOLLOW } else { OFlags::empty() };
    // The file may have been replaced since: by a FIFO, which would block, or by a link.
    let flags = (OFlags::NONBLOCK | no_link).bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(path)
        .map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    ordinary(meta.file_type())?;
    let mut content = Vec::new();
    file.take(MAX_CONTENT).read_to_end(&mut content).map_err(unreadable)?;
    Ok((meta, content))
}

/// # Errors
/// The kind of a file that is not ordinary.
pub(super) fn ordinary(kind: FileType) -> Result<(), ReadError> {
    let name = if kind.is_file() {
        return Ok(());
    } else if kind.is_symlink() {
        "a symbolic link, which is not followed"
    } else if kind.is_dir() {
        "a directory, not a file"
    } else if kind.is_fifo() {
        "a FIFO, not a file"
    } else if kind.is_socket() {
        "a socket, not a file"
    } else {
        "a device, not a file"
    };
    Err(ReadError::Kind(name))
}

/// The files that are being read, each by a thread that may hang.
#[derive(Default)]
pub(super) struct ReadsInFlight(Mutex<Vec<(String, Instant)>>);

impl ReadsInFlight {
    /// Runs `read` for the entry `name`, unless a thread has been at that for long.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if one has.
    pub(super) fn run<T>(&self, name: &str, read: impl FnOnce() -> T) -> io::Result<T> {
        let began = Instant::now();
        let mut all = self.all();
        if all.iter().any(|(other, since)| other == name && since.elapsed() > HANGS) {
            return Err(io::Error::new(
                ErrorKind::TimedOut,
                "an earlier read of it is still hanging",
            ));
        }
        all.push((name.to_owned(), began));
        drop(all);
        let outcome = read();
        let mut all = self.all();
        if let Some(at) = all.iter().position(|(other, at)| other == name && *at == began) {
            all.swap_remove(at);
        }
        Ok(outcome)
    }

    fn all(&self) -> MutexGuard<'_, Vec<(String, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Upper limit of what is read of a file, in bytes. A lease's value is shorter; a longer file is not
/// a lease.
const MAX_CONTENT: u64 = 64 * 1024;
/// Time after which a read of one file counts as one that hangs.
const HANGS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_whose_read_hangs_is_not_read_again_until_that_ends() {
        let reads = ReadsInFlight::default();
        let (go_on, gone_on) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|threads| {
            let hung = threads.spawn(|| reads.run("a", move || gone_on.recv()));
            while reads.all().is_empty() {
                std::thread::yield_now();
            }
            reads.run("a", || ()).expect("two short reads may meet");
            std::thread::sleep(HANGS + Duration::from_millis(50));
            assert_eq!(reads.run("a", || ()).unwrap_err().kind(), ErrorKind::TimedOut);
            reads.run("b", || ()).expect("another file");
            go_on.send(()).unwrap();
            hung.join().unwrap().unwrap().unwrap();
        });
        reads.run("a", || ()).expect("it answers again");
    }
}
