//! The results as Markdown tables.

use std::fmt::Write;

use super::measure::{Measure, full_size};
use super::mode::{BASELINE, HALF, OFF, OURS, SPIN0, WATCHED};
use super::results::{MeasureRow, Results, Spread, Table};
use super::sample::BenchSample;
use super::targets;

/// All tables, then the summary.
pub(super) fn render(results: &Results) -> String {
    let mut text = String::new();
    let m = &results.machine;
    let _ = writeln!(
        text,
        "{} × {}, {}, Linux {}; flannel-udp {}. Median of {} rounds of {} s, [lowest–highest]; \
         modes measured in turn within each round; TCP with cubic.",
        m.processors,
        m.processor,
        m.architecture,
        m.kernel,
        m.version,
        results.rounds,
        results.seconds
    );
    if let Some(warning) = m.warning() {
        let _ = writeln!(text, "\n**Warning**: {warning}.");
    }
    for table in &results.tables {
        let _ = writeln!(text, "\n### Underlay `{}`, MTU {}", table.underlay, table.mtu);
        for (mode, why) in &table.left_out {
            let _ = writeln!(text, "\n`{mode}` was skipped: {why}.");
        }
        values(&mut text, table);
        ratios(&mut text, table);
        variants(&mut text, table);
        other_ratios(&mut text, table);
        costs(&mut text, table);
        latencies(&mut text, table);
        threads(&mut text, table);
        notes(&mut text, table);
    }
    targets::render(&mut text, &results.targets);
    let _ = writeln!(text, "\n**Verdict**: {}", verdict(results));
    text
}

/// A summary of the first table with TCP, in one sentence.
pub(super) fn verdict(results: &Results) -> String {
    let judged = results.tables.iter().find(|t| t.row(Measure::Tcp1).is_some());
    let Some(table) = judged.or(results.tables.first()) else {
        return "nothing was measured.".into();
    };
    let mut parts = Vec::new();
    for (measure, what) in [
        (Measure::Tcp1, "carries one TCP stream at"),
        (Measure::Pps18, "small packets at"),
        (Measure::Rr, "and takes, for a round trip,"),
    ] {
        let Some(row) = table.row(measure) else { continue };
        let against: Vec<String> = [("vxlan", "kernel VXLAN"), ("underlay", "the plain underlay")]
            .into_iter()
            .chain([(OFF, "one packet per system call")])
            .filter_map(|(mode, name)| {
                let ratio = row.ratio(OURS, mode, |s| s.value)?;
                Some(format!("{}× {name}", two_digits(ratio.median)))
            })
            .collect();
        if !against.is_empty() {
            parts.push(format!("{what} {}", against.join(", ")));
        }
    }
    if parts.is_empty() {
        return "nothing to compare was measured.".into();
    }
    format!(
        "on this machine, underlay `{}`, MTU {}, flannel-udp {}.",
        table.underlay,
        table.mtu,
        parts.join("; ")
    )
}

fn values(text: &mut String, table: &Table) {
    head(text, "measure", table.modes.iter().map(|m| table.heading(m)));
    for row in &table.rows {
        let cells = table.modes.iter().map(|mode| {
            row.spread(mode, |s| s.value).map_or("failed".into(), |s| spread(s, amount))
        });
        line(text, &format!("{} ({})", label(row.measure, table.mtu), row.unit), cells);
    }
}

fn ratios(text: &mut String, table: &Table) {
    if !table.modes.iter().any(|m| m == OURS) || table.modes.len() < 2 {
        return;
    }
    let others: Vec<&String> = table.modes.iter().filter(|m| *m != OURS).collect();
    let _ = writeln!(text, "\nRatios, paired within each round:");
    head(text, "`flannel-udp` over", others.iter().map(|m| table.heading(m)));
    for row in table.rows.iter().filter(|row| row.measure != Measure::Idle) {
        let value: fn(&BenchSample) -> f64 = |s| s.value;
        let whole: fn(&BenchSample) -> f64 = |s| s.cpu;
        let own: fn(&BenchSample) -> f64 = |s| s.own_cpu;
        let own_unit = format!("{}, own", row.cpu_unit);
        for (pick, name) in [(value, row.unit), (whole, row.cpu_unit), (own, &own_unit)] {
            if name != row.unit && matches!(row.measure, Measure::Rr | Measure::RrLoad) {
                continue;
            }
            let cells = others.iter().map(|other| {
                row.ratio(OURS, other, pick).map_or(NOTHING.into(), |s| spread(s, two_digits))
            });
            line(text, &format!("{} ({name})", row.measure.name()), cells);
        }
    }
}

