//! Leases in a directory, for one machine or a shared file system: no server to install.

mod directory;
mod watch;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Follow, Grant, OpenError, Record, Registry, RegistryError, Snapshot, Trouble};
use crate::subnet::LeaseId;
use directory::{Refusal, Store};

/// A registry in a directory.
pub struct FileRegistry {
    store: Arc<Store>,
    options: FileOptions,
}

/// How a directory is watched.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// How often the directory is read even if the kernel reports no change: it reports none that
    /// another host made on a shared file system.
    pub poll: Duration,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self { poll: Duration::from_secs(2) }
    }
}

impl FileRegistry {
    /// Opens a directory, and makes it if it is missing.
    ///
    /// # Errors
    /// A directory that cannot be made or written.
    pub fn open(dir: &Path, options: FileOptions) -> Result<Self, OpenError> {
        let store = Store::open(dir)
            .map_err(|error| OpenError(format!("registry file:{}: {error}", dir.display())))?;
        Ok(Self { store: Arc::new(store), options })
    }

    /// Runs `op` where it may block.
    async fn run<T: Send + 'static>(
        &self,
        op: impl FnOnce(&Store) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let store = Arc::clone(&self.store);
        blocking(&store, op).await
    }
}

/// Runs `op` on a thread that may block.
async fn blocking<T: Send + 'static>(
    store: &Arc<Store>,
    op: impl FnOnce(&Store) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, RegistryError> {
    let shared = Arc::clone(store);
    match tokio::task::spawn_blocking(move || op(&shared)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Refusal::Conflict)) => Err(RegistryError::Conflict),
        Ok(Err(Refusal::Io(error))) => Err(failed(store.dir(), &error)),
        Err(error) => Err(RegistryError::unavailable(Trouble::Other, error.to_string())),
    }
}

fn failed(dir: &Path, error: &io::Error) -> RegistryError {
    RegistryError::unavailable(Trouble::Other, format!("{}: {error}", dir.display()))
}

#[async_trait]
impl Registry for FileRegistry {
    fn describe(&self) -> String {
        format!("directory {}", self.store.dir().display())
    }

    async fn identity(&self) -> Result<String, RegistryError> {
        self.run(|store| Ok(format!("file {}", store.dir().canonicalize()?.display()))).await
    }

    async fn config(&self) -> Result<Option<Vec<u8>>, RegistryError> {
        self.run(|store| Ok(store.config()?)).await
    }

    async fn other_keys(&self) -> Result<Vec<String>, RegistryError> {
        self.run(|store| Ok(store.other_keys()?)).await
    }

    async fn list(&self) -> Result<Snapshot, RegistryError> {
        let entries = self.run(|store| Ok(store.list()?)).await?;
        let records = entries.into_iter().map(|entry| entry.record).collect();
        Ok(Snapshot { records, revision: 0 })
    }

    async fn get(&self, name: &str) -> Result<Option<Record>, RegistryError> {
        let name = name.to_owned();
        self.run(move |store| Ok(store.get(&name)?.map(|entry| entry.record))).await
    }

    async fn create(
        &self,
        name: &str,
        value: &[u8],
        grant: Option<Grant>,
    ) -> Result<Record, RegistryError> {
        let (name, value) = (name.to_owned(), value.to_vec());
        self.run(move |store| store.create(&name, &value, grant)).await
    }

    async fn replace(
        &self,
        name: &str,
        revision: i64,
        value: &[u8],
        grant: Option<Grant>,
    ) -> Result<Record, RegistryError> {
        let (name, value) = (name.to_owned(), value.to_vec());
        self.run(move |store| store.replace(&name, revision, &value, grant)).await
    }

    async fn remove(&self, name: &str, revision: i64) -> Result<(), RegistryError> {
        let name = name.to_owned();
        self.run(move |store| store.remove(&name, revision)).await
    }

    async fn time_left(&self, record: &Record) -> Result<Option<Duration>, RegistryError> {
        let name = record.name.clone();
        let entry = self.run(move |store| Ok(store.get(&name)?)).await?;
        let dies = entry.filter(|entry| entry.record.lease == record.lease).and_then(|e| e.dies);
        Ok(dies.and_then(|dies| dies.duration_since(self.store.now()).ok()))
    }

    async fn revoke_unused(&self, _lease: LeaseId) -> Result<(), RegistryError> {
        // A lease is its entry's terms here: it was replaced with them.
        Ok(())
    }

    async fn follow(&self) -> Result<Follow, RegistryError> {
        watch::follow(&self.store, &self.options).await
    }
}
