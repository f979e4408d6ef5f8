//! What a manager tells about itself.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::route::Cidr;
use crate::subnet::LeaseId;

/// The subnet that this host holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The subnet.
    pub subnet: Cidr,
    /// The address under which this host announces it.
    pub public_ip: Ipv4Addr,
    /// When it expires if it is not renewed; `None` for a reservation.
    pub expires: Option<SystemTime>,
    /// Its number in the registry; `None` for a reservation.
    pub id: Option<LeaseId>,
}

/// Another host of the overlay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its subnet.
    pub subnet: Cidr,
    /// Where its packets are sent.
    pub public_ip: Ipv4Addr,
    /// The last part of its key.
    pub key: String,
    /// Whether its lease never expires.
    pub reservation: bool,
}

/// The state of the control side, for status and health.
#[derive(Clone, Debug)]
pub struct SubnetStatus {
    /// The subnet that this host holds. It changes if the lease was lost to another host and a
    /// new subnet had to be taken.
    pub lease: Cidr,
    /// When the lease expires if it is not renewed; `None` for a reservation.
    pub lease_expires: Option<SystemTime>,
    /// Whether the lease is known to be ours. Not so while it is contested or being taken again.
    pub lease_held: bool,
    /// Whether a full list of peers has been in the route table.
    pub synced: bool,
    /// The other hosts, by subnet.
    pub peers: Arc<Vec<Peer>>,
    /// When the registry was last heard of.
    pub last_contact: Option<Instant>,
    /// How often the watch had to begin anew.
    pub watch_restarts: u64,
    /// How many entries are no usable leases at the moment.
    pub skipped_keys: u64,
    /// The last revision of the registry that is in the table; 0 where it has none.
    pub revision: i64,
    /// Whether the watch is up.
    pub connected: bool,
    /// What went wrong last with the registry or the lease.
    pub last_error: Option<String>,
    /// How often the lease has been renewed.
    pub renewals: u64,
}

impl SubnetStatus {
    /// The status right after a lease was acquired.
    pub fn new(lease: &Lease) -> Self {
        Self {
            lease: lease.subnet,
            lease_expires: lease.expires,
            lease_held: true,
            synced: false,
            peers: Arc::default(),
            last_contact: None,
            watch_restarts: 0,
            skipped_keys: 0,
            revision: 0,
            connected: false,
            last_error: None,
            renewals: 0,
        }
    }
}
