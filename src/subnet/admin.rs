//! Operations on leases by an operator: list them, reserve a subnet, release a subnet.
//!
//! They work on flannel's own keys, so stock flanneld honours them: a reservation is a key without
//! an etcd lease, which binds a subnet to one public IP and never expires.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures::{StreamExt, stream};

use super::store::{LeaseStore, StoreError, StoreRecord};
use super::{LeaseId, LeaseKey, LeaseValue, NetworkConfig};
use crate::humanize;
use crate::route::Cidr;

/// One entry of the lease store, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// The last part of the entry's key.
    pub key: String,
    /// The lease, or why the entry is not a lease.
    pub lease: Result<Holding, String>,
}

/// A leased subnet and its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The subnet.
    pub subnet: Cidr,
    /// The holder's public IP.
    pub public_ip: Ipv4Addr,
    /// The holder's backend, if it wrote one.
    pub backend_type: Option<String>,
    /// How long the subnet is held.
    pub term: HoldingTerm,
    /// The fingerprint of the instance that holds the lease, if the holder runs this program.
    pub instance: Option<String>,
    /// Whether the holder's daemon has stopped, and said so. One that crashed, and stock flanneld, say nothing.
    pub stopped: bool,
}

/// How long a subnet is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldingTerm {
    /// Without a limit: a reservation.
    Reserved,
    /// For this time, if the lease is not renewed.
    Left(Duration),
    /// The lease store was not asked, or did not answer.
    Unknown,
}

/// Why an operation was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The lease store does not answer, or another client changed the entry at the same time.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The subnet is not one that hosts may lease.
    #[error(
        "{subnet} is not a subnet that may be leased: \
         the network config allows /{len}s from {min} to {max}"
    )]
    NotLeasable {
        /// The requested subnet.
        subnet: Cidr,
        /// The prefix length of subnets.
        len: u8,
        /// The first one.
        min: Ipv4Addr,
        /// The last one.
        max: Ipv4Addr,
    },
    /// Another host holds the subnet, or a part of it.
    #[error("{key} is in the way: {holder}; release it first")]
    Taken {
        /// The entry in the way.
        key: String,
        /// The entry's holder.
        holder: String,
    },
    /// The host holds another subnet, and a host holds only one.
    #[error("{public_ip} holds {subnet} already; stop that host and release {subnet} first")]
    HostHolds {
        /// The host.
        public_ip: Ipv4Addr,
        /// The host's subnet.
        subnet: Cidr,
    },
    /// No entry holds the subnet.
    #[error("no entry holds {0}")]
    NotFound(Cidr),
    /// The holder may be running: a daemon of this program that stops says so in its lease.
    #[error(
        "{public_ip} holds {subnet} and may be running: its lease expires in {}, and its daemon has not marked \
         it as stopped. Stop flannel-udp on that host; if the host is gone, or ran stock flanneld, use --force",
        humanize::duration(*.left)
    )]
    Alive {
        /// The subnet.
        subnet: Cidr,
        /// The holder.
        public_ip: Ipv4Addr,
        /// Time until the lease expires.
        left: Duration,
    },
}

/// Every entry, by subnet; entries that are not leases come last.
///
/// # Errors
/// The lease store does not answer.
pub async fn list(store: &dyn LeaseStore) -> Result<Vec<LeaseRow>, StoreError> {
    let records = store.list().await?.records;
    let asked = records.len().min(MAX_TTL_REQUESTS);
    let mut rows: Vec<LeaseRow> = stream::iter(records.into_iter().enumerate())
        .map(async |(number, record)| {
            let left = match record.lease {
                Some(_) if number < asked => store.time_left(&record).await.ok().flatten(),
                _ => None,
            };
            row(&record, left)
        })
        .buffered(MAX_CONCURRENT)
        .collect()
        .await;
    rows.sort_by(|a, b| {
        let subnet = |row: &LeaseRow| row.lease.as_ref().ok().map(|holding| holding.subnet);
        (subnet(a).is_none(), subnet(a), &a.key).cmp(&(subnet(b).is_none(), subnet(b), &b.key))
    });
    Ok(rows)
}

