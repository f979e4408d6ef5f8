//! Flags and variables that the documents name, and the table of defaults in README.

use std::collections::BTreeSet;

use clap::Command;
use flannel_udp::cli::clap_command;

use super::{Wrong, documents};

#[test]
fn every_flag_and_variable_exists() {
    let flags = flags_of(&clap_command());
    let mut wrong = Wrong::default();
    let mut seen = 0;
    for document in documents() {
        for (line, span) in &document.spans {
            // A span that begins with another program has that program's flags.
            for word in span.split([' ', ',', ';']).take_while(|word| word.starts_with("--")) {
                let name = word.trim_start_matches('-');
                let end = name.find(|c: char| !(c.is_alphanumeric() || c == '-'));
                let name = &name[..end.unwrap_or(name.len())];
                seen += 1;
                let name = name.trim_end_matches('-');
                let known = flags.contains(name) || FOREIGN.contains(&name);
                let is_pattern = word.contains('*') && flags.iter().any(|f| f.starts_with(name));
                if !name.is_empty() && !known && !is_pattern {
                    wrong.add(&document, *line, format_args!("no such flag: {span}"));
                }
            }
        }
        let mut words = BTreeSet::new();
        for (line, text) in (1..).zip(document.text.lines()) {
            let parts = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            words.extend(parts.filter_map(|word| Some((line, word.strip_prefix("FLANNELD_")?))));
        }
        for (line, variable) in words {
            let name = variable.to_lowercase().replace('_', "-");
            if !variable.is_empty() && !flags.contains(name.as_str()) {
                wrong.add(&document, line, format_args!("no such variable: FLANNELD_{variable}"));
            }
        }
    }
    assert!(seen > 150, "only {seen} flags");
    wrong.none();
}

#[test]
fn the_defaults_in_readme_are_those_of_the_program() {
    let command = clap_command();
    let mut wrong = Wrong::default();
    let documents = documents();
    let readme = &documents[0];
    let mut seen = 0;
    for (line, cells) in readme.rows() {
        let [flag, default, _] = &cells[..] else { continue };
        let Some(name) = flag.strip_prefix("`--") else { continue };
        let name = name.trim_end_matches('`');
        let Some(arg) = command.get_arguments().find(|arg| arg.get_long() == Some(name)) else {
            wrong.add(readme, line, format_args!("no such flag: {flag}"));
            continue;
        };
        seen += 1;
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let values: Vec<_> =
            arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let stated = default.trim_matches('`');
        let agrees = match &values[..] {
            // The default depends on something else, and the help text has it.
            [] => {
                ["none", "the default route's", "the interface's address"].contains(&stated)
                    || help.contains(&format!("[default: {stated}"))
            }
            values => values.join(",") == stated,
        };
        if !agrees {
            wrong.add(readme, line, format_args!("--{name}: {stated}, but {values:?}; {help}"));
        }
    }
    assert!(seen >= 12, "only {seen} rows");
    wrong.none();
}

/// The long flags of a command and of its subcommands.
fn flags_of(command: &Command) -> BTreeSet<String> {
    let mut command = command.clone();
    command.build();
    let mut flags = BTreeSet::new();
    let mut left = vec![&command];
    while let Some(command) = left.pop() {
        for arg in command.get_arguments() {
            flags.extend(arg.get_long().map(str::to_owned));
            flags.extend(arg.get_all_aliases().into_iter().flatten().map(str::to_owned));
        }
        left.extend(command.get_subcommands());
    }
    flags
}

/// Flags of other programs that stand alone in a span.
const FOREIGN: &[&str] = &[
    // Docker's.
    "bip",
    "cap-add",
    "device",
    "device-cgroup-rule",
    "network",
    // iptables'.
    "random-fully",
    // cargo's and rustc's.
    "cfg",
    "features",
    "git",
    "no-default-features",
    // A flag of any name.
    "flag",
];
