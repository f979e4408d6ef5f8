//! The results as a plot: bars with whiskers, readable on light and dark pages.

use std::fmt::Write;

use super::measure::Measure;
use super::results::{MeasureRow, Results, Spread, Table};
use super::table::amount;

/// One plot of the first table: a panel for each of the telling measures.
pub(super) fn render(results: &Results) -> Option<String> {
    let table = results.tables.first()?;
    let rows: Vec<&MeasureRow> = PANELS.iter().filter_map(|m| table.row(*m)).collect();
    if rows.is_empty() {
        return None;
    }
    let columns = rows.len().min(COLUMNS);
    let panel = panel_height(table);
    let (width, height) = (
        columns as f64 * PANEL_WIDTH + MARGIN,
        rows.len().div_ceil(columns) as f64 * panel + TITLE + MARGIN,
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         width=\"{width:.0}\" role=\"img\" font-family=\"system-ui, sans-serif\">\n{STYLE}\n"
    );
    let title = format!(
        "Underlay {}, MTU {}: median of {} rounds, whiskers from lowest to highest",
        table.underlay, table.mtu, results.rounds
    );
    let _ = writeln!(svg, "<title>{}</title>", escape(&title));
    // A ground of its own: a page's may differ from what the reader's system prefers.
    svg.push_str("<rect width=\"100%\" height=\"100%\" rx=\"6\" class=\"g\"/>\n");
    let _ = writeln!(svg, "<text x=\"{MARGIN}\" y=\"22\" class=\"t\">{}</text>", escape(&title));
    for (number, row) in rows.iter().enumerate() {
        let x = MARGIN + (number % columns) as f64 * PANEL_WIDTH;
        let y = TITLE + (number / columns) as f64 * panel;
        draw_panel(&mut svg, table, row, x, y);
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn draw_panel(svg: &mut String, table: &Table, row: &MeasureRow, x: f64, y: f64) {
    let direction = match row.measure {
        Measure::Rr | Measure::RrLoad => "less is better",
        _ => "more is better",
    };
    let heading = format!("{} ({}; {direction})", name(row.measure), row.unit);
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{:.1}\" class=\"h\">{}</text>",
        y + 16.0,
        escape(&heading)
    );
    let bars: Vec<(&String, Option<Spread>)> =
        table.modes.iter().map(|mode| (mode, row.spread(mode, |s| s.value))).collect();
    let most = bars.iter().filter_map(|(_, s)| s.map(|s| s.max)).fold(f64::MIN_POSITIVE, f64::max);
    for (number, (mode, spread)) in bars.iter().enumerate() {
        let top = y + HEADING + number as f64 * BAR;
        let middle = top + BAR / 2.0;
        let start = x + NAMES;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" class=\"n\" text-anchor=\"end\">{}</text>",
            start - 6.0,
            middle + 4.0,
            escape(mode)
        );
        let Some(spread) = spread else { continue };
        let at = |value: f64| start + value / most * LENGTH;
        let _ = writeln!(
            svg,
            "<rect x=\"{start:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" class=\"b{}\"/>",
            top + 3.0,
            (at(spread.median) - start).max(1.0),
            BAR - 6.0,
            number % COLOURS
        );
        let (low, high) = (at(spread.min), at(spread.max));
        let _ = writeln!(
            svg,
            "<path d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {:.1}v8M{high:.1} {:.1}v8\" class=\"w\"/>",
            middle - 4.0,
            middle - 4.0
        );
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" class=\"n\">{}</text>",
            high + 6.0,
            middle + 4.0,
            amount(spread.median)
        );
    }
}

fn name(measure: Measure) -> &'static str {
    match measure {
        Measure::Tcp1 => "TCP, 1 stream",
        Measure::Tcp4 => "TCP, 4 streams",
        Measure::Pps18 => "UDP, 18 B",
        Measure::PpsFull => "UDP, full size",
        Measure::Rr => "Round trip",
        Measure::RrLoad => "Round trip under load",
        other => other.name(),
    }
}

fn panel_height(table: &Table) -> f64 {
    HEADING + table.modes.len() as f64 * BAR + 16.0
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const PANELS: [Measure; 6] =
    [Measure::Tcp1, Measure::Tcp4, Measure::Pps18, Measure::PpsFull, Measure::Rr, Measure::RrLoad];

const COLUMNS: usize = 2;
const PANEL_WIDTH: f64 = 420.0;
const TITLE: f64 = 38.0;
const MARGIN: f64 = 16.0;
const HEADING: f64 = 26.0;
const BAR: f64 = 24.0;
/// Room for the modes' names, left of the bars.
const NAMES: f64 = 100.0;
/// Length of the longest whisker.
const LENGTH: f64 = 250.0;
const COLOURS: usize = 6;

/// Colours that tell apart on white and on near-black, also for most colour-blind eyes.
const STYLE: &str = "<style>\
.g{fill:#ffffff}text{fill:#24292f;font-size:12px}.t{font-size:14px;font-weight:600}.h{font-weight:600}\
.w{stroke:#24292f;stroke-width:1.3;fill:none}\
.b0{fill:#8c959f}.b1{fill:#d08a1d}.b2{fill:#1f77d0}.b3{fill:#b5486b}.b4{fill:#2f9e75}.b5{fill:#8662c7}\
@media(prefers-color-scheme:dark){.g{fill:#0d1117}text{fill:#e6edf3}.w{stroke:#e6edf3}}\
</style>";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::UnderlayKind;
    use crate::lab::bench::machine::Machine;
    use crate::lab::bench::sample::BenchSample;

    #[test]
    fn bars_never_leave_their_panel() {
        let mut row = MeasureRow::new(Measure::Tcp1);
        for (mode, values) in [("a<b", [1.0, 5.0, 9.0]), ("c", [0.0, 0.1, 0.2])] {
            let samples = values.map(|value| Some(BenchSample { value, ..BenchSample::default() }));
            row.samples.insert(mode.into(), samples.to_vec());
        }
        let table = Table {
            underlay: UnderlayKind::Nic,
            mtu: 1500,
            modes: vec!["a<b".into(), "c".into(), "absent".into()],
            variants: Vec::new(),
            encrypted: vec![],
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
        let results = Results {
            version: 1,
            machine,
            rounds: 3,
            seconds: 1.0,
            tables: vec![table],
            targets: vec![],
        };
        let svg = render(&results).unwrap();
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
        assert!(svg.contains("H366.0"), "the longest whisker ends at 16 + 100 + 250: {svg}");
        assert_eq!(svg.matches("class=\"b").count(), 2);
    }
}
