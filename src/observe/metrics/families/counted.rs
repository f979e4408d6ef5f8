//! Families of the data plane's counters, as `dataplane/counters` declares them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::samples::*;
use super::{Family, Kind, Sample, Samples, Value};
use crate::dataplane::DropReason;
use crate::dataplane::counters::metric::{self, CounterMetric, Metric, Reading, Scope, Unit};
use crate::dataplane::counters::{DirectionStats, ThreadStats};
use crate::observe::protocol::snapshot::Snapshot;

/// The counters of one family.
pub(super) enum Counted {
    /// Those with one name, of which only the sides differ.
    Direction(Vec<&'static CounterMetric<DirectionStats>>),
    Thread(&'static CounterMetric<ThreadStats>),
}

/// The families of [`DirectionStats`].
pub(super) fn directions() -> Vec<Family> {
    let same_family = |a: &CounterMetric<_>, b: &CounterMetric<_>| a.metric.name == b.metric.name;
    let families = DirectionStats::METRICS.chunk_by(same_family);
    families
        .map(|counters| {
            let CounterMetric { metric, kind, .. } = &counters[0];
            family(metric, *kind, Counted::Direction(counters.iter().collect()))
        })
        .collect()
}

/// The families of [`ThreadStats`].
pub(super) fn threads() -> Vec<Family> {
    let counters = ThreadStats::METRICS.iter();
    counters
        .map(|counter| family(&counter.metric, counter.kind, Counted::Thread(counter)))
        .collect()
}

fn family(metric: &Metric, kind: metric::Kind, counters: Counted) -> Family {
    Family {
        name: metric.name,
        kind: match kind {
            metric::Kind::Counter | metric::Kind::CounterByReason => Kind::Counter,
            metric::Kind::Histogram => Kind::Histogram,
        },
        unit: match metric.unit {
            Unit::Number => None,
            Unit::Bytes => Some("bytes"),
            Unit::Seconds => Some("seconds"),
        },
        labels: match (metric.scope, kind, metric.side) {
            (Scope::Directions, metric::Kind::CounterByReason, _) => &["direction", "reason"],
            (Scope::Directions, _, Some(_)) => &["direction", "side"],
            (Scope::Directions, _, None) => &["direction"],
            (Scope::Threads, ..) => &["thread"],
            (Scope::Egress | Scope::Ingress | Scope::Process, ..) => &[],
        },
        help: metric.help,
        samples: Samples::Counted(counters),
    }
}

impl Counted {
    pub(super) fn samples(&self, snapshot: &Snapshot) -> Vec<Sample> {
        match self {
            Self::Direction(counters) => {
                let directions =
                    [("egress", &snapshot.stats.egress), ("ingress", &snapshot.stats.ingress)];
                let samples = directions.into_iter().flat_map(|(name, stats)| {
                    counters.iter().flat_map(move |counter| of_direction(counter, name, stats))
                });
                samples.collect()
            }
            Self::Thread(CounterMetric { metric, read, .. }) => match metric.scope {
                Scope::Threads => snapshot
                    .threads
                    .iter()
                    .map(|thread| {
                        let value = value(metric.unit, (read)(&thread.counters));
                        sample([thread.name.clone()], value)
                    })
                    .collect(),
                _ => bare(value(metric.unit, (read)(&snapshot.stats.threads))),
            },
        }
    }
}

fn of_direction(
    counter: &CounterMetric<DirectionStats>,
    direction: &'static str,
    stats: &DirectionStats,
) -> Vec<Sample> {
    let CounterMetric { metric, read, .. } = counter;
    let labels = match metric.scope {
        Scope::Egress if direction == "egress" => vec![],
        Scope::Ingress if direction == "ingress" => vec![],
        Scope::Egress | Scope::Ingress => return vec![],
        _ => [direction].into_iter().chain(metric.side).collect(),
    };
    match (read)(stats) {
        Reading::ByReason(drops) => by_reason(&labels, &drops),
        reading => vec![sample(labels, value(metric.unit, reading))],
    }
}

/// Every reason, whether it has occurred or not, so that a rate is there from the first time on.
fn by_reason<S: AsRef<str> + Ord>(
    labels: &[&'static str],
    drops: &BTreeMap<S, u64>,
) -> Vec<Sample> {
    let known = DropReason::ALL.iter().map(|reason| (reason.name(), 0));
    let counted = drops.iter().map(|(name, count)| (name.as_ref(), *count));
    let all: BTreeMap<&str, u64> = known.chain(counted).collect();
    all.into_iter()
        .map(|(reason, count)| {
            let labels = labels.iter().copied().chain([reason]).map(str::to_owned);
            sample(labels, Value::Whole(count))
        })
        .collect()
}

fn value(unit: Unit, reading: Reading) -> Value {
    match (reading, unit) {
        (Reading::Count(nanos), Unit::Seconds) => {
            Value::Real(Duration::from_nanos(nanos).as_secs_f64())
        }
        (Reading::Count(count), _) => Value::Whole(count),
        (Reading::ByReason(drops), _) => Value::Whole(drops.values().sum()),
        (Reading::Histogram(histogram), _) => Value::Histogram(histogram),
    }
}
