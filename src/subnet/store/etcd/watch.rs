//! Listing leases, and watching them from there on.

use std::sync::Arc;

use async_trait::async_trait;
use etcd_client::{
    Client, Error, GetOptions, KeyValue, WatchOptions, WatchResponse,
    WatchStream as EtcdWatchStream,
};
use tokio::time::timeout;

use super::connect::{Connector, EtcdConnection};
use super::error::explain;
use crate::subnet::LeaseId;
use crate::subnet::store::{
    ListAndWatch, StoreChange, StoreError, StoreRecord, StoreSnapshot, UnavailableKind, WatchStream,
};

/// Lists and watches over a connection of its own, so that the watch ends only when the member
/// that serves it fails.
pub(super) async fn watch(connector: &Arc<Connector>) -> Result<ListAndWatch, StoreError> {
    let mut failures = Vec::new();
    let start = connector.rotation.start();
    for attempt in start.attempts() {
        let connection = match connector.dial(attempt).await {
            Ok(connection) => connection,
            Err(error) => {
                failures.push(error);
                continue;
            }
        };
        match begin(connector, &connection).await {
            Ok(started) => {
                connector.rotation.mark_healthy(attempt);
                return Ok(started);
            }
            Err((error, false)) => return Err(error),
            Err((error, true)) => {
                connector.rotation.mark_failed(attempt);
                failures.push(error);
            }
        }
    }
    Err(StoreError::of_endpoints(failures))
}

async fn begin(
    connector: &Arc<Connector>,
    connection: &EtcdConnection,
) -> Result<ListAndWatch, (StoreError, bool)> {
    let subnets = connector.keys.subnets.clone();
    let snapshot = connector.run(connection, |client| list(client, subnets.clone())).await?;
    let from = snapshot.revision + 1;
    let stream = connector.run(connection, |client| open_stream(client, subnets, from)).await?;
    let mut changes =
        EtcdWatch { connector: Arc::clone(connector), attempt: connection.attempt, stream };
    // The call returns before etcd has created the watch; etcd confirms it in the first message.
    let limit = connector.options.request_timeout;
    match timeout(limit, changes.next()).await {
        Ok(Ok(_)) => Ok(ListAndWatch { snapshot, stream: Box::new(changes) }),
        Ok(Err(error)) => {
            let elsewhere = !matches!(error, StoreError::Compacted);
            Err((error, elsewhere))
        }
        Err(_) => {
            let detail =
                format!("{}: no watch within {limit:?}", connector.endpoint(connection.attempt));
            Err((StoreError::unavailable(UnavailableKind::Timeout, detail), true))
        }
    }
}

/// All entries, in pages of one revision. Pages are in the order of keys without a request for
/// it; a requested sort would make etcd read the whole range for each page.
pub(super) async fn list(mut client: Client, subnets: String) -> Result<StoreSnapshot, Error> {
    let mut snapshot = StoreSnapshot::default();
    let mut start = subnets.clone().into_bytes();
    // The first key after those with the prefix: the prefix ends with a slash, so the last byte
    // can be incremented.
    let mut end = subnets.clone().into_bytes();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    loop {
        let options = GetOptions::new()
            .with_range(end.clone())
            .with_limit(PAGE)
            .with_revision(snapshot.revision);
        let reply = client.get(start, Some(options)).await?;
        if snapshot.revision == 0 {
            snapshot.revision = reply.header().map_or(0, |header| header.revision());
        }
        snapshot.records.extend(reply.kvs().iter().map(|kv| record(kv, &subnets)));
        match reply.kvs().last() {
            Some(last) if reply.more() => {
                start = last.key().to_vec();
                start.push(0);
            }
            _ => return Ok(snapshot),
        }
    }
}

pub(super) fn record(kv: &KeyValue, subnets: &str) -> StoreRecord {
    StoreRecord {
        name: name(kv, subnets),
        value: kv.value().to_vec(),
        revision: kv.mod_revision(),
        lease: (kv.lease() != 0).then_some(LeaseId(kv.lease())),
        fault: None,
    }
}

fn name(kv: &KeyValue, subnets: &str) -> String {
    let key = kv.key();
    String::from_utf8_lossy(key.strip_prefix(subnets.as_bytes()).unwrap_or(key)).into_owned()
}

async fn open_stream(
    mut client: Client,
    subnets: String,
    from: i64,
) -> Result<EtcdWatchStream, Error> {
    // Fragments, because a burst of changes may exceed the size limit of one message.
    let options = WatchOptions::new().with_prefix().with_start_revision(from).with_fragment();
    client.watch(subnets, Some(options)).await
}

struct EtcdWatch {
    connector: Arc<Connector>,
    attempt: usize,
    stream: EtcdWatchStream,
}

impl EtcdWatch {
    fn failed(&self, error: StoreError) -> StoreError {
        self.connector.rotation.mark_failed(self.attempt);
        error
    }

    fn ended(&self, why: &str) -> StoreError {
        let detail = format!("{}: {why}", self.connector.endpoint(self.attempt));
        self.failed(StoreError::unavailable(UnavailableKind::Closed, detail))
    }

    fn read(&self, reply: &WatchResponse) -> Result<Vec<StoreChange>, StoreError> {
        if reply.compact_revision() > 0 {
            return Err(StoreError::Compacted);
        }
        if reply.canceled() {
            let why = format!("the watch was cancelled: {}", reply.cancel_reason());
            return Err(self.ended(&why));
        }
        let subnets = &self.connector.keys.subnets;
        let changes = reply.events().iter().filter_map(|event| {
            let kv = event.kv()?;
            // A removed key has version 0 (etcd API, `KeyValue`). The client library's
            // `event_type` panics on a type that it does not know.
            Some(if kv.version() == 0 {
                StoreChange::Delete { name: name(kv, subnets), revision: kv.mod_revision() }
            } else {
                StoreChange::Put(record(kv, subnets))
            })
        });
        Ok(changes.collect())
    }
}

#[async_trait]
impl WatchStream for EtcdWatch {
    async fn next(&mut self) -> Result<Vec<StoreChange>, StoreError> {
        match self.stream.message().await {
            Ok(Some(reply)) => self.read(&reply),
            Ok(None) => Err(self.ended("the watch ended")),
            Err(error) => {
                let (error, _) = explain(&error, self.connector.endpoint(self.attempt));
                Err(self.failed(error))
            }
        }
    }

    async fn probe(&mut self) -> Result<(), StoreError> {
        // The call only queues the request; the answer arrives on the stream. The revision of the
        // answer is not used: etcd before 3.4.25 may answer before it has sent older events.
        self.stream.request_progress().await.map_err(|error| {
            let (error, _) = explain(&error, self.connector.endpoint(self.attempt));
            self.failed(error)
        })
    }
}

/// Entries per page: about 150 bytes each, far below gRPC's limit of 4 MiB for a message.
const PAGE: i64 = 2000;
