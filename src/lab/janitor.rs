//! A small process that cleans up a lab if its owner dies without doing so (SIGKILL, abort). It notices by
//! its standard input, whose other end the owner holds.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{LabError, tool};
use crate::sys::netns;
use crate::sys::process::{Signal, signal_pid};

/// The owner's side. Dropping it dismisses the janitor, as the lab has been removed.
#[derive(Debug)]
pub(super) struct Janitor {
    child: Child,
}

impl Janitor {
    /// Starts `binary lab-agent janitor` for every namespace whose name starts with `prefix` and
    /// for the directory `scratch`.
    pub(super) fn start(binary: &Path, prefix: &str, scratch: &Path) -> Result<Self, LabError> {
        let child = Command::new(binary)
            .args(["lab-agent", "janitor", prefix])
            .arg(scratch)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|e| tool::could_not_start(&binary.to_string_lossy(), e))?;
        Ok(Self { child })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        if let Some(mut line) = self.child.stdin.take() {
            let _ = line.write_all(DISMISSED.as_bytes());
        }
        let _ = self.child.wait();
    }
}

/// The janitor's side: returns once the owner has dismissed the janitor or the janitor has cleaned up.
pub(in crate::lab) fn wait_and_clean(prefix: &str, scratch: PathBuf) {
    let mut line = String::new();
    let _ = BufReader::new(std::io::stdin()).read_line(&mut line);
    if line != DISMISSED {
        remove_labs(prefix);
        let _ = std::fs::remove_dir_all(scratch);
    }
}

/// Ends every process in the namespaces whose names start with `prefix`, removes the namespaces,
/// and returns their names.
pub(super) fn remove_labs(prefix: &str) -> Vec<String> {
    let names: Vec<String> =
        names_of_namespaces().filter(|name| name.starts_with(prefix)).collect();
    for (signal, pause) in [(Signal::Terminate, 1000), (Signal::Kill, 50)] {
        let pids: Vec<u32> = names.iter().flat_map(|name| processes_in(name)).collect();
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            let _ = signal_pid(pid, signal);
        }
        thread::sleep(Duration::from_millis(pause));
    }
    for name in &names {
        let _ = tool::run("ip", &["netns", "del", name]);
    }
    names
}

/// Name prefixes of the labs whose owner no longer runs, sorted.
pub(super) fn labs_without_owner() -> Vec<String> {
    let mut prefixes: Vec<String> = names_of_namespaces()
        .filter_map(|name| {
            let (pid, rest) = name.strip_prefix(PREFIX)?.split_once('-')?;
            let (number, _) = rest.split_once('-')?;
            let (pid, number): (u32, u32) = (pid.parse().ok()?, number.parse().ok()?);
            let gone = !Path::new("/proc").join(pid.to_string()).exists();
            gone.then(|| format!("{PREFIX}{pid}-{number}-"))
        })
        .collect();
    prefixes.sort();
    prefixes.dedup();
    prefixes
}

fn names_of_namespaces() -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(netns::path_of("")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

fn processes_in(netns: &str) -> Vec<u32> {
    let listed = tool::run("ip", &["netns", "pids", netns]).unwrap_or_default();
    listed.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// Prefix of the names of all labs' namespaces.
pub(super) const PREFIX: &str = "fu";

/// The line with which the owner dismisses the janitor.
const DISMISSED: &str = "dismissed\n";
