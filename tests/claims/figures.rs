//! The figures of the benchmark: README, the page and the tables have the same.

use super::text_of;

#[test]
fn the_short_tables_repeat_the_full_one() {
    let short = summary("README.md");
    assert_eq!(short, summary("docs/benchmarks.md"), "README.md and docs/benchmarks.md");
    let full = text_of("docs/benchmarks-full.md");
    let rows: Vec<Vec<&str>> =
        short.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    let mut seen = 0;
    for row in &rows[2..] {
        for (head, cell) in rows[0].iter().zip(row).skip(1) {
            let (section, measure) = source(head);
            let part = full.split(section).nth(1).unwrap_or_else(|| panic!("no {section}"));
            let table: Vec<Vec<&str>> = part
                .lines()
                .skip_while(|line| !line.starts_with('|'))
                .take_while(|line| line.starts_with('|'))
                .map(cells)
                .collect();
            let column = table[0].iter().position(|name| *name == row[0]).expect("the mode");
            let found = table.iter().find(|row| row[0].starts_with(measure)).expect("the measure");
            assert_eq!(found[column], *cell, "{head}, {}", row[0]);
            seen += 1;
        }
    }
    assert!(seen >= 16, "only {seen} figures");
}

/// The text that `bench --summary` writes.
fn summary(path: &str) -> String {
    let text = text_of(path);
    let begun = text.split("<!-- bench-summary:begin -->").nth(1).expect("a mark");
    begun.split("<!-- bench-summary:end -->").next().unwrap_or_default().trim().to_owned()
}

/// Where the full tables have the figures of a column: what stands before the table, and its row.
fn source(head: &str) -> (&'static str, &'static str) {
    match head {
        "1 TCP stream (Gbit/s)" => ("### Underlay", "tcp1 "),
        "its CPU time (s/GB)" => ("CPU time of the whole machine:", "tcp1 "),
        "4 TCP streams (Gbit/s)" => ("### Underlay", "tcp4 "),
        "18-byte UDP (packets/s)" => ("### Underlay", "pps18 "),
        "round trip (µs)" => ("### Underlay", "rr "),
        other => panic!("a column that this test does not know: {other}"),
    }
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}
