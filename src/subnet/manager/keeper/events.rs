//! Events to and from the keeper.

use crate::subnet::manager::RunError;
use crate::subnet::manager::status::Lease;
use crate::subnet::store::{StoreChange, StoreRecord};

/// A change in the lease store that concerns this host.
pub(in crate::subnet::manager) enum OwnEvent {
    /// A full list was read. These entries are this host's own, or announce its address.
    Listed(Vec<StoreRecord>),
    /// One such entry changed.
    Changed(StoreChange),
}

/// A report of the keeper.
pub(in crate::subnet::manager) enum KeeperEvent {
    /// This host holds a lease.
    Held {
        /// The lease.
        lease: Lease,
        /// Whether the lease has just been renewed.
        renewed: bool,
    },
    /// The lease could not be renewed or checked, or is lost for the moment.
    Problem {
        /// The error.
        error: String,
        /// Whether this host still holds the lease, as far as the keeper knows.
        held: bool,
    },
    /// The manager has to end with this error.
    GaveUp(RunError),
}
