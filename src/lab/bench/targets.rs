//! The speed that the tunnel is meant to reach, and whether it does.

use std::fmt::{self, Write};

use Bound::{AtLeast, AtMost, Between};
use Measure::{Pps18, PpsFull, Rr, RrLoad, Tcp1, Tcp4};

use super::measure::Measure;
use super::mode::{OFF, OURS, WATCHED};
use super::results::{Table, TargetOutcome};
use super::sample::BenchSample;
use crate::lab::UnderlayKind;

/// A ratio to reach.
#[derive(Debug, Clone, Copy)]
struct SpeedTarget {
    measure: Measure,
    part: Part,
    underlay: UnderlayKind,
    mtu: u32,
    mode: &'static str,
    against: &'static str,
    bound: Bound,
}

/// The number of a sample that a target is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Value,
    Cpu,
}

/// The range in which a ratio should be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Between(f64, f64),
}

/// The targets for which `tables` have samples. The median of the ratios decides.
pub(super) fn outcomes(tables: &[Table]) -> Vec<TargetOutcome> {
    TARGETS.iter().filter_map(|target| target.outcome(tables)).collect()
}

/// Writes the targets as a section of the report, unless there are none.
pub(super) fn render(text: &mut String, outcomes: &[TargetOutcome]) {
    if outcomes.is_empty() {
        return;
    }
    let met = outcomes.iter().filter(|outcome| outcome.met).count();
    let _ = writeln!(text, "\n### Targets\n\n{met} of {} are met.", outcomes.len());
    let _ = writeln!(text, "\n| measure | underlay | ratio | target | measured | |");
    let _ = writeln!(text, "|---|---|---|---:|---:|---|");
    for TargetOutcome { what, setting, mode, against, target, measured, met } in outcomes {
        let verdict = if *met { "met" } else { "**missed**" };
        let _ = writeln!(
            text,
            "| {what} | {setting} | `{mode}` over `{against}` | {target} | {:.2} [{:.2}–{:.2}] | {verdict} |",
            measured.median, measured.min, measured.max
        );
    }
}

impl SpeedTarget {
    fn outcome(&self, tables: &[Table]) -> Option<TargetOutcome> {
        let of_mine = |t: &&Table| t.underlay == self.underlay && t.mtu == self.mtu;
        let row = tables.iter().filter(of_mine).find_map(|table| table.row(self.measure))?;
        let pick: fn(&BenchSample) -> f64 = match self.part {
            Part::Value => |sample| sample.value,
            Part::Cpu => |sample| sample.cpu,
        };
        let measured = row.ratio(self.mode, self.against, pick)?;
        let unit = if self.part == Part::Cpu { row.cpu_unit } else { row.unit };
        Some(TargetOutcome {
            what: format!("{} ({unit})", self.measure.name()),
            setting: format!("{}, MTU {}", self.underlay, self.mtu),
            mode: self.mode,
            against: self.against,
            target: self.bound.to_string(),
            measured,
            met: self.bound.holds(measured.median),
        })
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
            Self::Between(low, high) => (low..=high).contains(&value),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
            Self::Between(low, high) => write!(f, "{low} to {high}"),
        }
    }
}

const fn nic(
    measure: Measure,
    mode: &'static str,
    against: &'static str,
    bound: Bound,
) -> SpeedTarget {
    SpeedTarget {
        measure,
        part: Part::Value,
        underlay: UnderlayKind::Nic,
        mtu: 1500,
        mode,
        against,
        bound,
    }
}

/// The defaults are meant to reach all of these on two CPUs.
const TARGETS: [SpeedTarget; 20] = [
    nic(Tcp1, OURS, VXLAN, AtLeast(1.0)),
    nic(Tcp4, OURS, VXLAN, AtLeast(1.0)),
    nic(Tcp1, OURS, OFF, AtLeast(12.0)),
    nic(Pps18, OURS, VXLAN, AtLeast(2.6)),
    nic(Pps18, OURS, OFF, AtLeast(4.5)),
    nic(PpsFull, OURS, VXLAN, AtLeast(2.5)),
    SpeedTarget { part: Part::Cpu, ..nic(Tcp1, OURS, VXLAN, AtMost(1.15)) },
    nic(Rr, OURS, VXLAN, AtMost(0.5)),
    nic(Rr, "spin0", VXLAN, AtMost(1.0)),
    nic(RrLoad, OURS, OFF, AtMost(0.5)),
    SpeedTarget { underlay: UnderlayKind::Veth, ..nic(Tcp1, OURS, VXLAN, AtLeast(0.7)) },
    SpeedTarget { underlay: UnderlayKind::Veth, ..nic(Tcp4, OURS, VXLAN, AtLeast(0.45)) },
    SpeedTarget { mtu: 9000, ..nic(Tcp1, OURS, VXLAN, AtLeast(0.75)) },
    nic(Tcp1, "half", OFF, AtLeast(2.0)),
    // `off` is meant to be as fast as a plain loop, which it stands for.
    nic(Tcp1, OFF, BASELINE, Between(0.85, 1.15)),
    nic(Tcp4, OFF, BASELINE, Between(0.85, 1.15)),
    nic(Pps18, OFF, BASELINE, Between(0.85, 1.15)),
    nic(PpsFull, OFF, BASELINE, Between(0.85, 1.15)),
    nic(Rr, OFF, BASELINE, Between(0.85, 1.15)),
    // Metrics and status must cost next to nothing.
    nic(Tcp1, WATCHED, OURS, AtLeast(0.99)),
];

const VXLAN: &str = "vxlan";
const BASELINE: &str = "baseline";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::bench::results::MeasureRow;

    #[test]
    fn the_median_decides_and_targets_without_samples_are_left_out() {
        let sample =
            |value: f64| Some(BenchSample { value, cpu: 2.0 / value, ..BenchSample::default() });
        let mut row = MeasureRow::new(Measure::Tcp1);
        for (mode, values) in [(OURS, [0.9, 1.1, 1.2]), (VXLAN, [1.0; 3]), (OFF, [0.1; 3])] {
            row.samples.insert(mode.into(), values.map(sample).to_vec());
        }
        let table = |underlay, rows| Table {
            underlay,
            mtu: 1500,
            modes: vec![],
            variants: vec![],
            encrypted: vec![],
            left_out: vec![],
            rows,
        };
        let tables = [table(UnderlayKind::Veth, vec![]), table(UnderlayKind::Nic, vec![row])];
        let outcomes = outcomes(&tables);
        let judged: Vec<_> = outcomes.iter().map(|o| (&*o.what, o.against, o.met)).collect();
        assert_eq!(
            judged,
            [
                ("tcp1 (Gbit/s)", VXLAN, true),
                ("tcp1 (Gbit/s)", OFF, false),
                ("tcp1 (CPU s/GB)", VXLAN, true),
            ]
        );
        let mut text = String::new();
        render(&mut text, &outcomes);
        assert!(text.contains("2 of 3 are met"), "{text}");
        assert!(text.contains("| ≥ 12 | 11.00 [9.00–12.00] | **missed** |"), "{text}");
    }
}
