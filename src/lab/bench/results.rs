//! Everything that was measured, and the medians and ratios of it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::machine::Machine;
use super::measure::{Measure, Sample};
use super::targets::Outcome;
use crate::lab::Underlay;

/// All results of a run.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    /// Version of this layout.
    pub(super) version: u32,
    pub(super) machine: Machine,
    pub(super) rounds: usize,
    pub(super) seconds: f64,
    pub(super) tables: Vec<Table>,
    /// What was to be reached, as far as it was measured.
    pub(super) targets: Vec<Outcome>,
}

/// The results for one underlay.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    #[serde(serialize_with = "as_text")]
    pub(super) underlay: Underlay,
    pub(super) mtu: u32,
    /// In the order of the columns.
    pub(super) modes: Vec<String>,
    /// Modes that could not be built, and why.
    pub(super) left_out: Vec<(String, String)>,
    pub(super) rows: Vec<Row>,
}

/// One measure: the samples of each mode, one a round. A round in which a mode failed is `None`.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) measure: Measure,
    pub(super) unit: &'static str,
    pub(super) cpu_unit: &'static str,
    pub(super) samples: BTreeMap<String, Vec<Option<Sample>>>,
}

/// A median and the extremes around it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Of all numbers among `values`; nothing when there are none.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Self { median, min, max })
    }
}

impl Table {
    /// The row of `measure`.
    pub(super) fn row(&self, measure: Measure) -> Option<&Row> {
        self.rows.iter().find(|row| row.measure == measure)
    }
}

impl Row {
    /// A row without samples.
    pub(super) fn new(measure: Measure) -> Self {
        let (unit, cpu_unit) = (measure.unit(), measure.cpu_unit());
        Self { measure, unit, cpu_unit, samples: BTreeMap::new() }
    }

    /// The samples of `mode` that succeeded.
    pub(super) fn good(&self, mode: &str) -> impl Iterator<Item = &Sample> {
        self.samples.get(mode).into_iter().flatten().flatten()
    }

    /// Median and extremes of `part` over the rounds.
    pub(super) fn spread(&self, mode: &str, part: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.good(mode).map(part))
    }

    /// Median and extremes of `part` of `mode` over that of `other`, round by round: drift of the
    /// machine from round to round cancels out.
    pub(super) fn ratio(
        &self,
        mode: &str,
        other: &str,
        part: impl Fn(&Sample) -> f64,
    ) -> Option<Spread> {
        let (ours, theirs) = (self.samples.get(mode)?, self.samples.get(other)?);
        let pairs = ours.iter().zip(theirs).filter_map(|(a, b)| a.as_ref().zip(b.as_ref()));
        Spread::of(pairs.map(|(a, b)| part(a) / part(b)))
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn as_text<S: serde::Serializer>(underlay: &Underlay, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(underlay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN]), None);
        let odd = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0]).unwrap().median, 2.5);
    }

    #[test]
    fn a_ratio_pairs_rounds() {
        let sample = |value| Some(Sample { value, ..Sample::default() });
        let mut row = Row::new(Measure::Tcp1);
        row.samples.insert("a".into(), vec![sample(2.0), None, sample(30.0)]);
        row.samples.insert("b".into(), vec![sample(1.0), sample(1.0), sample(10.0)]);
        let ratio = row.ratio("a", "b", |s| s.value).unwrap();
        assert_eq!((ratio.min, ratio.max), (2.0, 3.0));
        assert_eq!(row.ratio("a", "c", |s| s.value), None);
    }
}
