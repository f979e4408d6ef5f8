//! The control plane: network config, leases, lease stores, and the manager of this host's subnet.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | the network config, by flannel's rules |
//! | `json` | objects as Go's `encoding/json` reads them |
//! | [`lease`] | keys and values of leases, in flannel's format |
//! | [`store`] | lease stores: etcd, a directory |
//! | [`manager`] | acquires and renews this host's lease, updates the route table |
//! | [`allocate`] | the choice of a subnet for a new host |
//! | [`instance`], [`origin`] | which host a lease and a subnet file belong to |
//! | [`admin`] | listing, reserving and releasing by an operator |
//! | [`backoff`] | waits between attempts |
//!
//! This module knows no TUN device: the manager writes to the route table, and the caller hands it
//! to the data plane.

pub mod admin;
pub mod allocate;
pub mod backoff;
pub mod config;
pub mod instance;
mod json;
pub mod lease;
pub mod manager;
pub mod origin;
pub mod store;

pub use config::{ConfigError, NetworkConfig};
pub use instance::{Instance, LeaseId};
pub use lease::{LeaseKey, LeaseValue, NotALease};
pub use manager::{
    AcquireError, Lease, Manager, ManagerOptions, NextHopChannels, Peer, Refusal, RunError,
    SubnetStatus, Timing, WithheldLease,
};
pub use origin::SubnetFileOrigin;
pub use store::{EtcdOptions, LeaseStore, Secret, StoreError, StoreKind, StoreOptions};
