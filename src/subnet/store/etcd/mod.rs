//! Leases in etcd v3, under stock flannel's keys.
//!
//! Each connection has one endpoint, and [`EndpointRotation`](rotation::EndpointRotation) chooses
//! the next: the client library's balancer would keep asking a dead member. Reads are bounded: a
//! list is read in pages of one revision, and the manager asks for the time to live of its own
//! lease only.

mod channel;
mod check;
mod connect;
mod error;
mod keys;
mod options;
mod rotation;
mod tls;
mod watch;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, GetOptions, KeyValue, LeaseGrantOptions,
    LeaseTimeToLiveOptions, PutOptions, Txn, TxnOp,
};

use super::{Grant, LeaseStore, ListAndWatch, OpenError, StoreError, StoreRecord, StoreSnapshot};
use crate::subnet::LeaseId;
use connect::Connector;

pub use check::wrong_endpoint;
pub use options::{EtcdOptions, Secret};

/// A lease store in an etcd cluster.
pub struct EtcdStore {
    connector: Arc<Connector>,
}

impl EtcdStore {
    /// Checks the options; connects to nothing yet.
    ///
    /// # Errors
    /// No endpoint, an endpoint that is no address, or a certificate file that cannot be read.
    pub fn new(options: EtcdOptions) -> Result<Self, OpenError> {
        Ok(Self { connector: Arc::new(Connector::new(options)?) })
    }

    /// Runs `op` on the shared connection, and on the next endpoint's if the endpoint fails.
    async fn call<T, F, R>(&self, op: F) -> Result<T, StoreError>
    where
        F: Fn(Client) -> R + Send + Sync,
        R: Future<Output = Result<T, Error>> + Send,
        T: Send,
    {
        self.connector.call(op).await
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.connector.keys.subnets)
    }

    /// Puts an entry under a condition, with a new lease if `grant` asks for one.
    async fn put_if(
        &self,
        condition: Compare,
        name: &str,
        value: &[u8],
        grant: Option<Grant>,
    ) -> Result<StoreRecord, StoreError> {
        if let Some(grant) = grant {
            let ttl = i64::try_from(grant.ttl.as_secs().max(1)).unwrap_or(i64::MAX);
            self.call(|mut client| async move {
                let options = LeaseGrantOptions::new().with_id(grant.id.0);
                match client.lease_grant(ttl, Some(options)).await {
                    // The number is random, so an earlier attempt of this call, whose answer was
                    // lost, granted the lease.
                    Err(Error::GRpcStatus(status)) if status.message().contains(LEASE_EXISTS) => {
                        Ok(())
                    }
                    other => other.map(drop),
                }
            })
            .await?;
        }
        let key = self.key(name);
        let txn = {
            let options = grant.map(|grant| PutOptions::new().with_lease(grant.id.0));
            Txn::new().when([condition]).and_then([TxnOp::put(key, value, options)])
        };
        let reply = self
            .call(|mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await;
        let outcome = match reply {
            Ok(reply) if reply.succeeded() => {
                let revision = reply.header().map_or(0, |header| header.revision());
                Ok(StoreRecord {
                    name: name.to_owned(),
                    value: value.to_vec(),
                    revision,
                    lease: grant.map(|grant| grant.id),
                    fault: None,
                })
            }
            Ok(_) => self.find_lost_write(name, value, grant).await,
            Err(error) => Err(error),
        };
        if let (Err(StoreError::Conflict), Some(grant)) = (&outcome, grant) {
            // Best effort: a lease that is not revoked expires by itself.
            let _ = self.revoke_unused(grant.id).await;
        }
        outcome
    }

    /// A refused put may repeat one that succeeded and whose answer was lost. In that case the
    /// key is attached to the lease that was granted for it.
    async fn find_lost_write(
        &self,
        name: &str,
        value: &[u8],
        grant: Option<Grant>,
    ) -> Result<StoreRecord, StoreError> {
        match (self.get(name).await?, grant) {
            (Some(record), Some(grant))
                if record.lease == Some(grant.id) && record.value == value =>
            {
                Ok(record)
            }
            _ => Err(StoreError::Conflict),
        }
    }
}

#[async_trait]
impl LeaseStore for EtcdStore {
    fn reload(&self) -> Result<Vec<PathBuf>, String> {
        self.connector.reload()
    }

    fn describe(&self) -> String {
        let options = &self.connector.options;
        format!("etcd at {}", options.endpoints.join(", "))
    }

    fn describe_config(&self) -> String {
        self.connector.keys.describe_config()
    }

    fn config_hint(&self) -> String {
        // flannel's own words.
        "Did you create your config using etcdv3 API?".into()
    }

    async fn identity(&self) -> Result<String, StoreError> {
        let reply = self
            .call(|mut client| {
                let key = self.connector.keys.config.clone();
                async move { client.get(key, Some(GetOptions::new().with_count_only())).await }
            })
            .await?;
        let cluster = reply.header().map_or(0, |header| header.cluster_id());
        Ok(format!("etcd {cluster:016x} {}", self.connector.keys.prefix))
    }

