//! What is told to Prometheus: every family of metrics with its name, its meaning and where its values
//! come from. `docs/monitoring.md` is checked against this list.

use std::borrow::Cow;
use std::sync::LazyLock;

use crate::dataplane::counters::HistogramStats;
use crate::observe::protocol::snapshot::Snapshot;

mod counted;
mod daemon;
mod network;
mod packets;
mod samples;

/// A family of metrics.
pub struct Family {
    /// Its name, without the unit and without `_total` or `_info`.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// Its unit, the last part of the name but one.
    pub unit: Option<&'static str>,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
    /// Where its values come from.
    samples: Samples,
}

/// Where the values of a family come from.
enum Samples {
    /// From the state of the daemon.
    Of(fn(&Snapshot) -> Vec<Sample>),
    /// From counters of the data plane.
    Counted(counted::Counted),
}

impl Family {
    /// Its values.
    pub(super) fn samples(&self, snapshot: &Snapshot) -> Vec<Sample> {
        match &self.samples {
            Samples::Of(samples) => samples(snapshot),
            Samples::Counted(counters) => counters.samples(snapshot),
        }
    }

    /// The name as Prometheus stores it; a histogram's with its three endings.
    pub fn full_name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{unit}")).unwrap_or_default();
        let ending = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge => "",
            Kind::Histogram => "_{bucket,sum,count}",
        };
        format!("{}{unit}{ending}", self.name)
    }
}

/// The kinds of metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows, from the start of the process.
    Counter,
    /// Now.
    Gauge,
    /// How often values of each size were seen.
    Histogram,
    /// Words, as labels of a constant.
    Info,
}

/// One value with its labels.
pub(super) struct Sample {
    pub(super) labels: Vec<Cow<'static, str>>,
    pub(super) value: Value,
}

pub(super) enum Value {
    Whole(u64),
    Real(f64),
    Histogram(HistogramStats),
}

/// All families, in the order in which they are exported.
pub fn families() -> impl Iterator<Item = &'static Family> {
    static FAMILIES: LazyLock<Vec<Family>> = LazyLock::new(|| {
        (daemon::families().into_iter())
            .chain(counted::threads())
            .chain(counted::directions())
            .chain(packets::families())
            .chain(network::families())
            .collect()
    });
    FAMILIES.iter()
}
