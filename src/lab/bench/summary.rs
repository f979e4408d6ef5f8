//! The results as one short table, for a reader who wants to compare ways to connect hosts.

use std::fmt::Write;

use super::measure::Measure;
use super::mode::{BASELINE, HALF, SPIN0, WATCHED};
use super::results::{Results, Table};
use super::sample::BenchSample;
use super::table::{amount, spread, two_digits};

/// One table of the first underlay: a row for each mode that is an alternative to another, a column for each
/// of the measures that decide most often.
pub(super) fn render(results: &Results) -> Option<String> {
    let table = results.tables.first()?;
    let columns: Vec<&Column> = COLUMNS.iter().filter(|c| table.row(c.measure).is_some()).collect();
    if columns.is_empty() {
        return None;
    }
    let m = &results.machine;
    let mut text = format!(
        "{} × {}, {}, Linux {}; flannel-udp {}; underlay `{}`, MTU {}. Median of {} rounds of {} s, \
         [lowest–highest].\n\n",
        m.processors,
        m.processor,
        m.architecture,
        m.kernel,
        m.version,
        table.underlay,
        table.mtu,
        results.rounds,
        results.seconds
    );
    let heads: Vec<&str> = columns.iter().map(|column| column.head).collect();
    let _ = writeln!(text, "| mode | {} |", heads.join(" | "));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(columns.len()));
    for mode in alternatives(table) {
        let cells: Vec<String> = columns.iter().map(|column| column.cell(table, mode)).collect();
        let _ = writeln!(text, "| {} | {} |", table.heading(mode), cells.join(" | "));
    }
    Some(text)
}

/// The modes without variants and without those that only examine this program.
fn alternatives(table: &Table) -> impl Iterator<Item = &str> {
    let examines = [SPIN0, HALF, WATCHED, BASELINE];
    let modes = table.modes.iter().filter(|mode| !table.variants.contains(mode));
    modes.map(String::as_str).filter(move |mode| !examines.contains(mode))
}

struct Column {
    head: &'static str,
    measure: Measure,
    part: fn(&BenchSample) -> f64,
    show: fn(f64) -> String,
}

impl Column {
    fn cell(&self, table: &Table, mode: &str) -> String {
        let found = table.row(self.measure).and_then(|row| row.spread(mode, self.part));
        found.map_or("failed".into(), |found| spread(found, self.show))
    }
}

const COLUMNS: [Column; 5] = [
    Column {
        head: "1 TCP stream (Gbit/s)",
        measure: Measure::Tcp1,
        part: |sample| sample.value,
        show: amount,
    },
    Column {
        head: "its CPU time (s/GB)",
        measure: Measure::Tcp1,
        part: |sample| sample.cpu,
        show: two_digits,
    },
    Column {
        head: "4 TCP streams (Gbit/s)",
        measure: Measure::Tcp4,
        part: |sample| sample.value,
        show: amount,
    },
    Column {
        head: "18-byte UDP (packets/s)",
        measure: Measure::Pps18,
        part: |sample| sample.value,
        show: amount,
    },
    Column {
        head: "round trip (µs)",
        measure: Measure::Rr,
        part: |sample| sample.value,
        show: amount,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::UnderlayKind;
    use crate::lab::bench::machine::Machine;
    use crate::lab::bench::results::MeasureRow;

    #[test]
    fn rows_are_alternatives_and_columns_what_was_measured() {
        let mut row = MeasureRow::new(Measure::Tcp1);
        let samples = [1.0, 2.0, 3.0]
            .map(|value| Some(BenchSample { value, cpu: value / 2.0, ..BenchSample::default() }));
        for mode in ["vxlan", HALF, "mine"] {
            row.samples.insert(mode.into(), samples.to_vec());
        }
        let table = Table {
            underlay: UnderlayKind::Nic,
            mtu: 1500,
            modes: ["vxlan", HALF, "mine", "tinc"].map(String::from).to_vec(),
            variants: vec!["mine".into()],
            encrypted: vec!["tinc".into()],
            left_out: Vec::new(),
            rows: vec![row],
        };
        let machine = Machine {
            version: "0",
            kernel: "k".into(),
            architecture: "a",
            processor: "p".into(),
            processors: 1,
            busy_before: 0.0,
        };
        let mut results = Results {
            version: 1,
            machine,
            rounds: 3,
            seconds: 1.0,
            tables: vec![table],
            targets: vec![],
        };
        let text = render(&results).unwrap();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| mode | 1 TCP stream (Gbit/s) | its CPU time (s/GB) |",
                "|---|---:|---:|",
                "| `vxlan` | **2.00** [1.00–3.00] | **1.00** [0.50–1.50] |",
                "| `tinc` (encrypted) | failed | failed |",
            ]
        );
        results.tables.clear();
        assert_eq!(render(&results), None);
    }
}