/// The variants relative to the present program with its defaults.
fn variants(text: &mut String, table: &Table) {
    if table.variants.is_empty() || !table.modes.iter().any(|mode| mode == OURS) {
        return;
    }
    let _ = writeln!(
        text,
        "\nVariants relative to `{OURS}`, paired within each round: median, [lower–upper quartile], \
         number of rounds:"
    );
    head(text, "measure", table.variants.iter().map(|name| format!("`{name}` over `{OURS}`")));
    for row in table.rows.iter().filter(|row| row.measure != Measure::Idle) {
        let cells = table.variants.iter().map(|name| {
            row.ratio(name, OURS, |s| s.value).map_or(NOTHING.into(), |ratio| {
                format!(
                    "**{:.3}** [{:.3}–{:.3}], {}",
                    ratio.median,
                    ratio.lower_quartile,
                    ratio.upper_quartile,
                    row.pairs(name, OURS)
                )
            })
        });
        line(text, &format!("{} ({})", row.measure.name(), row.unit), cells);
    }
}

/// Ratios of pairs of modes without `flannel-udp`.
fn other_ratios(text: &mut String, table: &Table) {
    let stands = |name: &str| table.modes.iter().any(|mode| mode == name);
    let pairs: Vec<(&str, &str)> =
        PAIRS.into_iter().filter(|(mode, other)| stands(mode) && stands(other)).collect();
    if pairs.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nOther pairs:");
    head(text, "measure", pairs.iter().map(|(mode, other)| format!("`{mode}` over `{other}`")));
    for row in table.rows.iter().filter(|row| row.measure != Measure::Idle) {
        let cells = pairs.iter().map(|(mode, other)| {
            row.ratio(mode, other, |s| s.value).map_or(NOTHING.into(), |s| spread(s, two_digits))
        });
        line(text, &format!("{} ({})", row.measure.name(), row.unit), cells);
    }
}

fn costs(text: &mut String, table: &Table) {
    let whole: fn(&BenchSample) -> f64 = |s| s.cpu;
    let own: fn(&BenchSample) -> f64 = |s| s.own_cpu;
    for (title, part) in [
        ("CPU time of the whole machine", whole),
        ("CPU time of generators, sinks and daemons, including their system calls", own),
    ] {
        let _ = writeln!(text, "\n{title}:");
        head(text, "measure", table.modes.iter().map(|m| table.heading(m)));
        for row in &table.rows {
            let cells = table.modes.iter().map(|mode| {
                row.spread(mode, part).map_or(NOTHING.into(), |s| spread(s, two_digits))
            });
            line(text, &format!("{} ({})", row.measure.name(), row.cpu_unit), cells);
        }
    }
}

fn latencies(text: &mut String, table: &Table) {
    let rows: Vec<&MeasureRow> =
        table.rows.iter().filter(|r| matches!(r.measure, Measure::Rr | Measure::RrLoad)).collect();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nRound trips in µs, median of each percentile over the rounds:");
    let names = ["p50", "p90", "p99", "p99.9", "unanswered", "bulk beside"];
    head(text, "measure, mode", names.iter().map(|n| (*n).to_owned()));
    for row in rows {
        for mode in &table.modes {
            let part = |pick: &dyn Fn(&BenchSample) -> Option<f64>| {
                Spread::of(row.good(mode).filter_map(pick))
                    .map_or(NOTHING.into(), |s| amount(s.median))
            };
            let cells = [
                part(&|s| s.times.map(|t| t.p50)),
                part(&|s| s.times.map(|t| t.p90)),
                part(&|s| s.times.map(|t| t.p99)),
                part(&|s| s.times.map(|t| t.p999)),
                part(&|s| s.unanswered.map(|n| n as f64)),
                part(&|s| s.beside),
            ];
            line(text, &format!("{}, `{mode}`", row.measure.name()), cells.into_iter());
        }
    }
}

