//! The entries of a lease store, and their changes.

use std::fmt;
use std::time::Duration;

use crate::subnet::LeaseId;

/// All entries at one moment.
#[derive(Clone, Debug, Default)]
pub struct StoreSnapshot {
    /// The entries, by name.
    pub records: Vec<StoreRecord>,
    /// The store's revision at that moment; 0 for a store without revisions.
    pub revision: i64,
}

/// One entry under `subnets/`.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreRecord {
    /// The last part of the entry's key.
    pub name: String,
    /// The entry's value, unparsed.
    pub value: Vec<u8>,
    /// A number that differs after every write of the entry.
    pub revision: i64,
    /// The lease that the entry expires with; `None` for a reservation.
    pub lease: Option<LeaseId>,
    /// Why the entry's value could not be read, which is then empty.
    pub fault: Option<String>,
}

impl fmt::Debug for StoreRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, revision, lease, fault } = self;
        let value = String::from_utf8_lossy(value);
        write!(f, "{name}={value:.80} rev {revision}")?;
        lease.map_or(Ok(()), |lease| write!(f, " lease {lease}"))?;
        fault.as_ref().map_or(Ok(()), |fault| write!(f, " ({fault})"))
    }
}

/// One change of the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChange {
    /// An entry was created or rewritten.
    Put(StoreRecord),
    /// An entry was removed, or expired with its lease.
    Delete {
        /// The entry's name.
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

/// A lease that the store is asked to grant.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// The lease's number, chosen by the instance that asks for the lease.
    pub id: LeaseId,
    /// Time to live.
    pub ttl: Duration,
}
