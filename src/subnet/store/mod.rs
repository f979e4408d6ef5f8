//! Where leases are kept. Managers know only the trait [`LeaseStore`]; behind it is an etcd cluster
//! or a directory of files.

mod etcd;
mod file;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::LeaseId;

pub use etcd::{EtcdOptions, EtcdStore, SYSTEM_AUTHORITIES, Secret};
pub use file::{FileOptions, FileStore};

/// A store of one network's config and leases.
///
/// Every call ends within a bound of its own: an implementation has its time-outs inside.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// The store, for messages: what kind, where.
    fn describe(&self) -> String;

    /// Names the store's content, such that another cluster has another name; asks the store.
    async fn identity(&self) -> Result<String, StoreError>;

    /// The network config, if there is one.
    async fn config(&self) -> Result<Option<Vec<u8>>, StoreError>;

    /// A few keys that do exist, for the operator whose config is not found.
    async fn other_keys(&self) -> Result<Vec<String>, StoreError>;

    /// Everything under `subnets/`, whether it is a lease or junk.
    async fn list(&self) -> Result<StoreSnapshot, StoreError>;

    /// One entry under `subnets/`.
    async fn get(&self, name: &str) -> Result<Option<StoreRecord>, StoreError>;

    /// Makes an entry if there is none of that name. Without `grant` it never expires.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is one.
    async fn create(
        &self,
        name: &str,
        value: &[u8],
        grant: Option<Grant>,
    ) -> Result<StoreRecord, StoreError>;

    /// Replaces an entry's value and lease, if it is still at `revision`. The lease that it had is
    /// left to itself.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it has been changed or removed.
    async fn replace(
        &self,
        name: &str,
        revision: i64,
        value: &[u8],
        grant: Option<Grant>,
    ) -> Result<StoreRecord, StoreError>;

    /// Removes an entry, if it is still at `revision`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it has been changed.
    async fn remove(&self, name: &str, revision: i64) -> Result<(), StoreError>;

    /// How long an entry's lease still lives; `None` if it is gone.
    async fn time_left(&self, record: &StoreRecord) -> Result<Option<Duration>, StoreError>;

    /// Ends a lease that no entry hangs on any more; does nothing if one does.
    async fn revoke_unused(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// The list, and every change from there on.
    async fn watch(&self) -> Result<ListAndWatch, StoreError>;
}

/// Changes after a list. Dropping it ends the watch.
#[async_trait]
pub trait WatchStream: Send {
    /// Waits for the next changes; none of them is a sign of life. May be dropped while it waits.
    ///
    /// # Errors
    /// The watch has ended and must be begun anew from a list.
    async fn next(&mut self) -> Result<Vec<StoreChange>, StoreError>;

    /// Asks the store for a sign of life, which [`next`](Self::next) then returns.
    ///
    /// # Errors
    /// The watch has ended.
    async fn probe(&mut self) -> Result<(), StoreError>;
}

/// A list and what follows it.
pub struct ListAndWatch {
    /// The entries at the moment of the list.
    pub snapshot: StoreSnapshot,
    /// What changes afterwards, without a gap.
    pub stream: Box<dyn WatchStream>,
}

/// All entries at one moment.
#[derive(Clone, Debug, Default)]
pub struct StoreSnapshot {
    /// The entries, by name.
    pub records: Vec<StoreRecord>,
    /// The store's revision at that moment; 0 where the store has none.
    pub revision: i64,
}

/// One entry under `subnets/`.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreRecord {
    /// The last part of its key.
    pub name: String,
    /// What is stored there.
    pub value: Vec<u8>,
    /// Changes with every write.
    pub revision: i64,
    /// The lease that it dies with; without one it is a reservation.
    pub lease: Option<LeaseId>,
}

impl fmt::Debug for StoreRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, revision, lease } = self;
        let value = String::from_utf8_lossy(value);
        write!(f, "{name}={value:.80} rev {revision}")?;
        lease.map_or(Ok(()), |lease| write!(f, " lease {lease}"))
    }
}

/// One change to the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChange {
    /// An entry was made or rewritten.
    Put(StoreRecord),
    /// An entry was removed, or died with its lease.
    Delete {
        /// Its name.
        name: String,
        /// The store's revision of the removal.
        revision: i64,
    },
}

impl StoreChange {
    /// The name of the entry that changed.
    pub fn name(&self) -> &str {
        match self {
            Self::Put(record) => &record.name,
            Self::Delete { name, .. } => name,
        }
    }
}

/// A lease to be made.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// Its number, chosen by the instance that asks for it.
    pub id: LeaseId,
    /// How long it lives.
    pub ttl: Duration,
}

/// Why a store did not do what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The entry exists, or is not at the expected revision.
    #[error("the entry was changed by somebody else")]
    Conflict,
    /// The history that a watch needs is gone.
    #[error("the history has been compacted")]
    Compacted,
    /// The store cannot be reached, or does not answer as it should.
    #[error("{kind}: {detail}")]
    Unavailable {
        /// The class of the kind.
        kind: UnavailableKind,
        /// Who said what.
        detail: String,
    },
}

impl StoreError {
    /// An error of the given class.
    pub fn unavailable(kind: UnavailableKind, detail: impl Into<String>) -> Self {
        Self::Unavailable { kind, detail: detail.into() }
    }
}

/// What keeps us from the store: each has another cure.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UnavailableKind {
    /// Nobody listens there.
    Refused,
    /// No answer in time.
    Timeout,
    /// The two ends do not agree on TLS: certificates, authorities, names.
    Tls,
    /// User, password or permission.
    Authentication,
    /// The member is alive but its cluster has no leader.
    NoLeader,
    /// The connection or the watch ended.
    Closed,
    /// The operating system or the store refuses for another reason.
    Other,
}

impl fmt::Display for UnavailableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::Timeout => "no answer in time",
            Self::Tls => "TLS failed",
            Self::Authentication => "authentication failed",
            Self::NoLeader => "the cluster has no leader",
            Self::Closed => "connection closed",
            Self::Other => "failed",
        })
    }
}

/// Which store, as `--registry` names it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum StoreKind {
    /// An etcd cluster: `etcd`.
    #[default]
    Etcd,
    /// A directory: `file:DIR`.
    File(PathBuf),
}

impl FromStr for StoreKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "etcd" => Ok(Self::Etcd),
            Some(("file", dir)) if !dir.is_empty() => Ok(Self::File(dir.into())),
            _ => Err(format!("`{text}` is no registry: use `etcd` or `file:DIR`")),
        }
    }
}

/// What it takes to open a store.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// Which kind.
    pub kind: StoreKind,
    /// How to reach etcd, if it is etcd.
    pub etcd: EtcdOptions,
}

/// Opens the store; connects to nothing yet.
///
/// # Errors
/// Options that can never work: an unreadable certificate, no endpoint, a directory that cannot
/// be made.
pub fn open(options: &StoreOptions) -> Result<Arc<dyn LeaseStore>, OpenError> {
    Ok(match &options.kind {
        StoreKind::Etcd => Arc::new(EtcdStore::new(options.etcd.clone())?),
        StoreKind::File(dir) => Arc::new(FileStore::open(dir, FileOptions::default())?),
    })
}

/// Options with which a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub(crate) String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_kinds() {
        assert_eq!("etcd".parse(), Ok(StoreKind::Etcd));
        assert_eq!("file:/a:b".parse(), Ok(StoreKind::File("/a:b".into())));
        for bad in ["", "file:", "file", "etcd:x", "zk"] {
            assert!(bad.parse::<StoreKind>().is_err(), "{bad}");
        }
    }
}
