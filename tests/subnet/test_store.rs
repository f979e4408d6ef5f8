//! One test, both lease stores.
#![allow(unreachable_pub)]

use std::sync::Arc;
use std::time::Duration;

use flannel_udp::subnet::store::{FileOptions, FileStore, LeaseStore};
use tempfile::TempDir;

use crate::support::*;

/// A lease store, with direct access to its content.
pub enum TestStore {
    Etcd(Etcd),
    File(TempDir),
}

impl TestStore {
    pub fn open(&self) -> Arc<dyn LeaseStore> {
        match self {
            Self::Etcd(etcd) => etcd.store(),
            Self::File(dir) => {
                let mut options = FileOptions::new(dir.path());
                options.poll = Duration::from_millis(300);
                Arc::new(FileStore::open(options).unwrap())
            }
        }
    }

    pub async fn put(&self, key: &str, value: &str) {
        match self {
            Self::Etcd(etcd) => etcd.put(key, value).await,
            Self::File(dir) => {
                std::fs::create_dir_all(dir.path().join("subnets")).unwrap();
                let new = dir.path().join(".new-by-hand");
                std::fs::write(&new, value).unwrap();
                std::fs::rename(new, dir.path().join(key)).unwrap();
            }
        }
    }

    /// As `put`, by another host: with a lease.
    pub async fn lease(&self, name: &str, host: u8) {
        let grant = flannel_udp::subnet::store::Grant {
            id: flannel_udp::subnet::LeaseId(fastrand::i64(1..1 << 40)),
            ttl: Duration::from_secs(100),
        };
        let store = self.open();
        if let Some(old) = store.get(name).await.unwrap() {
            store.replace(name, old.revision, value(host).as_bytes(), Some(grant)).await.unwrap();
        } else {
            store.create(name, value(host).as_bytes(), Some(grant)).await.unwrap();
        }
    }

    pub async fn delete(&self, name: &str) {
        let store = self.open();
        let record = store.get(name).await.unwrap().unwrap();
        store.remove(name, record.revision).await.unwrap();
    }

    pub async fn value(&self, name: &str) -> Option<String> {
        let record = self.open().get(name).await.unwrap()?;
        Some(String::from_utf8(record.value).unwrap())
    }
}

macro_rules! both {
    ($($name:ident)*) => {
        mod on_etcd { $(
            #[tokio::test]
            async fn $name() {
                super::$name($crate::test_store::TestStore::Etcd($crate::support::Etcd::start().await)).await;
            }
        )* }
        mod on_files { $(
            #[tokio::test]
            async fn $name() {
                super::$name($crate::test_store::TestStore::File(tempfile::TempDir::new().unwrap())).await;
            }
        )* }
    };
}

pub(crate) use both;
