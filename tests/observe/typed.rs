//! The documents' commands as they are typed, and the log that the walkthrough promises.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use flannel_udp::humanize;

use crate::support::test_lab::TestLab;
use crate::support::{exclusive, wait_for};

#[test]
fn the_documents_commands_run_as_they_are_typed() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&["--ip-masq=true", "--metrics-addr=0.0.0.0:9285"]);
    let expected = block("docs/walkthrough.md", "INFO confined");
    assert_eq!(pattern(&log_until_ready(&lab)), pattern(&expected), "the walkthrough's log");

    let names = names_of(&lab);
    let programs = programs(&lab);
    let mut typed = BTreeSet::new();
    for document in ["README.md", "docs/walkthrough.md", "docs/observing.md", "docs/operations.md"]
    {
        for command in commands(document) {
            if !runs_here(&command) {
                continue;
            }
            let line =
                names.iter().fold(command.clone(), |line, (from, to)| line.replace(from, to));
            if !typed.insert(line.clone()) {
                continue;
            }
            let output = type_in(&lab, &programs, &line);
            let code = output.status.code();
            // doctor: notes and warnings about the machine that the lab is on.
            let fine =
                if line.contains("doctor") { matches!(code, Some(0..=2)) } else { code == Some(0) };
            assert!(fine, "{document}: {line}: {output:?}");
        }
    }
    assert!(typed.len() >= 10, "{typed:#?}");
    assert!(lab.stop_daemon(0).expect("a daemon").success());
}

/// Runs a line in a shell on the first host, against its daemon and the lab's etcd.
fn type_in(lab: &TestLab, programs: &str, line: &str) -> Output {
    let host = lab.host(0);
    let mut command = Command::new("timeout");
    command
        .args(["60", "sh", "-c", line])
        .env("PATH", programs)
        .env("FLANNELD_SOCKET", host.directory().join("flannel-udp.sock"))
        .env("FLANNELD_SUBNET_FILE", host.daemon().expect("a daemon").subnet_file())
        .current_dir(host.directory())
        .stdin(std::process::Stdio::null());
    host.netns().enter(|| command.output()).and_then(|output| output).expect("sh")
}

/// A `PATH` with the program, and with a `sudo` that only runs what follows.
fn programs(lab: &TestLab) -> String {
    use std::os::unix::fs::PermissionsExt;
    let directory = lab.directory().join("programs");
    std::fs::create_dir_all(&directory).expect("a directory");
    let sudo = directory.join("sudo");
    std::fs::write(&sudo, "#!/bin/sh\nexec \"$@\"\n").expect("a file");
    std::fs::set_permissions(&sudo, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let program = Path::new(env!("CARGO_BIN_EXE_flannel-udp"));
    let own = program.parent().expect("a directory").display();
    format!("{}:{own}:{}", directory.display(), std::env::var("PATH").unwrap_or_default())
}

/// The documents' addresses, and those that the lab has in their place.
fn names_of(lab: &TestLab) -> BTreeMap<String, String> {
    let gateway = |host: usize| {
        lab.host(host).daemon().and_then(|d| d.subnet().ok()).expect("a subnet").gateway
    };
    let container = |host: usize| lab.host(host).container().address().to_string();
    let socket = lab.host(0).directory().join("flannel-udp.sock").display().to_string();
    BTreeMap::from([
        ("10.211.55.10".to_owned(), lab.host(0).address().to_string()),
        ("10.211.55.11".to_owned(), lab.host(1).address().to_string()),
        ("/run/flannel/flannel-udp.sock".to_owned(), socket),
        ("10.0.13.1/".to_owned(), format!("{}/", gateway(0))),
        ("10.0.13.2".to_owned(), container(0)),
        ("10.0.14.5".to_owned(), container(1)),
        ("SRC DST".to_owned(), format!("{} {}", container(0), container(1))),
    ])
}

/// Whether a command ends by itself and changes nothing but the lab.
fn runs_here(command: &str) -> bool {
    let mut words = command.split_whitespace().skip_while(|word| *word == "sudo");
    let asks = ["status", "peers", "routes", "explain", "doctor", "log-level"];
    let is_ours = words.next() == Some("flannel-udp");
    let tool = words.next().unwrap_or_default();
    let lists = tool == "leases" && words.next() == Some("list");
    let has_values = !command.contains(['[', '…', '|']) && !command.contains("--watch");
    is_ours && (asks.contains(&tool) || lists) && has_values && !NEEDS_MORE.contains(&command)
}

/// Names of commands, which need arguments.
const NEEDS_MORE: &[&str] = &["flannel-udp explain", "flannel-udp log-level"];

/// The lines of shell in a document and the commands in backquotes, without comments.
fn commands(document: &str) -> Vec<String> {
    let text = read(document);
    let mut commands = Vec::new();
    for (number, part) in text.split("```").enumerate() {
        match (number % 2, part.strip_prefix("sh\n")) {
            (1, Some(block)) => commands.extend(
                block
                    .replace("\\\n", "")
                    .lines()
                    .map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned()),
            ),
            (0, _) => commands.extend(humanize::commands(part).map(str::to_owned)),
            _ => {}
        }
    }
    commands
}

/// The lines of the fenced block of a document that begins with these words.
fn block(document: &str, begin: &str) -> Vec<String> {
    let text = read(document);
    let at = text.find(&format!("```text\n{begin}")).expect("the block");
    let block = text[at..].split("```").nth(1).expect("its end");
    block.lines().skip(1).map(str::to_owned).collect()
}

fn read(document: &str) -> String {
    std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(document)).expect("text")
}

/// What the daemon of the second host logs up to its readiness, without the time.
fn log_until_ready(lab: &TestLab) -> Vec<String> {
    let is_ready = |line: &str| line.starts_with("INFO ready ");
    let mut lines = Vec::new();
    wait_for("the line of readiness", Duration::from_secs(10), || {
        let log = lab.log(1);
        lines = log
            .lines()
            .filter_map(|line| Some(line.split_once(' ')?.1.trim_start().to_owned()))
            .collect();
        lines.iter().any(|line| is_ready(line))
    });
    let end = lines.iter().position(|line| is_ready(line)).expect("the line");
    lines.truncate(end + 1);
    lines
}

/// The lines with signs in place of what depends on the machine: numbers, features, the choice of the interface.
fn pattern(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .map(|line| {
            let mut line = line.clone();
            for (open, close) in [("without=", "]"), ("selected by --iface=", " "), (" file=", " ")]
            {
                if let Some(at) = line.find(open).map(|at| at + open.len()) {
                    let end = line[at..].find(close).map_or(line.len(), |end| at + end);
                    line.replace_range(at..end, "");
                }
            }
            let mut pattern = String::new();
            for c in line.chars() {
                match c.is_ascii_digit() {
                    true if pattern.ends_with('0') => {}
                    true => pattern.push('0'),
                    false => pattern.push(c),
                }
            }
            pattern
        })
        .collect()
}
