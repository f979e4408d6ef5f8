//! How a counter is exported as a metric: names and help texts, without knowledge of who exports them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::HistogramStats;

/// The metric family that a counter belongs to. Counters with the same name are one family, of which
/// the first has the help text.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name of the family, without the unit and without `_total`.
    pub name: &'static str,
    /// What the family counts.
    pub help: &'static str,
    /// The unit of its values.
    pub unit: Unit,
    /// Which of the daemon's values of this counter are exported.
    pub scope: Scope,
    /// Value of the label `side`, for a counter that exists for packets in and for packets out.
    pub side: Option<&'static str>,
}

/// The unit of a metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// A plain number.
    Number,
    /// Bytes.
    Bytes,
    /// Seconds; the counter is in nanoseconds.
    Seconds,
}

/// Which values of a counter are exported, and with which label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Of both directions, with the label `direction`.
    Directions,
    /// Of egress alone: the counter has no meaning for ingress.
    Egress,
    /// Of ingress alone: the counter has no meaning for egress.
    Ingress,
    /// Of each thread, with the label `thread`.
    Threads,
    /// The sum of all threads.
    Process,
}

/// The kind of a counter's metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A number that only grows.
    Counter,
    /// Such a number per drop reason, with the label `reason`.
    CounterByReason,
    /// A histogram.
    Histogram,
}

/// The value of a counter at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reading {
    /// Of [`Kind::Counter`].
    Count(u64),
    /// Of [`Kind::CounterByReason`].
    ByReason(BTreeMap<Cow<'static, str>, u64>),
    /// Of [`Kind::Histogram`].
    Histogram(HistogramStats),
}

/// One counter of the statistics `S`, as a metric.
pub struct CounterMetric<S> {
    /// The metric.
    pub metric: Metric,
    /// Its kind.
    pub kind: Kind,
    /// Reads its value.
    pub read: fn(&S) -> Reading,
}

impl Metric {
    /// A metric of each direction.
    pub(super) const fn of_directions(name: &'static str, help: &'static str) -> Self {
        Self { name, help, unit: Unit::Number, scope: Scope::Directions, side: None }
    }

    /// A metric of egress alone.
    pub(super) const fn of_egress(name: &'static str, help: &'static str) -> Self {
        Self { scope: Scope::Egress, ..Self::of_directions(name, help) }
    }

    /// A metric of ingress alone.
    pub(super) const fn of_ingress(name: &'static str, help: &'static str) -> Self {
        Self { scope: Scope::Ingress, ..Self::of_directions(name, help) }
    }

    /// A metric of each thread.
    pub(super) const fn of_threads(name: &'static str, help: &'static str) -> Self {
        Self { scope: Scope::Threads, ..Self::of_directions(name, help) }
    }

    /// A metric of all threads together.
    pub(super) const fn of_process(name: &'static str, help: &'static str) -> Self {
        Self { scope: Scope::Process, ..Self::of_directions(name, help) }
    }

    /// The same in another unit.
    pub(super) const fn unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    /// The same for packets in (`in`) or for packets out (`out`).
    pub(super) const fn side(self, side: &'static str) -> Self {
        Self { side: Some(side), ..self }
    }
}
