//! The features in use while a data plane runs.
//!
//! A feature that the kernel refuses at run time is disabled until the data plane is started again,
//! with one log line that says why. Refusals that cost packets but no feature are logged here as
//! well, each reason at most once per [`LOG_INTERVAL`].

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Feature, Offloads};
use crate::dataplane::counters::DropReason;
use crate::route::NextHop;

/// The state of a feature.
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

/// Why and when a feature was disabled.
#[derive(Clone, Default)]
struct Disabled {
    why: Option<String>,
    when: Option<SystemTime>,
}

/// The features in use, shared by all workers. Features only ever go away.
pub struct ActiveOffloads {
    on: [AtomicBool; Feature::ALL.len()],
    disabled: Mutex<[Disabled; Feature::ALL.len()]>,
    started: Instant,
    /// Until when no further line is logged for each reason, in seconds since `started`.
    warned: [AtomicU64; DropReason::ALL.len()],
}

impl ActiveOffloads {
    /// Everything that `offloads` allows.
    pub fn new(offloads: Offloads) -> Self {
        let allowed = Feature::ALL.map(|feature| offloads.allows(feature));
        Self {
            on: allowed.map(AtomicBool::new),
            disabled: Mutex::new(
                allowed.map(|on| Disabled {
                    why: (!on).then(|| "switched off".to_owned()),
                    when: None,
                }),
            ),
            started: Instant::now(),
            warned: [const { AtomicU64::new(0) }; DropReason::ALL.len()],
        }
    }

    /// Whether `feature` is in use.
    #[inline]
    pub fn has(&self, feature: Feature) -> bool {
        self.on[feature as usize].load(Ordering::Relaxed)
    }

    /// Disables `feature`. The first call for it records `why` and when, and returns true.
    pub fn disable(&self, feature: Feature, why: impl Into<String>) -> bool {
        let had = self.on[feature as usize].swap(false, Ordering::Relaxed);
        if had {
            let why = why.into();
            tracing::warn!(feature = feature.name(), %why, "continuing without a kernel feature");
            let record = Disabled { why: Some(why), when: Some(now_to_the_second()) };
            self.disabled.lock().unwrap_or_else(PoisonError::into_inner)[feature as usize] = record;
        }
        had
    }

    /// Logs that the kernel did not send to `hop`, for each reason at most once per [`LOG_INTERVAL`].
    /// The counter of the reason says how many packets were dropped.
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
                "packets to another host are dropped because the kernel does not send them: {error}"
            );
        }
    }

    fn is_due(&self, reason: DropReason, now: Duration) -> bool {
        let (now, warned) = (now.as_secs(), &self.warned[reason as usize]);
        let until = warned.load(Ordering::Relaxed);
        let next = now + LOG_INTERVAL.as_secs();
        // Of several threads that get here at the same time, one logs.
        now >= until
            && warned.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The state of every feature.
    pub fn states(&self) -> Vec<FeatureState> {
        let disabled = self.disabled.lock().unwrap_or_else(PoisonError::into_inner);
        Feature::ALL
            .into_iter()
            .zip(disabled.iter())
            .map(|(feature, record)| FeatureState {
                name: feature.name().into(),
                on: self.has(feature),
                why: record.why.clone(),
                lost: record.when,
            })
            .collect()
    }
}

/// How long a refusal that continues is not logged again.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

fn now_to_the_second() -> SystemTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_once_in_a_while_and_each_kind_by_itself() {
        let offloads = ActiveOffloads::new(Offloads::AUTO);
        let due = |reason, seconds| offloads.is_due(reason, Duration::from_secs(seconds));
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
        let offloads = ActiveOffloads::new(Offloads::AUTO.with(Feature::Gro, false));
        assert!(offloads.has(Feature::Gso) && !offloads.has(Feature::Gro));
        assert!(offloads.disable(Feature::Gso, "EIO"));
        assert!(!offloads.disable(Feature::Gso, "EINVAL"));
        assert!(!offloads.disable(Feature::Gro, "never had"));
        let states = offloads.states();
        assert_eq!(states[Feature::Gso as usize].why.as_deref(), Some("EIO"));
        assert_eq!(states[Feature::Gro as usize].why.as_deref(), Some("switched off"));
        assert_eq!(states[Feature::Vnet as usize].why, None);
        let lost = states[Feature::Gso as usize].lost.expect("a moment");
        assert!(lost.elapsed().unwrap() < Duration::from_secs(60));
        assert_eq!(states[Feature::Gro as usize].lost, None, "never had");
        assert_eq!(states[Feature::Vnet as usize].lost, None);
    }
}
