//! Exit codes, drop reasons and metrics, against the program's own lists.

use std::collections::BTreeSet;

use flannel_udp::cli::Code;

use super::{Wrong, documents, text_of};

#[test]
fn the_table_of_exit_codes_is_complete() {
    let expected: BTreeSet<u8> = Code::ALL.iter().map(|code| *code as u8).collect();
    let documents = documents();
    let page = documents.iter().find(|d| d.path.ends_with("compatibility.md")).expect("a page");
    let section = page.text.split("## Exit codes").nth(1).expect("a section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let listed: Vec<u8> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(listed, expected.into_iter().collect::<Vec<_>>());
}

#[test]
fn every_exit_code_in_prose_exists() {
    let known: BTreeSet<u8> = Code::ALL.iter().map(|code| *code as u8).collect();
    let mut wrong = Wrong::default();
    for document in documents() {
        for (line, text) in (1..).zip(document.text.lines()) {
            for (at, words) in text.match_indices("xit code ") {
                let rest = &text[at + words.len()..];
                let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                if let Ok(code) = rest[..digits].parse::<u8>()
                    && !known.contains(&code)
                {
                    wrong.add(&document, line, format_args!("no exit code {code}: {text}"));
                }
            }
        }
    }
    wrong.none();
}

#[test]
fn every_drop_reason_is_documented_and_exists() {
    let source = text_of("src/dataplane/counters/reasons.rs");
    let reasons: BTreeSet<&str> = source
        .lines()
        .filter_map(|line| line.trim().strip_suffix("\",")?.split_once(" = \"").map(|(_, r)| r))
        .collect();
    assert!(reasons.len() > 15, "{reasons:?}");
    let monitoring = text_of("docs/monitoring.md");
    let missing: Vec<_> =
        reasons.iter().filter(|reason| !monitoring.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "docs/monitoring.md lacks {missing:?}");
}

#[test]
fn every_metric_exists() {
    let names = text_of("tests/data/metric-names.txt");
    // A histogram stands there as `name_{bucket,sum,count}`.
    let known: BTreeSet<&str> =
        names.split_whitespace().map(|name| name.split("_{").next().unwrap_or(name)).collect();
    let is_known = |name: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        known.contains(name) || base.is_some_and(|base| known.contains(base))
    };
    let mut texts: Vec<(String, String)> = documents()
        .into_iter()
        .map(|document| (document.path.display().to_string(), document.text))
        .collect();
    for file in ["flannel-udp.rules.yml", "flannel-udp.dashboard.json"] {
        let path = format!("docs/monitoring/{file}");
        texts.push((path.clone(), text_of(&path)));
    }
    let mut unknown = Vec::new();
    for (path, text) in &texts {
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            // A name that a brace continues stands in the table of metrics without its end.
            let name = word.trim_end_matches('_');
            if name.starts_with("flannel_udp_") && !is_known(name) {
                unknown.push(format!("{path}: {name}"));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}
