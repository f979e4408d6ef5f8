//! Lease stores: where the network config and the leases of all hosts are kept.
//!
//! The subnet manager knows only the trait [`LeaseStore`]. Behind the trait is an etcd cluster
//! (`etcd/`) or a directory (`file/`). The trait's methods come in two groups: those that read the
//! network, which every host needs, and those that hold a lease in it.
//!
//! # Adding a store
//!
//! A store is a folder beside this file that implements [`LeaseStore`] and [`StoreSettings`].
//! Outside of its folder it touches at most four files:
//!
//! 1. `subnet/store/settings.rs`, the one place that lists the stores: a variant of [`StoreKind`],
//!    its text for `--registry`, and its settings in [`StoreOptions`];
//! 2. this file, for its `mod` line;
//! 3. `args/store.rs`, for its flags;
//! 4. `doctor/store.rs`, for checks that only this store allows.
//!
//! The daemon, its sandbox, `leases` and the rest of `doctor` work with any store, and
//! `tests/subnet/test_store.rs` runs the manager's tests against each.

mod entry;
mod error;
mod etcd;
mod file;
mod settings;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use super::LeaseId;

pub use entry::{Grant, StoreChange, StoreRecord, StoreSnapshot};
pub use error::{OpenError, StoreError, UnavailableKind};
pub use etcd::{EtcdOptions, EtcdStore, Secret, wrong_endpoint};
pub use file::{FileOptions, FileStore};
pub use settings::{
    CONFIG_EXAMPLE, StoreAccess, StoreKind, StoreOptions, StoreSettings, open, shell_word,
};

/// A store of one network's config and leases.
///
/// Every call ends within a bound of its own: each implementation applies its time-outs itself.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    // Reading the network.

    /// Reads the files of the credentials again: the next request uses them. Returns their names.
    ///
    /// # Errors
    /// Files that cannot be used; the connections that are open stay.
    fn reload(&self) -> Result<Vec<PathBuf>, String>;

    /// Kind and address of the store, for messages.
    fn describe(&self) -> String;

    /// Where the network config is looked for, quoted, and what is unusual about that place.
    fn describe_config(&self) -> String;

    /// What to do if no network config is there, as one sentence.
    fn config_hint(&self) -> String;

    /// A name of the store's content, read from the store: two clusters, and two networks of one
    /// cluster, have different names.
    async fn identity(&self) -> Result<String, StoreError>;

    /// The network config, `None` if the store has none.
    async fn config(&self) -> Result<Option<Vec<u8>>, StoreError>;

    /// A few keys that do exist, to help an operator whose config is not found.
    async fn other_keys(&self) -> Result<Vec<String>, StoreError>;

    /// Every entry under `subnets/`, whether it is a lease or not.
    async fn list(&self) -> Result<StoreSnapshot, StoreError>;

    /// One entry under `subnets/`.
    async fn get(&self, name: &str) -> Result<Option<StoreRecord>, StoreError>;

    /// Lists all entries, and streams every change from that list on, without a gap.
    async fn watch(&self) -> Result<ListAndWatch, StoreError>;

    // Holding a lease.

    /// Creates an entry if no entry has that name. Without `grant` the entry never expires.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the entry exists.
    async fn create(
        &self,
        name: &str,
        value: &[u8],
        grant: Option<Grant>,
    ) -> Result<StoreRecord, StoreError>;

    /// Replaces an entry's value and lease, if the entry is still at `revision`. The entry's
    /// former lease is neither revoked nor renewed.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the entry has been changed or removed.
    async fn replace(
        &self,
        name: &str,
        revision: i64,
        value: &[u8],
        grant: Option<Grant>,
    ) -> Result<StoreRecord, StoreError>;

    /// Removes an entry, if it is still at `revision`. Removing an absent entry succeeds.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the entry has been changed.
    async fn remove(&self, name: &str, revision: i64) -> Result<(), StoreError>;

    /// Checks whether entries may be written, without changing one.
    async fn check_write(&self) -> Result<(), StoreError>;

    /// Time until an entry's lease expires; `None` if the lease is gone, or if the entry is a
    /// reservation.
    async fn time_left(&self, record: &StoreRecord) -> Result<Option<Duration>, StoreError>;

    /// Ends a lease that no entry is attached to; does nothing while an entry is.
    async fn revoke_unused(&self, lease: LeaseId) -> Result<(), StoreError>;
}

/// The changes after a list. Dropping the stream ends the watch.
#[async_trait]
pub trait WatchStream: Send {
    /// Waits for the next changes. An empty list is a sign of life. The future may be dropped
    /// while it waits, without losing a change.
    ///
    /// # Errors
    /// The watch has ended; a new one has to start from a new list.
    async fn next(&mut self) -> Result<Vec<StoreChange>, StoreError>;

    /// Asks the store for a sign of life, which [`next`](Self::next) then returns.
    ///
    /// # Errors
    /// The watch has ended.
    async fn probe(&mut self) -> Result<(), StoreError>;
}

/// A list of all entries, and the watch that continues from it.
pub struct ListAndWatch {
    /// The entries at the moment of the list.
    pub snapshot: StoreSnapshot,
    /// The changes since then, without a gap.
    pub stream: Box<dyn WatchStream>,
}
