//! What an operator does with leases by hand: look at them, reserve a subnet, release one.
//!
//! All of it works on flannel's own keys, so stock flanneld sees the same: a reservation is a key
//! without an etcd lease, bound to one public IP for ever.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures::{StreamExt, stream};

use super::store::{LeaseStore, StoreError, StoreRecord};
use super::{LeaseKey, LeaseValue, NetworkConfig};
use crate::route::Cidr;

/// One entry, as an operator wants to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The last part of its key.
    pub key: String,
    /// What it holds, or why it is no lease.
    pub lease: Result<Holding, String>,
}

/// A subnet and its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The subnet.
    pub subnet: Cidr,
    /// The holder's address.
    pub public_ip: Ipv4Addr,
    /// The holder's backend, if it wrote one.
    pub backend_type: Option<String>,
    /// Until when.
    pub term: HoldingTerm,
    /// The instance that signed the lease, if it was one of ours.
    pub instance: Option<String>,
}

/// Until when a subnet is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldingTerm {
    /// For ever: a reservation.
    Reserved,
    /// For so long, if it is not renewed.
    Left(Duration),
    /// The registry was not asked, or did not say.
    Unknown,
}

/// Why the operator's wish was not done.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The registry does not answer, or somebody else was faster.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The subnet is none that the config gives out.
    #[error(
        "{subnet} is not a subnet that may be leased: the config gives out /{len}s from {min} to {max}"
    )]
    NotLeasable {
        /// The subnet that was asked for.
        subnet: Cidr,
        /// The prefix length of subnets.
        len: u8,
        /// The first one.
        min: Ipv4Addr,
        /// The last one.
        max: Ipv4Addr,
    },
    /// Somebody has it, or a part of it.
    #[error("{key} stands in the way: {holder}; release it first")]
    Taken {
        /// The entry in the way.
        key: String,
        /// Who holds it.
        holder: String,
    },
    /// The host has a subnet already, and a host has one.
    #[error("{public_ip} holds {subnet} already; stop that host and release {subnet} first")]
    HostHolds {
        /// The host.
        public_ip: Ipv4Addr,
        /// What it holds.
        subnet: Cidr,
    },
    /// There is nothing to release.
    #[error("no entry holds {0}")]
    NotFound(Cidr),
    /// The holder may be alive.
    #[error(
        "{public_ip} holds {subnet} and may be alive: its lease lives for another {left_seconds} s; \
         stop that host, or use --force"
    )]
    Alive {
        /// The subnet.
        subnet: Cidr,
        /// The holder.
        public_ip: Ipv4Addr,
        /// For how long its lease still lives.
        left_seconds: u64,
    },
}

/// Every entry, by subnet; junk last.
///
/// # Errors
/// The registry does not answer.
pub async fn list(store: &dyn LeaseStore) -> Result<Vec<Row>, StoreError> {
    let records = store.list().await?.records;
    let asked = records.len().min(MAX_ASKED);
    let mut rows: Vec<Row> = stream::iter(records.into_iter().enumerate())
        .map(async |(number, record)| {
            let left = match record.lease {
                Some(_) if number < asked => store.time_left(&record).await.ok().flatten(),
                _ => None,
            };
            row(&record, left)
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    rows.sort_by(|a, b| {
        let subnet = |row: &Row| row.lease.as_ref().ok().map(|holding| holding.subnet);
        (subnet(a).is_none(), subnet(a), &a.key).cmp(&(subnet(b).is_none(), subnet(b), &b.key))
    });
    Ok(rows)
}

/// Binds a subnet to an address for ever. Doing so twice changes nothing; a lease that the same
/// host holds becomes a reservation.
///
/// # Errors
/// The subnet is none of this network, or somebody has it.
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
    let name = LeaseKey::new(subnet).to_string();
    let value = LeaseValue::new(public_ip);
    let mut existing = None;
    for record in store.list().await?.records {
        let Ok(key) = record.name.parse::<LeaseKey>() else { continue };
        let holder = LeaseValue::decode(&record.value).map(|value| value.public_ip).ok();
        if record.name == name && holder == Some(public_ip) {
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
            store.replace(&name, record.revision, &value.encode(), None).await?;
        }
        None => {
            store.create(&name, &value.encode(), None).await?;
        }
    }
    Ok(())
}

/// Removes the entries of a subnet; returns whose they were.
///
/// # Errors
/// There is none, or its holder may be alive and `force` is not set.
pub async fn release(
    store: &dyn LeaseStore,
    subnet: Cidr,
    force: bool,
) -> Result<Vec<Row>, AdminError> {
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
        if let (Some(left), false) = (left, force) {
            let public_ip = LeaseValue::decode(&record.value)
                .map_or(Ipv4Addr::UNSPECIFIED, |value| value.public_ip);
            let left_seconds = left.as_secs();
            return Err(AdminError::Alive { subnet, public_ip, left_seconds });
        }
        store.remove(&record.name, record.revision).await?;
        if let Some(lease) = record.lease {
            let _ = store.revoke_unused(lease).await;
        }
        released.push(row(&record, left));
    }
    Ok(released)
}

fn row(record: &StoreRecord, left: Option<Duration>) -> Row {
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
        })
    };
    let lease = read().map_err(|error: super::NotALease| error.to_string());
    Row { key: record.name.clone(), lease }
}

/// Leases whose time to live is asked for; each costs a round trip.
const MAX_ASKED: usize = 1000;
/// Questions under way at once.
const AT_ONCE: usize = 16;
