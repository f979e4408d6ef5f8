//! The data plane: workers that carry packets between the TUN device and UDP.
//!
//! Worker *i* owns TUN queue *i* and UDP socket *i*, as one thread for both directions or as a pair
//! of threads, one for each. A packet is read, changed and written by one thread in one visit.
//! Nothing on that way allocates, locks, logs or waits for a batch to fill.

mod checks;
mod config;
pub mod counters;
mod device;
mod egress;
mod error;
mod event;
pub mod forward;
mod icmp;
mod ingress;
mod offload;
mod plane;
mod polling;
mod syscalls;
pub mod tap;
mod worker;

#[cfg(test)]
mod tests;

pub use checks::{
    Check, CheckOutcome, GRACE, GraceReason, Mismatch, MismatchLog, MismatchReason, RecentMismatch,
};
pub use config::{CheckMode, Config, ThreadInit, Threads};
pub use counters::by_peer::{OtherTraffic, PeerAccounting, PeerTraffic, Traffic};
pub use counters::{DropReason, Stats};
pub use error::StartError;
pub use event::Event;
pub use offload::{
    ActiveOffloads, Description, Feature, FeatureState, Offloads, ParseOffloadError, Profile,
};
pub use plane::Dataplane;
