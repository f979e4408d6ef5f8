//! The state of a manager, for status and health.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::route::{Cidr, Withheld};
use crate::subnet::LeaseId;

/// The subnet that this host holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The subnet.
    pub subnet: Cidr,
    /// The address under which this host announces it.
    pub public_ip: Ipv4Addr,
    /// When the lease expires if it is not renewed; `None` for a reservation.
    pub expires: Option<SystemTime>,
    /// The lease's number in the lease store; `None` for a reservation.
    pub id: Option<LeaseId>,
}

/// Another host of the overlay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The host's subnet.
    pub subnet: Cidr,
    /// The address to which the host's packets are sent.
    pub public_ip: Ipv4Addr,
    /// The last part of the lease's key.
    pub key: String,
    /// Whether the lease never expires.
    pub reservation: bool,
}

/// A lease of another host to which no packet is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WithheldLease {
    /// The host's subnet, which has no route.
    pub subnet: Cidr,
    /// The address that may not be sent to.
    pub public_ip: Ipv4Addr,
    /// Why not.
    pub why: Withheld,
}

/// The state of the control side, for status and health.
#[derive(Clone, Debug)]
pub struct SubnetStatus {
    /// The subnet that this host holds. It changes if another host took the lease, and this host
    /// acquired a new subnet.
    pub lease: Cidr,
    /// When the lease expires if it is not renewed; `None` for a reservation.
    pub lease_expires: Option<SystemTime>,
    /// Whether this host is known to hold the lease. False while the lease is being acquired again.
    pub lease_held: bool,
    /// Whether a full list of leases has been written to the route table.
    pub synced: bool,
    /// The other hosts, by subnet.
    pub peers: Arc<Vec<Peer>>,
    /// The leases that have no route because of their next hop, by subnet.
    pub withheld: Arc<Vec<WithheldLease>>,
    /// Time of the lease store's last answer.
    pub last_contact: Option<Instant>,
    /// Number of times the watch was started again.
    pub watch_restarts: u64,
    /// Number of entries that are not usable leases at the moment.
    pub skipped_keys: u64,
    /// The last revision of the lease store that is in the table; 0 for a store without revisions.
    pub revision: i64,
    /// Whether the watch is active.
    pub connected: bool,
    /// The last error of the lease store or the lease.
    pub last_error: Option<String>,
    /// Number of renewals of the lease.
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
            withheld: Arc::default(),
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