fn threads(text: &mut String, table: &Table) {
    let mut lines = Vec::new();
    for row in &table.rows {
        for mode in &table.modes {
            let mut names: Vec<&String> = row.good(mode).flat_map(|s| s.threads.keys()).collect();
            names.sort();
            names.dedup();
            let mut cells: Vec<String> = names
                .into_iter()
                .filter_map(|name| {
                    let share =
                        row.spread(mode, |s| s.threads.get(name).copied().unwrap_or(0.0))?;
                    (share.median >= 0.005).then(|| format!("{name} {:.2}", share.median))
                })
                .collect();
            if let Some(calls) = Spread::of(row.good(mode).filter_map(|s| s.calls_per_packet)) {
                cells.push(format!("{} calls/packet", two_digits(calls.median)));
            }
            if !cells.is_empty() {
                lines.push((format!("{}, `{mode}`", row.measure.name()), cells.join(", ")));
            }
        }
    }
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\nCPUs used by the threads of both daemons, by thread name, and the daemons' packet system calls \
         per inner packet (each packet passes two daemons):"
    );
    head(text, "measure, mode", ["threads".to_owned()].into_iter());
    for (name, cell) in lines {
        line(text, &name, [cell].into_iter());
    }
}

fn notes(text: &mut String, table: &Table) {
    let mut notes = Vec::new();
    for row in &table.rows {
        for mode in &table.modes {
            let median = |pick: fn(&BenchSample) -> Option<f64>| {
                Spread::of(row.good(mode).filter_map(pick)).map(|s| s.median)
            };
            let name = format!("{}, `{mode}`", row.measure.name());
            match (median(|s| s.generator), median(|s| s.loss)) {
                (Some(busy), Some(loss)) if busy > SATURATED && loss < FEW => notes.push(format!(
                    "{name}: the generator used {:.0} % of a CPU and {:.1} % of the packets were lost: \
                     the generator is the limit, not the tunnel",
                    busy * 100.0,
                    loss * 100.0
                )),
                (_, Some(loss)) if loss >= FEW => {
                    let overflow = median(|s| s.overflow).unwrap_or(0.0);
                    let mut note =
                        format!("{name}: {:.0} % of the packets sent were lost", loss * 100.0);
                    if overflow >= FEW {
                        let _ = write!(
                            note,
                            ", {:.0} % at the sink's socket: the sink is the limit, not the tunnel",
                            overflow * 100.0
                        );
                    }
                    notes.push(note);
                }
                _ => {}
            }
            let disordered: u64 = row.good(mode).map(|s| s.disordered).sum();
            if disordered > 0 {
                notes.push(format!("{name}: {disordered} packets out of order"));
            }
        }
    }
    if !notes.is_empty() {
        let _ = writeln!(text, "\n- {}", notes.join("\n- "));
    }
}

fn label(measure: Measure, mtu: u32) -> String {
    match measure {
        Measure::PpsFull => format!("{}, {} B", measure.name(), full_size(mtu)),
        _ => measure.name().to_owned(),
    }
}

fn head(text: &mut String, first: &str, names: impl Iterator<Item = String>) {
    let names: Vec<String> = names.collect();
    let _ = writeln!(text, "\n| {first} | {} |", names.join(" | "));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(names.len()));
}

/// Writes a row of a table, unless every cell is empty.
fn line(text: &mut String, first: &str, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.collect();
    if cells.iter().any(|cell| cell != NOTHING) {
        let _ = writeln!(text, "| {first} | {} |", cells.join(" | "));
    }
}

pub(super) fn spread(spread: Spread, show: fn(f64) -> String) -> String {
    format!("**{}** [{}–{}]", show(spread.median), show(spread.min), show(spread.max))
}

/// A number with two to four digits; from 10,000 on in thousands (`k`).
pub(super) fn amount(value: f64) -> String {
    match value.abs() {
        v if v >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub(super) fn two_digits(value: f64) -> String {
    if value.abs() >= 10.0 { format!("{value:.1}") } else { format!("{value:.2}") }
}

const PAIRS: [(&str, &str); 6] = [
    ("vxlan", "underlay"),
    (OFF, BASELINE),
    (HALF, OFF),
    (SPIN0, "vxlan"),
    (SPIN0, OFF),
    (WATCHED, OURS),
];

/// An empty cell.
const NOTHING: &str = "–";

/// Share of a CPU from which on a generator counts as the limit.
const SATURATED: f64 = 0.85;

/// Share of lost packets up to which the tunnel keeps up with its generator.
const FEW: f64 = 0.05;
