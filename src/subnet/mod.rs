//! Network config, leases, the registry (etcd or files), reconciliation of the route table.

pub mod admin;
pub mod allocate;
pub mod backoff;
pub mod config;
pub mod instance;
pub mod lease;
pub mod manager;
pub mod origin;
pub mod store;

pub use config::{ConfigError, NetworkConfig};
pub use instance::{Instance, LeaseId};
pub use lease::{LeaseKey, LeaseValue, NotALease};
pub use manager::{
    AcquireError, Lease, Manager, ManagerOptions, Peer, RunError, SubnetStatus, Timing,
};
pub use origin::SubnetFileOrigin;
pub use store::{EtcdOptions, LeaseStore, Secret, StoreError, StoreKind, StoreOptions};
