//! The lease that this host holds.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::renewal;
use super::status::Lease;
use crate::route::Cidr;
use crate::subnet::store::StoreRecord;
use crate::subnet::{LeaseKey, LeaseValue};

/// A lease that this host holds.
#[derive(Clone, Debug)]
pub(super) struct HeldLease {
    pub(super) subnet: Cidr,
    pub(super) public_ip: Ipv4Addr,
    /// The lease's entry, as this host wrote it last.
    pub(super) record: StoreRecord,
    /// When the lease ends; `None` for a reservation.
    pub(super) term: Option<LeaseTerm>,
    /// The entries that announced this host's address before it acquired the subnet. Any other
    /// entry that announces the address was written since, by a host that is alive.
    pub(super) rivals: Vec<StoreRecord>,
}

impl HeldLease {
    /// The value of this host's entry: the address, and what a dual-stack host has said beside it.
    pub(super) fn value(&self, public_ip: Ipv4Addr) -> Vec<u8> {
        entry_value(public_ip, Some(&self.record))
    }

    pub(super) fn lease(&self) -> Lease {
        Lease {
            subnet: self.subnet,
            public_ip: self.public_ip,
            expires: self.term.map(|term| term.ends_wall),
            id: self.record.lease,
        }
    }
}

/// The end of a lease, by the monotonic clock and by the wall clock. The term starts when the
/// request is sent, before the lease store's does, so it ends early rather than late.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaseTerm {
    pub(super) ends: Instant,
    pub(super) ends_wall: SystemTime,
    /// When the lease is renewed.
    pub(super) renew_at: Instant,
}

impl LeaseTerm {
    /// A term that began at `from`; the lease is renewed `margin` before its end.
    pub(super) fn new(from: Instant, ttl: Duration, margin: Duration) -> Self {
        Self {
            ends: from + ttl,
            ends_wall: SystemTime::now() + ttl - from.elapsed(),
            renew_at: from + renewal::wait(ttl, margin, fastrand::f64()),
        }
    }
}

/// The value of this host's entry. In a dual-stack network the entry's name has an IPv6 subnet too,
/// and flanneld expects an IPv6 address beside it, so the one that is there is kept.
pub(super) fn entry_value(public_ip: Ipv4Addr, former: Option<&StoreRecord>) -> Vec<u8> {
    let is_dual =
        |record: &&StoreRecord| record.name.parse().is_ok_and(|key: LeaseKey| key.v6.is_some());
    let former = former.filter(is_dual).and_then(|record| LeaseValue::decode(&record.value).ok());
    let public_ipv6 = former.and_then(|value| value.public_ipv6);
    LeaseValue { public_ipv6, ..LeaseValue::new(public_ip) }.encode()
}

/// The name of a subnet's new entry.
pub(super) fn entry_name(subnet: Cidr) -> String {
    LeaseKey::new(subnet).to_string()
}
