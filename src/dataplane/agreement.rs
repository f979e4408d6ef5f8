//! What the kernel agreed to, and what it took back.
//!
//! Each feature is asked for at start and never assumed. One that fails at run time is lost for the
//! rest of the run, with one log line that says why.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::config::Offloads;

/// A feature of the kernel that the data path can use and can do without.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Feature {
    /// TUN super-packets and partial checksums: `IFF_VNET_HDR`, `TUNSETOFFLOAD` with TSO.
    Vnet,
    /// UDP super-packets from the TUN: `TUNSETOFFLOAD` with USO (Linux 6.2).
    Uso,
    /// The kernel cuts a long send into datagrams: `UDP_SEGMENT` (Linux 4.18).
    Gso,
    /// The kernel joins datagrams that arrive: `UDP_GRO` (Linux 5.0).
    Gro,
    /// Writing several TCP segments to the TUN as one super-packet.
    TcpCoalesce,
    /// Writing several UDP packets to the TUN as one super-packet (Linux 6.2).
    UdpCoalesce,
    /// Several messages a system call: `sendmmsg`, `recvmmsg`.
    Batch,
}

impl Feature {
    /// All features, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Vnet,
        Self::Uso,
        Self::Gso,
        Self::Gro,
        Self::TcpCoalesce,
        Self::UdpCoalesce,
        Self::Batch,
    ];

    /// The name used in `--offload`, logs and statistics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vnet => "vnet",
            Self::Uso => "uso",
            Self::Gso => "gso",
            Self::Gro => "gro",
            Self::TcpCoalesce => "tcp-coalesce",
            Self::UdpCoalesce => "udp-coalesce",
            Self::Batch => "batch",
        }
    }
}

/// How a feature stands.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct FeatureState {
    /// Its name.
    pub name: &'static str,
    /// Whether it is in use.
    pub on: bool,
    /// Why it is not.
    pub why: Option<String>,
}

/// The features in use, shared by all workers. Features only ever go away.
pub struct Agreement {
    on: [AtomicBool; Feature::ALL.len()],
    why: Mutex<[Option<String>; Feature::ALL.len()]>,
}

impl Agreement {
    /// Everything that `offloads` allows.
    pub fn new(offloads: Offloads) -> Self {
        let allowed = Feature::ALL.map(|feature| offloads.allows(feature));
        Self {
            on: allowed.map(AtomicBool::new),
            why: Mutex::new(allowed.map(|on| (!on).then(|| "switched off".to_owned()))),
        }
    }

    /// Whether `feature` is in use.
    #[inline]
    pub fn has(&self, feature: Feature) -> bool {
        self.on[feature as usize].load(Ordering::Relaxed)
    }

    /// Gives `feature` up. The first call for it records `why` and returns true.
    pub fn lose(&self, feature: Feature, why: impl Into<String>) -> bool {
        let had = self.on[feature as usize].swap(false, Ordering::Relaxed);
        if had {
            let why = why.into();
            tracing::warn!(feature = feature.name(), %why, "going on without a kernel feature");
            self.why.lock().unwrap_or_else(PoisonError::into_inner)[feature as usize] = Some(why);
        }
        had
    }

    /// How every feature stands.
    pub fn states(&self) -> Vec<FeatureState> {
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        Feature::ALL
            .into_iter()
            .zip(why.iter())
            .map(|(feature, why)| FeatureState {
                name: feature.name(),
                on: self.has(feature),
                why: why.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_lost_once() {
        let agreement = Agreement::new(Offloads::AUTO.with(Feature::Gro, false));
        assert!(agreement.has(Feature::Gso) && !agreement.has(Feature::Gro));
        assert!(agreement.lose(Feature::Gso, "EIO"));
        assert!(!agreement.lose(Feature::Gso, "EINVAL"));
        assert!(!agreement.lose(Feature::Gro, "never had"));
        let states = agreement.states();
        assert_eq!(states[Feature::Gso as usize].why.as_deref(), Some("EIO"));
        assert_eq!(states[Feature::Gro as usize].why.as_deref(), Some("switched off"));
        assert_eq!(states[Feature::Vnet as usize].why, None);
    }
}
