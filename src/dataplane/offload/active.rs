//! What the kernel agreed to, and what it took back.
//!
//! Each feature is asked for at start and never assumed. One that fails at run time is lost for the
//! rest of the run, with one log line that says why. Refusals that cost packets but no feature are
//! told here as well, each kind once in a while.

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::dataplane::config::Offloads;
use crate::dataplane::counters::DropReason;
use crate::route::NextHop;

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
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct FeatureState {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Whether it is in use.
    pub on: bool,
    /// Why it is not.
    pub why: Option<String>,
    /// When it was given up, to the second; in JSON as RFC 3339. `None` if it is in use or was
    /// switched off.
    #[serde(default, with = "humantime_serde")]
    pub lost: Option<SystemTime>,
}

/// What became of a feature that is not in use.
#[derive(Clone, Default)]
struct Loss {
    why: Option<String>,
    when: Option<SystemTime>,
}

/// The features in use, shared by all workers. Features only ever go away.
pub struct Agreement {
    on: [AtomicBool; Feature::ALL.len()],
    losses: Mutex<[Loss; Feature::ALL.len()]>,
    started: Instant,
    /// Until when each kind of refusal counts as told, in seconds since `started`.
    told: [AtomicU64; DropReason::ALL.len()],
}

impl Agreement {
    /// Everything that `offloads` allows.
    pub fn new(offloads: Offloads) -> Self {
        let allowed = Feature::ALL.map(|feature| offloads.allows(feature));
        Self {
            on: allowed.map(AtomicBool::new),
            losses: Mutex::new(allowed.map(|on| match on {
                true => Loss::default(),
                false => Loss { why: Some("switched off".to_owned()), when: None },
            })),
            started: Instant::now(),
            told: [const { AtomicU64::new(0) }; DropReason::ALL.len()],
        }
    }

    /// Whether `feature` is in use.
    #[inline]
    pub fn has(&self, feature: Feature) -> bool {
        self.on[feature as usize].load(Ordering::Relaxed)
    }

    /// Gives `feature` up. The first call for it records `why` and when, and returns true.
    pub fn lose(&self, feature: Feature, why: impl Into<String>) -> bool {
        let had = self.on[feature as usize].swap(false, Ordering::Relaxed);
        if had {
            let why = why.into();
            tracing::warn!(feature = feature.name(), %why, "going on without a kernel feature");
            let loss = Loss { why: Some(why), when: Some(now_to_the_second()) };
            self.losses.lock().unwrap_or_else(PoisonError::into_inner)[feature as usize] = loss;
        }
        had
    }

    /// Tells that the kernel did not send to `hop`: a line for each reason, and no further one for
    /// [`TOLD_FOR`]. The counter of the reason says how many packets it cost.
    #[cold]
    pub(in crate::dataplane) fn refused(
        &self,
        reason: DropReason,
        hop: NextHop,
        error: &io::Error,
    ) {
        if self.is_due(reason, self.started.elapsed()) {
            tracing::warn!(
                to = %hop.ip, reason = reason.name(),
                "packets to another host are dropped, the kernel does not send them: {error}"
            );
        }
    }

    fn is_due(&self, reason: DropReason, now: Duration) -> bool {
        let (now, told) = (now.as_secs(), &self.told[reason as usize]);
        let until = told.load(Ordering::Relaxed);
        let next = now + TOLD_FOR.as_secs();
        // Of several threads that come at the same time one tells.
        now >= until
            && told.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// How every feature stands.
    pub fn states(&self) -> Vec<FeatureState> {
        let losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        Feature::ALL
            .into_iter()
            .zip(losses.iter())
            .map(|(feature, loss)| FeatureState {
                name: feature.name().into(),
                on: self.has(feature),
                why: loss.why.clone(),
                lost: loss.when,
            })
            .collect()
    }
}

/// How long a refusal that goes on is not told again.
const TOLD_FOR: Duration = Duration::from_secs(60);

fn now_to_the_second() -> SystemTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_once_in_a_while_and_each_kind_by_itself() {
        let agreement = Agreement::new(Offloads::AUTO);
        let due = |reason, seconds| agreement.is_due(reason, Duration::from_secs(seconds));
        assert!(due(DropReason::SendRefused, 0) && due(DropReason::SendUnreachable, 1));
        assert!(!due(DropReason::SendRefused, 59));
        assert!(due(DropReason::SendRefused, 60) && !due(DropReason::SendUnreachable, 60));
        assert!(!due(DropReason::SendRefused, 119));
    }

    #[test]
    fn the_moment_of_a_loss_is_rfc_3339_in_json() {
        let state = FeatureState {
            name: "gso".into(),
            on: false,
            why: Some("EIO".into()),
            lost: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)),
        };
        let text = serde_json::to_string(&state).unwrap();
        assert!(text.ends_with(r#","lost":"1994-11-06T08:49:37Z"}"#), "{text}");
        assert_eq!(serde_json::from_str::<FeatureState>(&text).unwrap(), state);
        // A daemon that does not tell it is understood.
        let older: FeatureState =
            serde_json::from_str(r#"{"name":"x","on":true,"why":null}"#).unwrap();
        assert_eq!(older.lost, None);
    }

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
        let lost = states[Feature::Gso as usize].lost.expect("a moment");
        assert!(lost.elapsed().unwrap() < Duration::from_secs(60));
        assert_eq!(states[Feature::Gro as usize].lost, None, "never had");
        assert_eq!(states[Feature::Vnet as usize].lost, None);
    }
}