/// Binds a subnet to an address without a time limit. Repeating it changes nothing; a lease of the
/// same host becomes a reservation.
///
/// # Errors
/// The subnet may not be leased, or another host holds it.
pub async fn reserve(
    store: &dyn LeaseStore,
    config: &NetworkConfig,
    subnet: Cidr,
    public_ip: Ipv4Addr,
) -> Result<(), AdminError> {
    if !config.may_lease(subnet) {
        let NetworkConfig { subnet_len: len, subnet_min: min, subnet_max: max, .. } = *config;
        return Err(AdminError::NotLeasable { subnet, len, min, max });
    }
    let value = LeaseValue::new(public_ip);
    let mut existing = None;
    for record in store.list().await?.records {
        let Ok(key) = record.name.parse::<LeaseKey>() else { continue };
        let holder = LeaseValue::decode(&record.value).map(|value| value.public_ip).ok();
        if key.subnet == subnet && holder == Some(public_ip) {
            existing = Some(record);
        } else if key.subnet.overlaps(subnet) {
            let holder = holder.map_or("its value cannot be read".to_owned(), |ip| {
                format!("{ip} holds {}", key.subnet)
            });
            return Err(AdminError::Taken { key: record.name, holder });
        } else if holder == Some(public_ip) {
            return Err(AdminError::HostHolds { public_ip, subnet: key.subnet });
        }
    }
    match existing {
        Some(record) if record.lease.is_none() => {}
        Some(record) => {
            // The name and what a dual-stack host has said beside its address are kept.
            let value =
                LeaseValue { public_ip, ..LeaseValue::decode(&record.value).unwrap_or(value) };
            store.replace(&record.name, record.revision, &value.encode(), None).await?;
        }
        None => {
            let name = LeaseKey::new(subnet).to_string();
            store.create(&name, &value.encode(), None).await?;
        }
    }
    Ok(())
}

/// Removes the entries of a subnet, and returns them.
///
/// # Errors
/// There is no such entry, or its holder may be running and `force` is not set.
pub async fn release(
    store: &dyn LeaseStore,
    subnet: Cidr,
    force: bool,
) -> Result<Vec<LeaseRow>, AdminError> {
    let records: Vec<StoreRecord> = store
        .list()
        .await?
        .records
        .into_iter()
        .filter(|record| record.name.parse().is_ok_and(|key: LeaseKey| key.subnet == subnet))
        .collect();
    if records.is_empty() {
        return Err(AdminError::NotFound(subnet));
    }
    let mut released = Vec::new();
    for record in records {
        let left = store.time_left(&record).await?;
        let has_stopped = record.lease.is_some_and(LeaseId::is_stopped);
        if let (Some(left), false) = (left, force || has_stopped) {
            let public_ip = LeaseValue::decode(&record.value)
                .map_or(Ipv4Addr::UNSPECIFIED, |value| value.public_ip);
            return Err(AdminError::Alive { subnet, public_ip, left });
        }
        store.remove(&record.name, record.revision).await?;
        if let Some(lease) = record.lease {
            let _ = store.revoke_unused(lease).await;
        }
        released.push(row(&record, left));
    }
    Ok(released)
}

fn row(record: &StoreRecord, left: Option<Duration>) -> LeaseRow {
    let read = || {
        let key: LeaseKey = record.name.parse()?;
        let value = LeaseValue::decode(&record.value)?;
        Ok(Holding {
            subnet: key.subnet,
            public_ip: value.public_ip,
            backend_type: value.backend_type,
            term: match (record.lease, left) {
                (None, _) => HoldingTerm::Reserved,
                (Some(_), Some(left)) => HoldingTerm::Left(left),
                (Some(_), None) => HoldingTerm::Unknown,
            },
            instance: record.lease.and_then(|lease| lease.signer()).map(|p| p.to_string()),
            stopped: record.lease.is_some_and(LeaseId::is_stopped),
        })
    };
    let lease = match &record.fault {
        Some(fault) => Err(fault.clone()),
        None => read().map_err(|error: super::NotALease| error.to_string()),
    };
    LeaseRow { key: record.name.clone(), lease }
}

/// Upper limit of leases whose time to live is asked for; each costs a round trip.
const MAX_TTL_REQUESTS: usize = 1000;
/// Upper limit of concurrent requests.
const MAX_CONCURRENT: usize = 16;
