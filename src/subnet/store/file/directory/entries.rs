//! Reading an entry, whatever stands under its name.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::DirEntry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::{LeaseDirectory, LeaseFile, LeaseTerms, SUBNETS, TERMS};
use crate::subnet::LeaseId;
use crate::subnet::store::StoreRecord;
use crate::subnet::store::file::reading::{self, Links, ReadError};

/// An entry as it was last read.
pub(super) struct KnownEntry {
    entry: LeaseFile,
    /// Whether it could not be read since, which has been logged.
    is_old: bool,
}

impl LeaseDirectory {
    /// The entry of a file of the directory, if it has not expired.
    pub(super) fn listed(&self, file: &DirEntry) -> io::Result<Option<LeaseFile>> {
        let name = match file.file_name().into_string() {
            Ok(name) if name.starts_with('.') => return Ok(None),
            Ok(name) => name,
            Err(name) => return Ok(Some(unnamed(&name))),
        };
        // The directory itself says what is no file (`readdir(3)`, d_type), so that a directory with
        // a hung server mounted on it is not touched.
        match file.file_type().map_or(Ok(()), reading::ordinary) {
            Err(ReadError::Kind(kind)) => Ok(Some(unusable(&name, kind.to_owned()))),
            _ => self.get(&name),
        }
    }

    /// One entry, expired or not.
    ///
    /// An entry that cannot be read now stays as it was last read: a file server in trouble must
    /// not take the routes away. One that was never read is an entry without a value.
    ///
    /// # Errors
    /// The directory cannot be searched.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<LeaseFile>> {
        let read = self.reads.run(name, || self.read_file(name));
        match read.unwrap_or_else(|error| Err(ReadError::Unreadable(error))) {
            Ok(entry) => {
                let known = KnownEntry { entry: entry.clone(), is_old: false };
                self.known().insert(name.to_owned(), known);
                Ok(Some(entry))
            }
            Err(ReadError::Absent) => Ok(None),
            Err(ReadError::Directory(error)) => Err(error),
            Err(ReadError::Kind(kind)) => Ok(Some(unusable(name, kind.to_owned()))),
            Err(ReadError::Unreadable(error)) => {
                let mut known = self.known();
                let Some(known) = known.get_mut(name) else {
                    return Ok(Some(unusable(name, error.to_string())));
                };
                if !std::mem::replace(&mut known.is_old, true) {
                    warn!(
                        dir = %self.dir.display(), name, %error,
                        "cannot read an entry; keeping its last known content"
                    );
                }
                Ok(Some(known.entry.clone()))
            }
        }
    }

    fn read_file(&self, name: &str) -> Result<LeaseFile, ReadError> {
        let path = |part| self.path(part, name).map_err(|_| ReadError::Absent);
        let (meta, value) = reading::read(&path(SUBNETS)?, Links::Refuse)?;
        let terms = match reading::read(&path(TERMS)?, Links::Refuse) {
            Ok((_, text)) => serde_json::from_slice::<LeaseTerms>(&text).ok(),
            Err(ReadError::Absent) => None,
            Err(error) => return Err(error),
        };
        let expires = match &terms {
            Some(terms) => meta
                .modified()
                .map_err(ReadError::Unreadable)?
                .checked_add(Duration::from_millis(terms.ttl_ms)),
            None => None,
        };
        let lease = terms.map(|terms| LeaseId(terms.lease));
        let content = (meta.ino(), meta.mtime(), meta.mtime_nsec(), &value, lease.map(|id| id.0));
        let revision = revision(&content);
        let record = StoreRecord { name: name.to_owned(), value, revision, lease, fault: None };
        Ok(LeaseFile { record, expires })
    }

    pub(super) fn known(&self) -> MutexGuard<'_, HashMap<String, KnownEntry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entry without a value, and why it has none.
fn unusable(name: &str, fault: String) -> LeaseFile {
    let revision = revision(&fault);
    let (name, value) = (name.to_owned(), Vec::new());
    let record = StoreRecord { name, value, revision, lease: None, fault: Some(fault) };
    LeaseFile { record, expires: None }
}

fn unnamed(name: &OsString) -> LeaseFile {
    unusable(&name.to_string_lossy(), "its name is not UTF-8".to_owned())
}

fn revision(content: &impl Hash) -> i64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    (hasher.finish() >> 1) as i64
}
