//! The program, the features of the kernel that it uses, its threads.

use super::samples::*;
use super::{Family, Kind, Samples, Value};
use crate::observe::protocol::snapshot::unix;
use crate::observe::warnings::WarningKind;

pub(super) fn families() -> Vec<Family> {
    vec![
        Family {
            name: "flannel_udp_build",
            kind: Kind::Info,
            unit: None,
            labels: &["version", "target", "features"],
            help: "The program: version, target platform, optional features",
            samples: Samples::Of(|s| {
                let labels =
                    [s.build.version.clone(), s.build.target.clone(), s.build.features.join(",")];
                vec![sample(labels, Value::Whole(1))]
            }),
        },
        Family {
            name: "flannel_udp_start_timestamp",
            kind: Kind::Gauge,
            unit: Some("seconds"),
            labels: &[],
            help: "When the daemon started, in Unix time",
            samples: Samples::Of(|s| real(s.process.started)),
        },
        Family {
            name: "flannel_udp_ready",
            kind: Kind::Gauge,
            unit: None,
            labels: &[],
            help: "1 once packets are carried with the routes of all peers, else 0",
            samples: Samples::Of(|s| whole(s.health.ready.into())),
        },
        Family {
            name: "flannel_udp_warnings",
            kind: Kind::Gauge,
            unit: None,
            labels: &["kind"],
            help: "Conditions in force that need attention, by kind: `flannel-udp status` shows their text",
            samples: Samples::Of(|s| {
                let count =
                    |kind: &str| s.warnings.iter().filter(|w| w.kind == kind).count() as u64;
                let of =
                    |kind: &WarningKind| sample([kind.name()], Value::Whole(count(kind.name())));
                WarningKind::ALL.iter().map(of).collect()
            }),
        },
        Family {
            name: "flannel_udp_log_lines_lost",
            kind: Kind::Counter,
            unit: None,
            labels: &[],
            help: "Log lines lost because nothing read them or they could not be written",
            samples: Samples::Of(|s| whole(s.process.log_lines_lost)),
        },
        Family {
            name: "flannel_udp_feature_enabled",
            kind: Kind::Gauge,
            unit: None,
            labels: FEATURE,
            help: "1 while a kernel feature is in use, else 0",
            samples: Samples::Of(|s| by_feature(s, |on, _| on)),
        },
        Family {
            name: "flannel_udp_feature_lost",
            kind: Kind::Gauge,
            unit: None,
            labels: FEATURE,
            help: "1 if the kernel rejected an enabled feature, at startup or later, else 0",
            samples: Samples::Of(|s| by_feature(s, |on, why| !on && why != Some("switched off"))),
        },
        Family {
            name: "flannel_udp_feature_lost_timestamp",
            kind: Kind::Gauge,
            unit: Some("seconds"),
            labels: FEATURE,
            help: "When the kernel rejected a feature, in Unix time; absent if the feature is in use or disabled",
            samples: Samples::Of(|s| {
                let lost = s.features.iter().filter_map(|f| Some((f.name.clone(), f.lost?)));
                lost.map(|(name, lost)| sample([name], Value::Real(unix(lost)))).collect()
            }),
        },
        Family {
            name: "flannel_udp_thread_busy",
            kind: Kind::Counter,
            unit: Some("seconds"),
            labels: THREAD,
            help: "Time that a thread was awake, carrying packets or polling for them: its rate is from 0 to 1",
            samples: Samples::Of(|s| by_thread(s, |t| Value::Real(t.busy))),
        },
    ]
}
