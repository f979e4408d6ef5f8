//! The files of a directory of leases. Every function here blocks.
//!
//! ```text
//! DIR/config                  the network config, as in etcd
//! DIR/subnets/10.0.20.0-24    a lease's value, byte for byte as in etcd
//! DIR/terms/10.0.20.0-24      the lease's number and time to live; absent for a reservation
//! DIR/.lock                   locked during every change
//! ```
//!
//! A file under `subnets/` is written under a temporary name and then linked to its name, which
//! fails if the name exists (`link(2)`). So two hosts never get one subnet, even on a file system
//! that ignores locks.
//!
//! The directory and its parts may be links; `config` too, as where Kubernetes mounts it. What stands
//! under the name of an entry has to be a file.

mod entries;
mod lock;

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::calls::{CallThreads, Progress};
use super::reading::{self, Links, ReadError, ReadsInFlight};
use crate::subnet::store::{Grant, StoreRecord};
use entries::KnownEntry;

/// A directory of leases.
pub(super) struct LeaseDirectory {
    dir: PathBuf,
    /// The file system's clock minus this host's, in milliseconds. A network file system has its
    /// server's clock.
    skew: AtomicI64,
    /// Number of this process's next temporary file.
    serial: AtomicU64,
    threads: CallThreads,
    reads: ReadsInFlight,
    /// The entries as they were last read.
    known: Mutex<HashMap<String, KnownEntry>>,
}

/// An entry, and the time at which it expires by the file system's clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LeaseFile {
    pub(super) record: StoreRecord,
    pub(super) expires: Option<SystemTime>,
}

/// Why a change was not carried out.
#[derive(Debug)]
pub(super) enum DirectoryError {
    Conflict,
    Io(io::Error),
}

impl From<io::Error> for DirectoryError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The content of a file under `terms/`.
#[derive(Serialize, Deserialize)]
struct LeaseTerms {
    lease: i64,
    ttl_ms: u64,
}

