//! All samples of a run, their medians and their ratios.

use std::collections::BTreeMap;

use serde::Serialize;

use super::machine::Machine;
use super::measure::Measure;
use super::sample::BenchSample;
use crate::lab::UnderlayKind;

/// All results of a run.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    /// Version of this layout.
    pub(super) version: u32,
    pub(super) machine: Machine,
    pub(super) rounds: usize,
    pub(super) seconds: f64,
    pub(super) tables: Vec<Table>,
    /// The targets for which the run has samples.
    pub(super) targets: Vec<TargetOutcome>,
}

/// The results for one underlay.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    #[serde(serialize_with = "as_text")]
    pub(super) underlay: UnderlayKind,
    pub(super) mtu: u32,
    /// Names of the modes, in the order of the columns.
    pub(super) modes: Vec<String>,
    /// Names of those modes that `--variant` added.
    pub(super) variants: Vec<String>,
    /// Names of those modes that encrypt packets.
    pub(super) encrypted: Vec<String>,
    /// Modes that could not be built, and why.
    pub(super) left_out: Vec<(String, String)>,
    pub(super) rows: Vec<MeasureRow>,
}

/// One measure: the samples of each mode, one per round. A sample that failed is `None`.
#[derive(Debug, Serialize)]
pub(super) struct MeasureRow {
    pub(super) measure: Measure,
    pub(super) unit: &'static str,
    pub(super) cpu_unit: &'static str,
    pub(super) samples: BTreeMap<String, Vec<Option<BenchSample>>>,
}

/// A target and the ratio that was measured.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TargetOutcome {
    pub(super) what: String,
    pub(super) setting: String,
    pub(super) mode: &'static str,
    pub(super) against: &'static str,
    pub(super) target: String,
    /// The ratios, paired by round.
    #[serde(rename = "seen")]
    pub(super) measured: Spread,
    pub(super) met: bool,
}

/// Median, quartiles and extremes of a set of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) lower_quartile: f64,
    pub(super) upper_quartile: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// The spread of the finite numbers of `values`; `None` if there are none.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        // Linear interpolation between the two nearest numbers (type 7 of Hyndman and Fan).
        let quantile = |share: f64| {
            let position = share * (values.len() - 1) as f64;
            let (below, above) =
                (values[position.floor() as usize], values[position.ceil() as usize]);
            below + (above - below) * position.fract()
        };
        let (median, lower_quartile, upper_quartile) =
            (quantile(0.5), quantile(0.25), quantile(0.75));
        Some(Self { median, lower_quartile, upper_quartile, min, max })
    }
}

impl Table {
    /// The name of a mode as a heading, with a mark if it encrypts packets.
    pub(super) fn heading(&self, mode: &str) -> String {
        let encrypted = self.encrypted.iter().any(|name| name == mode);
        format!("`{mode}`{}", if encrypted { " (encrypted)" } else { "" })
    }

    /// The row of `measure`.
    pub(super) fn row(&self, measure: Measure) -> Option<&MeasureRow> {
        self.rows.iter().find(|row| row.measure == measure)
    }
}

impl MeasureRow {
    /// A row without samples.
    pub(super) fn new(measure: Measure) -> Self {
        let (unit, cpu_unit) = (measure.unit(), measure.cpu_unit());
        Self { measure, unit, cpu_unit, samples: BTreeMap::new() }
    }

    /// The samples of `mode` that succeeded.
    pub(super) fn good(&self, mode: &str) -> impl Iterator<Item = &BenchSample> {
        self.samples.get(mode).into_iter().flatten().flatten()
    }

    /// The spread of `part` over the rounds.
    pub(super) fn spread(&self, mode: &str, part: impl Fn(&BenchSample) -> f64) -> Option<Spread> {
        Spread::of(self.good(mode).map(part))
    }

    /// The spread of the ratio of `part` of `mode` to that of `other` in the same round, so that drift of
    /// the machine from round to round cancels out.
    pub(super) fn ratio(
        &self,
        mode: &str,
        other: &str,
        part: impl Fn(&BenchSample) -> f64,
    ) -> Option<Spread> {
        Spread::of(self.paired(mode, other).map(|(a, b)| part(a) / part(b)))
    }

    /// Rounds in which both modes were measured.
    pub(super) fn pairs(&self, mode: &str, other: &str) -> usize {
        self.paired(mode, other).count()
    }

    fn paired(
        &self,
        mode: &str,
        other: &str,
    ) -> impl Iterator<Item = (&BenchSample, &BenchSample)> {
        let samples = |name: &str| self.samples.get(name).into_iter().flatten();
        samples(mode).zip(samples(other)).filter_map(|(a, b)| a.as_ref().zip(b.as_ref()))
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn as_text<S: serde::Serializer>(underlay: &UnderlayKind, to: S) -> Result<S::Ok, S::Error> {
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
        let quartiles = Spread::of([1.0, 2.0, 3.0, 4.0, 9.0]).unwrap();
        assert_eq!((quartiles.lower_quartile, quartiles.upper_quartile), (2.0, 4.0));
    }

    #[test]
    fn a_ratio_is_paired_by_round() {
        let sample = |value| Some(BenchSample { value, ..BenchSample::default() });
        let mut row = MeasureRow::new(Measure::Tcp1);
        row.samples.insert("a".into(), vec![sample(2.0), None, sample(30.0)]);
        row.samples.insert("b".into(), vec![sample(1.0), sample(1.0), sample(10.0)]);
        let ratio = row.ratio("a", "b", |s| s.value).unwrap();
        assert_eq!((ratio.min, ratio.max), (2.0, 3.0));
        assert_eq!(row.ratio("a", "c", |s| s.value), None);
    }
}
