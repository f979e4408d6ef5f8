//! Conditions that need an operator's attention for as long as they last.
//!
//! Whoever looks after something (a route, a file, a lease) says what is wrong with it now, each time
//! it looks. From that one statement come the lines of the log, the warnings of `status`, the details
//! of `/readyz`, the findings of `doctor` and a metric.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::protocol::snapshot::unix;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $effect:ident;)*) => {
        /// What a warning is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum WarningKind {
            $($(#[$doc])* $kind,)*
        }

        impl WarningKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The name in JSON, and as the label of the metric.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// Whether the daemon is not ready while there is such a warning.
            pub fn effect(self) -> Effect {
                match self {
                    $(Self::$kind => Effect::$effect,)*
                }
            }
        }
    };
}

/// What a warning means for readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The daemon does its work otherwise.
    Ready,
    /// The daemon cannot do its work.
    NotReady,
}

kinds! {
    /// A route of the host takes traffic of the overlay away from the TUN device.
    RouteConflict = "route-conflict", Ready;
    /// The kernel does not forward packets between this host's containers and the TUN device.
    IpForward = "ip-forward", Ready;
    /// The kernel refuses the program that selects a queue of the TUN device for each packet.
    Steering = "steering", Ready;
    /// The host has lost the address that the daemon is bound to.
    Underlay = "underlay", NotReady;
    /// The lease store answers, and refuses what this host needs to hold a lease.
    StoreRefuses = "store-refuses", Ready;
    /// A firewall of this host refuses the datagrams to a peer.
    SendRefused = "send-refused", Ready;
    /// Datagrams from a peer arrive in fragments.
    Fragments = "fragments", Ready;
    /// The subnet file is not what the container runtime needs.
    SubnetFile = "subnet-file", NotReady;
    /// Firewall rules are missing or cannot be checked.
    Firewall = "firewall", Ready;
    /// The overlay's route would hide something that this host depends on, and is left out.
    HiddenNetwork = "hidden-network", NotReady;
    /// The address of this host lies in a subnet of the overlay.
    OwnAddress = "own-address", Ready;
    /// A lease has no route, because datagrams to its next hop would come back to this host.
    WithheldLease = "withheld-lease", Ready;
}

/// The text of a condition of [`WarningKind::SendRefused`], by which `peers` and `doctor` know it.
pub fn send_refused(peer: Ipv4Addr) -> String {
    format!("this host's own firewall refuses the datagrams to {peer} (EPERM)")
}

/// What is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What is wrong, as one sentence without a full stop. A condition is known by its text, which
    /// therefore has nothing in it that changes while the condition lasts, such as an age.
    pub text: String,
    /// A command or advice.
    pub remedy: Option<String>,
}

/// A condition that lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// The name of its [`WarningKind`].
    pub kind: String,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Whether the daemon is not ready because of it.
    pub not_ready: bool,
    /// When it began, in seconds of Unix time.
    pub since: f64,
}

impl Warning {
    /// The warning and its remedy in one line.
    pub fn sentence(&self) -> String {
        match &self.remedy {
            Some(remedy) => format!("{}; {remedy}", self.text),
            None => self.text.clone(),
        }
    }
}

/// The warnings in force; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Vec<(WarningKind, Warning)>>>);

impl Warnings {
    /// Sets all conditions of one kind. One that was not there before is logged, and so is the end of
    /// one that is not there any more.
    pub fn set(&self, kind: WarningKind, now: Vec<Condition>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(of, warning)| {
            let stays = *of != kind || now.iter().any(|condition| condition.text == warning.text);
            if !stays {
                tracing::info!("no longer: {}", warning.text);
            }
            stays
        });
        for Condition { text, remedy } in now {
            match all.iter_mut().find(|(of, warning)| *of == kind && warning.text == text) {
                Some((_, warning)) => warning.remedy = remedy,
                None => {
                    let since = unix(SystemTime::now());
                    let not_ready = kind.effect() == Effect::NotReady;
                    let kind_name = kind.name().to_owned();
                    let warning = Warning { kind: kind_name, text, remedy, not_ready, since };
                    tracing::warn!("{}", warning.sentence());
                    all.push((kind, warning));
                }
            }
        }
    }

    /// Every warning in force, the oldest first.
    pub fn all(&self) -> Vec<Warning> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(_, warning)| warning.clone()).collect()
    }

    /// The oldest warning that makes the daemon unready, and its remedy; `None` if there is none.
    pub fn not_ready(&self) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let blocking = all.iter().find(|(_, warning)| warning.not_ready);
        blocking.map(|(_, warning)| warning.sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(text: &str, remedy: &str) -> Condition {
        Condition { text: text.into(), remedy: Some(remedy.into()) }
    }

    #[test]
    fn a_warning_lasts_as_long_as_its_condition() {
        let warnings = Warnings::default();
        let texts = || warnings.all().into_iter().map(|w| w.sentence()).collect::<Vec<_>>();
        warnings.set(WarningKind::RouteConflict, vec![condition("a", "do"), condition("b", "do")]);
        let began = warnings.all()[1].since;
        warnings
            .set(WarningKind::RouteConflict, vec![condition("b", "wait"), condition("c", "do")]);
        assert_eq!(texts(), ["b; wait", "c; do"]);
        assert_eq!(warnings.all()[0].since, began);
        assert_eq!(warnings.not_ready(), None);
        warnings.set(WarningKind::RouteConflict, vec![]);
        assert_eq!(texts(), [""; 0]);
    }

    #[test]
    fn names_of_kinds_are_unique() {
        for (at, kind) in WarningKind::ALL.iter().enumerate() {
            assert!(WarningKind::ALL[..at].iter().all(|other| other.name() != kind.name()));
        }
    }
}
