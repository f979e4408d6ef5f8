//! Which next hops may be used: data that the host's side computes and the lease side obeys.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;

use super::Cidr;

/// Why no packet may be sent to a next hop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Withheld {
    /// The kernel has not been asked yet.
    Undecided,
    /// The kernel would route the datagram into the overlay's own device, where it would be
    /// encapsulated again, for ever.
    IntoOverlay,
    /// The address is one of this host's own.
    OwnAddress,
}

/// The verdicts on next hops. The default finds no fault with any.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HopVerdicts {
    /// Prefixes whose addresses the kernel might route into the overlay: each needs a verdict of
    /// its own, and is withheld until it has one.
    pub suspect: Vec<Cidr>,
    /// Whether the kernel routes such an address into the overlay.
    pub enters_overlay: HashMap<Ipv4Addr, bool>,
    /// The addresses of this host.
    pub own: HashSet<Ipv4Addr>,
}

/// The next hops in suspect prefixes, which the lease side asks verdicts on; `None` until it has
/// read all leases once.
pub type HopQuestions = Option<BTreeSet<Ipv4Addr>>;

impl HopVerdicts {
    /// Why `hop` may not be used; `None` if it may.
    pub fn withheld(&self, hop: Ipv4Addr) -> Option<Withheld> {
        if self.own.contains(&hop) {
            return Some(Withheld::OwnAddress);
        }
        if !self.is_suspect(hop) {
            return None;
        }
        match self.enters_overlay.get(&hop) {
            None => Some(Withheld::Undecided),
            Some(true) => Some(Withheld::IntoOverlay),
            Some(false) => None,
        }
    }

    /// Whether `hop` needs a verdict of its own.
    pub fn is_suspect(&self, hop: Ipv4Addr) -> bool {
        self.suspect.iter().any(|prefix| prefix.contains(hop))
    }
}
