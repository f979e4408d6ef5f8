//! Leases in a directory, for one machine or a shared file system: no server to install.

mod calls;
mod directory;
mod reading;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::settings::{CONFIG_EXAMPLE, shell_word};
use super::{
    Grant, LeaseStore, ListAndWatch, OpenError, StoreAccess, StoreError, StoreRecord,
    StoreSettings, StoreSnapshot,
};
use crate::output_file;
use crate::subnet::LeaseId;
use directory::{DirectoryError, LeaseDirectory};

/// A lease store in a directory.
pub struct FileStore {
    directory: Arc<LeaseDirectory>,
    options: FileOptions,
}

/// The directory of a [`FileStore`], and how it is watched.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// The directory; it is created if it does not exist.
    pub dir: PathBuf,
    /// Interval at which the directory is read even if the kernel reports no change: it reports
    /// none that another host made on a shared file system (`inotify(7)`).
    pub poll: Duration,
}

impl FileOptions {
    /// A directory, read every 2 s.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), poll: Duration::from_secs(2) }
    }
}

impl StoreSettings for FileOptions {
    fn open(&self) -> Result<Arc<dyn LeaseStore>, OpenError> {
        Ok(Arc::new(FileStore::open(self.clone())?))
    }

    fn problems(&self) -> Vec<String> {
        // A file that would be written into the directory, which may not exist yet.
        let why = output_file::unwritable(&self.dir.join("subnets/any"));
        why.map(|why| format!("lease store file:{}: {why}", self.dir.display()))
            .into_iter()
            .collect()
    }

    fn reader(&self) -> Result<Arc<dyn LeaseStore>, OpenError> {
        let directory = Arc::new(LeaseDirectory::new(&self.dir));
        Ok(Arc::new(FileStore { directory, options: self.clone() }))
    }

    fn access(&self) -> StoreAccess {
        StoreAccess { write_dirs: vec![self.dir.clone()], ..StoreAccess::default() }
    }

    fn config_location(&self) -> String {
        self.dir.join("config").display().to_string()
    }

    fn put_config_command(&self, config: &str) -> String {
        format!("echo {} > {}", shell_word(config), shell_word(&self.config_location()))
    }

    fn remove_entry_command(&self, name: &str) -> String {
        let path = self.dir.join("subnets").join(name);
        format!("rm {}", shell_word(&path.display().to_string()))
    }
}

impl FileStore {
    /// Opens the directory, and creates it if it does not exist.
    ///
    /// # Errors
    /// A directory that cannot be created or written.
    pub fn open(options: FileOptions) -> Result<Self, OpenError> {
        let dir = &options.dir;
        let directory = LeaseDirectory::open(dir)
            .map_err(|error| OpenError(format!("lease store file:{}: {error}", dir.display())))?;
        Ok(Self { directory: Arc::new(directory), options })
    }

    /// Runs `op` on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        op: impl FnOnce(&LeaseDirectory) -> Result<T, DirectoryError> + Send + 'static,
    ) -> Result<T, StoreError> {
        calls::blocking(&self.directory, |directory, _| op(directory)).await
    }
}

#[async_trait]
impl LeaseStore for FileStore {
    fn reload(&self) -> Result<Vec<PathBuf>, String> {
        Ok(Vec::new())
    }

    fn describe(&self) -> String {
        format!("directory {}", self.directory.dir().display())
    }

    fn describe_config(&self) -> String {
        format!("{:?}", self.directory.dir().join("config"))
    }

    fn config_hint(&self) -> String {
        format!("Write it: `{}`", self.options.put_config_command(CONFIG_EXAMPLE))
    }

    async fn identity(&self) -> Result<String, StoreError> {
        self.run(|directory| Ok(format!("file {}", directory.dir().canonicalize()?.display())))
            .await
    }

    async fn config(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(|directory| Ok(directory.config()?)).await
    }

    async fn other_keys(&self) -> Result<Vec<String>, StoreError> {
        self.run(|directory| Ok(directory.other_keys()?)).await
    }

    async fn list(&self) -> Result<StoreSnapshot, StoreError> {
        let entries =
            calls::blocking(&self.directory, |directory, steps| Ok(directory.list(steps)?)).await?;
        let records = entries.into_iter().map(|entry| entry.record).collect();
        Ok(StoreSnapshot { records, revision: 0 })
    }

    async fn get(&self, name: &str) -> Result<Option<StoreRecord>, StoreError> {
        let name = name.to_owned();
        self.run(move |directory| Ok(directory.get(&name)?.map(|entry| entry.record))).await
    }

    async fn create(
        &self,
        name: &str,
        value: &[u8],
        grant: Option<Grant>,
    ) -> Result<StoreRecord, StoreError> {
        let (name, value) = (name.to_owned(), value.to_vec());
        self.run(move |directory| directory.create(&name, &value, grant)).await
    }

    async fn replace(
        &self,
        name: &str,
        revision: i64,
        value: &[u8],
        grant: Option<Grant>,
    ) -> Result<StoreRecord, StoreError> {
        let (name, value) = (name.to_owned(), value.to_vec());
        self.run(move |directory| directory.replace(&name, revision, &value, grant)).await
    }

    async fn remove(&self, name: &str, revision: i64) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.run(move |directory| directory.remove(&name, revision)).await
    }

    async fn check_write(&self) -> Result<(), StoreError> {
        self.run(|directory| Ok(directory.check_write()?)).await
    }

    async fn time_left(&self, record: &StoreRecord) -> Result<Option<Duration>, StoreError> {
        let name = record.name.clone();
        let entry = self.run(move |directory| Ok(directory.get(&name)?)).await?;
        let expires =
            entry.filter(|entry| entry.record.lease == record.lease).and_then(|e| e.expires);
        Ok(expires.and_then(|expires| expires.duration_since(self.directory.now()).ok()))
    }

    async fn revoke_unused(&self, _lease: LeaseId) -> Result<(), StoreError> {
        // The terms of a lease are a file of its entry, and were replaced together with the entry.
        Ok(())
    }

    async fn watch(&self) -> Result<ListAndWatch, StoreError> {
        watch::watch(&self.directory, &self.options).await
    }
}
