//! What the keeper hears and tells.

use crate::subnet::manager::RunError;
use crate::subnet::manager::status::Lease;
use crate::subnet::store::{StoreChange, StoreRecord};

/// What the watch saw that concerns this host.
pub(in crate::subnet::manager) enum OwnEvent {
    /// A full list; these of its entries are ours or announce our address.
    Listed(Vec<StoreRecord>),
    /// Such an entry changed.
    Changed(StoreChange),
}

/// What the keeper tells.
pub(in crate::subnet::manager) enum KeeperEvent {
    /// The lease is ours.
    Held {
        /// The lease.
        lease: Lease,
        /// Whether it has just been renewed.
        renewed: bool,
    },
    /// The lease is in danger, or lost for the moment.
    Problem {
        /// What happened.
        error: String,
        /// Whether the lease is still ours as far as we know.
        held: bool,
    },
    /// The manager has to end.
    GaveUp(RunError),
}
