//! Commands in the documents: the program's own parser accepts each of them.

use std::ffi::OsString;

use flannel_udp::cli::{Code, parse_from};

use super::markdown::Document;
use super::{Wrong, documents, text_of};

#[test]
fn the_parser_accepts_every_command() {
    let mut wrong = Wrong::default();
    let mut seen = 0;
    for document in documents() {
        for (line, command) in commands_of(&document) {
            seen += 1;
            let words = std::iter::once("flannel-udp").chain(command.iter().map(String::as_str));
            if let Err(exit) = parse_from(words.map(OsString::from), |_| None)
                && exit.code != Code::Ok
            {
                wrong.add(&document, line, format_args!("{}\n{}", command.join(" "), exit.message));
            }
        }
    }
    assert!(seen > 100, "only {seen} commands");
    wrong.none();
}

#[test]
fn the_makefile_has_every_target_that_is_named() {
    let makefile = text_of("Makefile");
    let has = |target: &str| makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
    let mut wrong = Wrong::default();
    for document in documents() {
        for (line, text) in code_of(&document) {
            let words: Vec<&str> = text.split_whitespace().collect();
            for pair in words.windows(2) {
                let is_target = pair[1].starts_with(|c: char| c.is_ascii_lowercase());
                let target = pair[1].trim_end_matches(['`', ';', ',', '.']);
                if pair[0] == "make" && is_target && !target.contains('=') && !has(target) {
                    wrong.add(&document, line, format_args!("no such target: {text}"));
                }
            }
        }
    }
    wrong.none();
}

/// Code spans, and the lines of blocks that a shell reads, each without a comment.
fn code_of(document: &Document) -> Vec<(usize, String)> {
    let mut code = document.spans.clone();
    for block in document.blocks.iter().filter(|block| block.language == "sh") {
        let mut open = String::new();
        for (number, line) in (block.line..).zip(&block.lines) {
            if let Some(start) = line.strip_suffix('\\') {
                open += start;
                continue;
            }
            open += line;
            let whole = std::mem::take(&mut open);
            code.push((number, whole.split(" #").next().unwrap_or_default().to_owned()));
        }
    }
    code
}

/// The arguments of every call of the program.
fn commands_of(document: &Document) -> Vec<(usize, Vec<String>)> {
    let mut commands: Vec<(usize, Vec<String>)> = Vec::new();
    for (line, code) in code_of(document) {
        for call in calls(&code) {
            let is_variable = |word: &String| word.contains('=') && !word.starts_with('-');
            let mut words =
                call.into_iter().skip_while(|word| word == "sudo" || is_variable(word)).peekable();
            let program = words.next().unwrap_or_default();
            // An output such as `flannel-udp port` names a rule, not a command.
            let is_ours = program == "flannel-udp" || program.ends_with("/flannel-udp");
            if is_ours && words.peek().is_some() && !NOT_COMMANDS.contains(&code.as_str()) {
                let mut words: Vec<String> = words.map(|word| filled(&word)).collect();
                // A mere name, such as `leases release`, is not to be typed without what follows it.
                let is_name = |word: &String| {
                    let mut letters = word.chars();
                    !word.starts_with('-') && letters.all(|c| c.is_ascii_lowercase() || c == '-')
                };
                if words[0] != "help" && words.iter().all(is_name) {
                    words.push("--help".to_owned());
                }
                commands.push((line, words));
            }
        }
    }
    for (_, words) in &mut commands {
        // The signs of a synopsis: what is optional is given once.
        for word in words.iter_mut() {
            *word = word.replace(['[', ']', '…'], "");
        }
        words.retain(|word| !word.is_empty());
    }
    commands
}

/// The calls in a line of shell, each as its words, without quotes.
fn calls(code: &str) -> Vec<Vec<String>> {
    let mut calls = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut skips_target = false;
    for c in code.chars().chain([' ']) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ' | '|' | ';' | '&' | '>') => {
                let ended = word.take();
                if !(ended.is_some() && std::mem::take(&mut skips_target)) {
                    calls.last_mut().expect("a call").extend(ended);
                }
                match c {
                    ' ' => {}
                    '>' => skips_target = true,
                    _ => calls.push(Vec::new()),
                }
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    calls
}

/// A word with values in place of what stands for them.
fn filled(word: &str) -> String {
    let mut word = word.to_owned();
    for (name, value) in PLACEHOLDERS {
        let bare = word.trim_matches(['[', ']', '…']);
        if bare == *name || bare.ends_with(&format!("={name}")) {
            word = word.replace(name, value);
        }
    }
    word
}

const PLACEHOLDERS: &[(&str, &str)] = &[
    ("ADDRESS", "10.0.1.2"),
    ("DIR", "/leases"),
    ("DST", "10.0.2.2"),
    ("FILE", "/tmp/file"),
    ("HOST", "10.211.55.11"),
    ("HOST:PORT", "10.211.55.11:9285"),
    ("LEVEL", "debug"),
    ("MS", "500"),
    ("N", "3"),
    ("PATH", "/run/socket"),
    ("PEER", "10.211.55.11"),
    ("PORT", "80"),
    ("PROTO", "tcp"),
    ("SECONDS", "3"),
    ("SRC", "10.0.1.2"),
    ("SUBNET", "10.0.1.0/24"),
];

/// Spans that begin with the program's name and are no command.
const NOT_COMMANDS: &[&str] = &["flannel-udp port"];

#[test]
fn a_line_of_shell_is_read_as_a_shell_reads_it() {
    let read = calls("sudo a -w - --x='1 2' | b && c > /dev/null; d \"e f\"");
    let expected: [&[&str]; 5] =
        [&["sudo", "a", "-w", "-", "--x=1 2"], &["b"], &[], &["c"], &["d", "e f"]];
    assert_eq!(read, expected);
}
