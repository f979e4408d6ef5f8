//! The etcd cluster of a lab.

use std::time::{Duration, Instant};

use super::Lab;
use crate::lab::etcd::{self, Etcd, PREFIX};
use crate::lab::node::Node;
use crate::lab::{LabError, interrupt};

impl Lab {
    /// Starts an etcd cluster with one member on each of the first `members` hosts, and puts
    /// `config` as the network's configuration.
    pub fn start_etcd(&mut self, members: usize, config: &str) -> Result<(), LabError> {
        self.etcd = Some(Etcd::start(&self.nodes(members), self.prefix())?);
        self.put(&format!("{PREFIX}/config"), config)
    }

    /// Starts the members of a stopped cluster again, with the data they had.
    pub fn restart_etcd(&mut self) -> Result<(), LabError> {
        let Some(etcd) = &self.etcd else {
            return Err(LabError::Etcd("this lab has none".into()));
        };
        self.etcd = Some(Etcd::start(&self.nodes(etcd.len()), self.prefix())?);
        Ok(())
    }

    /// The nodes of the first `count` hosts.
    fn nodes(&self, count: usize) -> Vec<&Node> {
        self.hosts.iter().take(count).map(|host| &host.node).collect()
    }

    /// Puts one key; waits until the cluster has a leader.
    pub fn put(&mut self, key: &str, value: &str) -> Result<(), LabError> {
        self.with_etcd(|mut client| {
            let (key, value) = (key.to_owned(), value.to_owned());
            async move { client.put(key, value, None).await.map(drop) }
        })
    }

    /// Deletes one key.
    pub fn delete(&mut self, key: &str) -> Result<(), LabError> {
        self.with_etcd(|mut client| {
            let key = key.to_owned();
            async move { client.delete(key, None).await.map(drop) }
        })
    }

    /// All keys that start with `prefix` and their values, sorted by key.
    pub fn keys(&mut self, prefix: &str) -> Result<Vec<(String, String)>, LabError> {
        self.with_etcd(|mut client| {
            let prefix = prefix.to_owned();
            async move {
                let options = etcd_client::GetOptions::new().with_prefix();
                let answer = client.get(prefix, Some(options)).await?;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                Ok(answer.kvs().iter().map(|kv| (text(kv.key()), text(kv.value()))).collect())
            }
        })
    }

    /// Runs `work` with a client in the namespace of a member's host, again until it succeeds or
    /// `READY_TIMEOUT` has passed.
    pub fn with_etcd<T, F>(
        &mut self,
        work: impl Fn(etcd_client::Client) -> F + Sync,
    ) -> Result<T, LabError>
    where
        T: Send,
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let end = Instant::now() + READY_TIMEOUT;
        loop {
            let Some(cluster) = &mut self.etcd else {
                return Err(LabError::Etcd("this lab has none".into()));
            };
            let Some((host, url)) = cluster.running_member() else {
                return Err(LabError::Etcd(format!("no member runs: {}", cluster.last_lines())));
            };
            match etcd::ask(self.hosts[host].netns(), &url, &work) {
                Ok(answer) => return Ok(answer),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => interrupt::sleep(Duration::from_millis(100))?,
            }
        }
    }
}

/// Time limit for a cluster to have a leader.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