impl LeaseDirectory {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        for part in ["", SUBNETS, TERMS] {
            fs::create_dir_all(dir.join(part))?;
        }
        let directory = Self::new(dir);
        directory.measure_clock()?;
        Ok(directory)
    }

    /// The directory as it is, whose clock is taken for this host's.
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            skew: AtomicI64::new(0),
            serial: AtomicU64::new(0),
            threads: CallThreads::new(),
            reads: ReadsInFlight::default(),
            known: Mutex::default(),
        }
    }

    /// The threads for calls to this directory.
    pub(super) fn threads(&self) -> &CallThreads {
        &self.threads
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn subnets(&self) -> PathBuf {
        self.dir.join(SUBNETS)
    }

    pub(super) fn config(&self) -> io::Result<Option<Vec<u8>>> {
        match reading::read(&self.dir.join("config"), Links::Follow) {
            Ok((_, text)) => Ok(Some(text)),
            Err(ReadError::Absent) => Ok(None),
            Err(ReadError::Kind(kind)) => Err(io::Error::other(format!("config is {kind}"))),
            Err(ReadError::Directory(error) | ReadError::Unreadable(error)) => Err(error),
        }
    }

    pub(super) fn other_keys(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.dir)?
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .filter(|name| !name.starts_with('.') && name != SUBNETS && name != TERMS);
        Ok(names.take(5).collect())
    }

    /// The current time by the file system's clock.
    pub(super) fn now(&self) -> SystemTime {
        let skew = self.skew.load(Ordering::Relaxed);
        let shift = Duration::from_millis(skew.unsigned_abs());
        let now = SystemTime::now();
        if skew < 0 { now - shift } else { now + shift }
    }

    /// All entries that have not expired, sorted by name.
    pub(super) fn list(&self, progress: &Progress) -> io::Result<Vec<LeaseFile>> {
        let mut entries = Vec::new();
        for file in fs::read_dir(self.subnets())? {
            entries.extend(self.listed(&file?)?);
            progress.step();
        }
        entries.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        let place = |name: &str| entries.binary_search_by(|e| e.record.name.as_str().cmp(name));
        self.known().retain(|name, _| place(name).is_ok());
        Ok(entries)
    }

    /// One entry, if it has not expired.
    pub(super) fn get(&self, name: &str) -> io::Result<Option<LeaseFile>> {
        Ok(self
            .read(name)?
            .filter(|entry| entry.expires.is_none_or(|expires| expires > self.now())))
    }

    pub(super) fn create(
        &self,
        name: &str,
        value: &[u8],
        grant: Option<Grant>,
    ) -> Result<StoreRecord, DirectoryError> {
        let path = self.path(SUBNETS, name)?;
        let _lock = self.lock()?;
        if let Some(entry) = self.read(name)? {
            if entry.expires.is_none_or(|expires| expires > self.now()) {
                return Err(DirectoryError::Conflict);
            }
            self.unlink(name)?;
        }
        self.set_terms(name, grant)?;
        let temporary = self.temporary(value)?;
        let linked = fs::hard_link(&temporary, &path);
        fs::remove_file(&temporary)?;
        match linked {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(DirectoryError::Conflict),
            Err(error) => Err(error.into()),
            Ok(()) => self.written(name),
        }
    }

    pub(super) fn replace(
        &self,
        name: &str,
        revision: i64,
        value: &[u8],
        grant: Option<Grant>,
    ) -> Result<StoreRecord, DirectoryError> {
        let path = self.path(SUBNETS, name)?;
        let _lock = self.lock()?;
        self.expect(name, revision)?;
        self.set_terms(name, grant)?;
        fs::rename(self.temporary(value)?, path)?;
        self.written(name)
    }

    pub(super) fn remove(&self, name: &str, revision: i64) -> Result<(), DirectoryError> {
        let _lock = self.lock()?;
        if self.get(name)?.is_none() {
            return Ok(());
        }
        self.expect(name, revision)?;
        Ok(self.unlink(name)?)
    }

    fn expect(&self, name: &str, revision: i64) -> Result<(), DirectoryError> {
        match self.get(name)? {
            Some(entry) if entry.record.revision == revision => Ok(()),
            _ => Err(DirectoryError::Conflict),
        }
    }

    fn written(&self, name: &str) -> Result<StoreRecord, DirectoryError> {
        Ok(self.read(name)?.ok_or(DirectoryError::Conflict)?.record)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        absent_is_none(fs::remove_file(self.path(SUBNETS, name)?))?;
        absent_is_none(fs::remove_file(self.path(TERMS, name)?))?;
        Ok(())
    }

    fn set_terms(&self, name: &str, grant: Option<Grant>) -> io::Result<()> {
        let path = self.path(TERMS, name)?;
        let Some(grant) = grant else {
            return absent_is_none(fs::remove_file(path)).map(drop);
        };
        let ttl_ms = u64::try_from(grant.ttl.as_millis()).unwrap_or(u64::MAX);
        let text = serde_json::to_vec(&LeaseTerms { lease: grant.id.0, ttl_ms })?;
        fs::rename(self.temporary(&text)?, path)
    }

    /// A new file with this content, under a name that readers ignore.
    fn temporary(&self, content: &[u8]) -> io::Result<PathBuf> {
        let host = rustix::system::uname();
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let host = host.nodename().to_string_lossy();
        let path = self.dir.join(format!(".new-{host}-{}-{serial}", std::process::id()));
        absent_is_none(fs::remove_file(&path))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
        file.write_all(content)?;
        file.sync_all()?;
        Ok(path)
    }

    /// Writes a file as for an entry, and removes it.
    pub(super) fn check_write(&self) -> io::Result<()> {
        fs::remove_file(self.temporary(b" ")?)
    }

    /// The path of an entry's file.
    ///
    /// # Errors
    /// A name that would lead out of the directory.
    fn path(&self, part: &str, name: &str) -> io::Result<PathBuf> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not the name of a lease"));
        }
        Ok(self.dir.join(part).join(name))
    }
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

const SUBNETS: &str = "subnets";
const TERMS: &str = "terms";

#[cfg(test)]
mod tests;
