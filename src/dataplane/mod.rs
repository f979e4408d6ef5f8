//! The data plane: workers that carry packets between the TUN device and UDP.
//!
//! Worker *i* owns TUN queue *i* and UDP socket *i*, as one thread for both directions or as a pair
//! of threads, one for each. A packet is read, changed and written by one thread in one visit.
//! On that path nothing allocates, locks, logs or waits for a batch to fill.
//!
//! Three files have the life of a packet: `worker` runs the threads, `egress` (or `ingress`) reads,
//! writes and sends, and [`forward`] decides.
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | packet | one inner IPv4 packet, as it is on the wire |
//! | super-packet | several packets of one flow under one header, which the TUN device reads or writes as one |
//! | segment | one of the packets of a super-packet, or one of the datagrams of a train |
//! | datagram | one UDP datagram, whose payload is one packet |
//! | train | a run of datagrams to one next hop that one `UDP_SEGMENT` send carries |
//! | message | one entry of `sendmmsg` or `recvmmsg`: a datagram, a train, or a run that `UDP_GRO` joined |
//! | batch | what one turn of a worker reads, in one direction |
//! | peer | another host of the overlay, or what its traffic is counted under |
//! | next hop | the underlay address and UDP port of a peer |
//! | worker | a UDP socket with one or two TUN queues, and the one or two threads that serve them |
//! | feature | something that the kernel may offer to the data path ([`Feature`]) |

mod checks;
mod config;
pub mod counters;
mod device;
mod device_node;
mod egress;
mod error;
mod event;
pub mod forward;
mod icmp;
mod ingress;
mod mtu;
mod offload;
mod outer_tos;
mod plane;
mod polling;
mod span;
mod syscalls;
pub mod tap;
mod worker;

#[cfg(test)]
mod tests;

pub use checks::{
    Check, CheckOutcome, Checked, DroppedBy, GRACE, GraceReason, Mismatch, MismatchLog,
    MismatchReason, RecentMismatch,
};
pub use config::{CheckMode, Config, ThreadInit, Threads};
pub use counters::by_peer::{OtherTraffic, PeerAccounting, PeerTraffic, Traffic};
pub use counters::{DropReason, Stats};
pub use error::StartError;
pub use event::Event;
pub use mtu::Mtu;
pub use offload::{
    ActiveOffloads, Description, Feature, FeatureState, Offloads, ParseOffloadError, Profile,
};
pub use outer_tos::OuterTos;
pub use plane::Dataplane;
