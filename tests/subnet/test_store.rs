//! One test, both registries.
#![allow(unreachable_pub)]

use std::sync::Arc;
use std::time::Duration;

use flannel_udp::subnet::store::{FileOptions, FileRegistry, Registry};
use tempfile::TempDir;

use crate::support::*;

/// Something that leases are kept in, and a third party's hand in it.
pub enum Bed {
    Etcd(Etcd),
    File(TempDir),
}

impl Bed {
    pub fn registry(&self) -> Arc<dyn Registry> {
        match self {
            Self::Etcd(etcd) => etcd.registry(),
            Self::File(dir) => {
                let options = FileOptions { poll: Duration::from_millis(300) };
                Arc::new(FileRegistry::open(dir.path(), options).unwrap())
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

    /// As `put`, by another host's registry: with a lease.
    pub async fn lease(&self, name: &str, host: u8) {
        let grant = flannel_udp::subnet::store::Grant {
            id: flannel_udp::subnet::LeaseId(fastrand::i64(1..1 << 40)),
            ttl: Duration::from_secs(100),
        };
        let registry = self.registry();
        if let Some(old) = registry.get(name).await.unwrap() {
            registry
                .replace(name, old.revision, value(host).as_bytes(), Some(grant))
                .await
                .unwrap();
        } else {
            registry.create(name, value(host).as_bytes(), Some(grant)).await.unwrap();
        }
    }

    pub async fn delete(&self, name: &str) {
        let registry = self.registry();
        let record = registry.get(name).await.unwrap().unwrap();
        registry.remove(name, record.revision).await.unwrap();
    }

    pub async fn value(&self, name: &str) -> Option<String> {
        let record = self.registry().get(name).await.unwrap()?;
        Some(String::from_utf8(record.value).unwrap())
    }
}

macro_rules! both {
    ($($name:ident)*) => {
        mod on_etcd { $(
            #[tokio::test]
            async fn $name() {
                super::$name($crate::test_store::Bed::Etcd($crate::support::Etcd::start().await)).await;
            }
        )* }
        mod on_files { $(
            #[tokio::test]
            async fn $name() {
                super::$name($crate::test_store::Bed::File(tempfile::TempDir::new().unwrap())).await;
            }
        )* }
    };
}

pub(crate) use both;