    async fn config(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let reply = self
            .call(|mut client| {
                let key = self.connector.keys.config.clone();
                async move { client.get(key, None).await }
            })
            .await?;
        Ok(reply.kvs().first().map(|kv| kv.value().to_vec()))
    }

    async fn other_keys(&self) -> Result<Vec<String>, StoreError> {
        let options = || GetOptions::new().with_keys_only().with_limit(SAMPLE);
        let names = |kvs: &[KeyValue]| {
            kvs.iter().map(|kv| String::from_utf8_lossy(kv.key()).into_owned()).collect::<Vec<_>>()
        };
        let near = self
            .call(|mut client| {
                let prefix = self.connector.keys.prefix.clone();
                async move { client.get(prefix, Some(options().with_prefix())).await }
            })
            .await?;
        if !near.kvs().is_empty() {
            return Ok(names(near.kvs()));
        }
        // An etcd role may be confined to the prefix; no keys are shown in that case.
        let any = self
            .call(|mut client| async move { client.get("", Some(options().with_all_keys())).await })
            .await;
        Ok(any.map_or_else(|_| Vec::new(), |reply| names(reply.kvs())))
    }

    async fn list(&self) -> Result<StoreSnapshot, StoreError> {
        self.call(|client| watch::list(client, self.connector.keys.subnets.clone())).await
    }

    async fn get(&self, name: &str) -> Result<Option<StoreRecord>, StoreError> {
        let key = self.key(name);
        let reply = self
            .call(|mut client| {
                let key = key.clone();
                async move { client.get(key, None).await }
            })
            .await?;
        let subnets = &self.connector.keys.subnets;
        Ok(reply.kvs().first().map(|kv| watch::record(kv, subnets)))
    }

    async fn create(
        &self,
        name: &str,
        value: &[u8],
        grant: Option<Grant>,
    ) -> Result<StoreRecord, StoreError> {
        let absent = Compare::version(self.key(name), CompareOp::Equal, 0);
        self.put_if(absent, name, value, grant).await
    }

    async fn replace(
        &self,
        name: &str,
        revision: i64,
        value: &[u8],
        grant: Option<Grant>,
    ) -> Result<StoreRecord, StoreError> {
        let unchanged = Compare::mod_revision(self.key(name), CompareOp::Equal, revision);
        self.put_if(unchanged, name, value, grant).await
    }

    async fn remove(&self, name: &str, revision: i64) -> Result<(), StoreError> {
        let key = self.key(name);
        let txn = Txn::new()
            .when([Compare::mod_revision(key.clone(), CompareOp::Equal, revision)])
            .and_then([TxnOp::delete(key, None::<DeleteOptions>)]);
        let reply = self
            .call(|mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await?;
        if reply.succeeded() || self.get(name).await?.is_none() {
            return Ok(());
        }
        Err(StoreError::Conflict)
    }

    async fn check_write(&self) -> Result<(), StoreError> {
        // etcd checks permission and space before it compares, and no version is below zero.
        let key = self.key("10.0.0.0-24");
        let txn = Txn::new()
            .when([Compare::version(key.clone(), CompareOp::Less, 0)])
            .and_then([TxnOp::put(key, "", None)]);
        self.call(|mut client| {
            let txn = txn.clone();
            async move { client.txn(txn).await }
        })
        .await
        .map(drop)
    }

    async fn time_left(&self, record: &StoreRecord) -> Result<Option<Duration>, StoreError> {
        let Some(lease) = record.lease else { return Ok(None) };
        let reply = self
            .call(|mut client| async move { client.lease_time_to_live(lease.0, None).await })
            .await?;
        Ok(u64::try_from(reply.ttl()).ok().filter(|&ttl| ttl > 0).map(Duration::from_secs))
    }

    async fn revoke_unused(&self, lease: LeaseId) -> Result<(), StoreError> {
        let options = LeaseTimeToLiveOptions::new().with_keys();
        let reply = self
            .call(|mut client| {
                let options = options.clone();
                async move { client.lease_time_to_live(lease.0, Some(options)).await }
            })
            .await?;
        // Revoking deletes every key that is attached to the lease, whoever attached it.
        if reply.ttl() < 0 || !reply.keys().is_empty() {
            return Ok(());
        }
        self.call(|mut client| async move {
            match client.lease_revoke(lease.0).await {
                Err(Error::GRpcStatus(status)) if status.message().contains(LEASE_GONE) => Ok(()),
                other => other.map(drop),
            }
        })
        .await
    }

    async fn watch(&self) -> Result<ListAndWatch, StoreError> {
        watch::watch(&self.connector).await
    }
}

/// Number of keys shown to an operator whose config is not found.
const SAMPLE: i64 = 5;
/// Messages of etcd's `ErrLeaseExist` and `ErrLeaseNotFound`
/// (`api/v3rpc/rpctypes/error.go`), which share their gRPC codes with other errors.
const LEASE_EXISTS: &str = "lease already exists";
const LEASE_GONE: &str = "lease not found";
