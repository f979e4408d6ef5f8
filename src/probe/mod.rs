//! Probes of the path to a peer, through the overlay and beside it: `doctor` and `ping` make them.
//!
//! A peer is asked at its flannel0, whose address is the network address of its lease. The probes are ICMP echo
//! requests: ordinary inner packets, which stock flanneld carries and the peer's kernel answers.

pub(crate) mod echo;
pub(crate) mod silence;
pub(crate) mod size;
