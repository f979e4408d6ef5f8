//! The programs that set up the lab, run with errors that say what to do.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use super::LabError;

/// Runs `program` to its end and returns its standard output. If it fails, the error contains its
/// standard error.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, LabError> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| could_not_start(program, source))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(LabError::Tool {
        command: format!("{program} {}", arguments.join(" ")),
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Runs `ip` inside the namespace `netns` with the words of `line`.
pub fn ip_in(netns: &str, line: &str) -> Result<String, LabError> {
    let words: Vec<&str> = ["-n", netns].into_iter().chain(line.split_whitespace()).collect();
    run("ip", &words)
}

/// Whether `program` is installed.
pub fn exists(program: &str) -> bool {
    let tried = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    !matches!(tried, Err(e) if e.kind() == ErrorKind::NotFound)
}

/// The error for a program that did not start. It names the package to install.
pub fn could_not_start(program: &str, source: std::io::Error) -> LabError {
    if source.kind() != ErrorKind::NotFound {
        return LabError::Start { program: program.to_owned(), source };
    }
    let package = PACKAGES.iter().find(|(tool, _)| *tool == program).map_or(program, |(_, p)| p);
    LabError::Missing { program: program.to_owned(), package: package.to_owned() }
}

/// Programs and the Debian packages that contain them.
const PACKAGES: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("ethtool", "ethtool"),
    ("etcd", "etcd-server"),
    ("unshare", "util-linux"),
    ("iperf3", "iperf3"),
    ("nsenter", "util-linux"),
    ("wg", "wireguard-tools"),
    ("tincd", "tinc"),
    ("nebula-cert", "nebula"),
];
