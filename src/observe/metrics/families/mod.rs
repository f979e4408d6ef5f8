//! The metric families, each with its name, its help text and the source of its values. A test
//! compares `docs/monitoring.md` with this list.

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
    /// Name, without the unit and without `_total` or `_info`.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Unit, which the exported name has before `_total`.
    pub unit: Option<&'static str>,
    /// Names of the labels.
    pub labels: &'static [&'static str],
    /// Help text.
    pub help: &'static str,
    /// Source of the values.
    samples: Samples,
}

/// The source of the values of a family.
enum Samples {
    /// The state of the daemon.
    Of(fn(&Snapshot) -> Vec<Sample>),
    /// Counters of the data plane.
    Counted(counted::Counted),
}

impl Family {
    /// The values in `snapshot`.
    pub(super) fn samples(&self, snapshot: &Snapshot) -> Vec<Sample> {
        match &self.samples {
            Samples::Of(samples) => samples(snapshot),
            Samples::Counted(counters) => counters.samples(snapshot),
        }
    }

    /// The name as Prometheus stores it; for a histogram with its three suffixes.
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
    /// A number that only grows from the start of the process.
    Counter,
    /// A number at this moment.
    Gauge,
    /// A number of values per size.
    Histogram,
    /// Text, as labels of the constant 1.
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
