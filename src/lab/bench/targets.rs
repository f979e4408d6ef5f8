//! What the tunnel is meant to reach, and whether it did.

use std::fmt::{self, Write};

use Bound::{AtLeast, AtMost, Between};
use Measure::{Pps18, PpsFull, Rr, RrLoad, Tcp1, Tcp4};
use serde::Serialize;

use super::measure::{Measure, Sample};
use super::mode::{OFF, OURS, WATCHED};
use super::results::{Spread, Table};
use crate::lab::Underlay;

/// A ratio to reach.
#[derive(Debug, Clone, Copy)]
struct Target {
    measure: Measure,
    part: Part,
    underlay: Underlay,
    mtu: u32,
    mode: &'static str,
    against: &'static str,
    bound: Bound,
}

/// Which number of a sample counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Value,
    Cpu,
}

/// Where a ratio should lie.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Between(f64, f64),
}

/// A target beside what was seen.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    pub(super) what: String,
    pub(super) setting: String,
    pub(super) mode: &'static str,
    pub(super) against: &'static str,
    pub(super) target: String,
    /// Median and extremes of the ratios, round by round.
    pub(super) seen: Spread,
    pub(super) met: bool,
}

/// All targets for which `tables` have the figures; a median decides.
pub(super) fn outcomes(tables: &[Table]) -> Vec<Outcome> {
    TARGETS.iter().filter_map(|target| target.outcome(tables)).collect()
}

/// The targets as a section of the report; nothing where no target applies.
pub(super) fn render(text: &mut String, outcomes: &[Outcome]) {
    if outcomes.is_empty() {
        return;
    }
    let met = outcomes.iter().filter(|outcome| outcome.met).count();
    let _ = writeln!(text, "\n### Targets\n\n{met} of {} are met.", outcomes.len());
    let _ = writeln!(text, "\n| measure | underlay | ratio | target | seen | |");
    let _ = writeln!(text, "|---|---|---|---:|---:|---|");
    for Outcome { what, setting, mode, against, target, seen, met } in outcomes {
        let verdict = if *met { "met" } else { "**missed**" };
        let _ = writeln!(
            text,
            "| {what} | {setting} | `{mode}` over `{against}` | {target} | {:.2} [{:.2}–{:.2}] | {verdict} |",
            seen.median, seen.min, seen.max
        );
    }
}

impl Target {
    fn outcome(&self, tables: &[Table]) -> Option<Outcome> {
        let of_mine = |t: &&Table| t.underlay == self.underlay && t.mtu == self.mtu;
        let row = tables.iter().filter(of_mine).find_map(|table| table.row(self.measure))?;
        let pick: fn(&Sample) -> f64 = match self.part {
            Part::Value => |sample| sample.value,
            Part::Cpu => |sample| sample.cpu,
        };
        let seen = row.ratio(self.mode, self.against, pick)?;
        let unit = if self.part == Part::Cpu { row.cpu_unit } else { row.unit };
        Some(Outcome {
            what: format!("{} ({unit})", self.measure.name()),
            setting: format!("{}, MTU {}", self.underlay, self.mtu),
            mode: self.mode,
            against: self.against,
            target: self.bound.to_string(),
            seen,
            met: self.bound.holds(seen.median),
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

const fn nic(measure: Measure, mode: &'static str, against: &'static str, bound: Bound) -> Target {
    Target { measure, part: Part::Value, underlay: Underlay::Nic, mtu: 1500, mode, against, bound }
}

/// One set of defaults is to reach all of them, on two processors.
const TARGETS: [Target; 20] = [
    nic(Tcp1, OURS, VXLAN, AtLeast(1.0)),
    nic(Tcp4, OURS, VXLAN, AtLeast(1.0)),
    nic(Tcp1, OURS, OFF, AtLeast(12.0)),
    nic(Pps18, OURS, VXLAN, AtLeast(2.6)),
    nic(Pps18, OURS, OFF, AtLeast(4.5)),
    nic(PpsFull, OURS, VXLAN, AtLeast(2.5)),
    Target { part: Part::Cpu, ..nic(Tcp1, OURS, VXLAN, AtMost(1.15)) },
    nic(Rr, OURS, VXLAN, AtMost(0.5)),
    nic(Rr, "spin0", VXLAN, AtMost(1.0)),
    nic(RrLoad, OURS, OFF, AtMost(0.5)),
    Target { underlay: Underlay::Veth, ..nic(Tcp1, OURS, VXLAN, AtLeast(0.7)) },
    Target { underlay: Underlay::Veth, ..nic(Tcp4, OURS, VXLAN, AtLeast(0.45)) },
    Target { mtu: 9000, ..nic(Tcp1, OURS, VXLAN, AtLeast(0.75)) },
    nic(Tcp1, "half", OFF, AtLeast(2.0)),
    // `off` is to be a fair stand-in for a plain loop.
    nic(Tcp1, OFF, BASELINE, Between(0.85, 1.15)),
    nic(Tcp4, OFF, BASELINE, Between(0.85, 1.15)),
    nic(Pps18, OFF, BASELINE, Between(0.85, 1.15)),
    nic(PpsFull, OFF, BASELINE, Between(0.85, 1.15)),
    nic(Rr, OFF, BASELINE, Between(0.85, 1.15)),
    // Being watched costs next to nothing.
    nic(Tcp1, WATCHED, OURS, AtLeast(0.99)),
];

const VXLAN: &str = "vxlan";
const BASELINE: &str = "baseline";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::bench::results::Row;

    #[test]
    fn a_median_decides_and_what_was_not_measured_is_left_out() {
        let sample = |value: f64| Some(Sample { value, cpu: 2.0 / value, ..Sample::default() });
        let mut row = Row::new(Measure::Tcp1);
        for (mode, values) in [(OURS, [0.9, 1.1, 1.2]), (VXLAN, [1.0; 3]), (OFF, [0.1; 3])] {
            row.samples.insert(mode.into(), values.map(sample).to_vec());
        }
        let table =
            |underlay, rows| Table { underlay, mtu: 1500, modes: vec![], left_out: vec![], rows };
        let tables = [table(Underlay::Veth, vec![]), table(Underlay::Nic, vec![row])];
        let outcomes = outcomes(&tables);
        let told: Vec<_> = outcomes.iter().map(|o| (&*o.what, o.against, o.met)).collect();
        assert_eq!(
            told,
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
