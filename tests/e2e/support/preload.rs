//! Daemons that run with a shared library of this folder preloaded (`LD_PRELOAD`): `faults.c` makes
//! system calls fail, `counting.c` counts allocations.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use flannel_udp::lab::DaemonOptions;

/// Options of a daemon whose system calls fail as `faults` says (syntax: `faults.c`). The start
/// script is written to `directory`.
pub fn with_faults(directory: &Path, faults: &str, flags: &[&str]) -> DaemonOptions {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| compile("faults"));
    through(directory, library, &format!("FAULTS='{faults}'"), flags)
}

/// Options of a daemon whose allocations are counted, and the file that holds the counts. The start
/// script and that file are written to `directory`.
pub fn with_allocation_counts(directory: &Path, flags: &[&str]) -> (DaemonOptions, Counts) {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| compile("counting"));
    let counts = directory.join("counts");
    let options = through(directory, library, &format!("COUNTS='{}'", counts.display()), flags);
    (options, Counts(counts))
}

/// The file that `counting.c` writes.
pub struct Counts(PathBuf);

/// Calls to the allocator since the daemon's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocations {
    /// Allocations by packet workers.
    pub by_workers: u64,
    /// Deallocations by packet workers.
    pub freed_by_workers: u64,
    /// Allocations by all other threads.
    pub by_others: u64,
}

impl Counts {
    /// The counts now.
    pub fn now(&self) -> Allocations {
        let bytes = fs::read(&self.0).expect("the counts");
        let number =
            |n: usize| u64::from_ne_bytes(bytes[n * 8..n * 8 + 8].try_into().expect("eight bytes"));
        Allocations { by_workers: number(0), freed_by_workers: number(1), by_others: number(2) }
    }
}

/// Options that start the daemon through a script, which sets `environment` and preloads `library`.
fn through(directory: &Path, library: &Path, environment: &str, flags: &[&str]) -> DaemonOptions {
    let script = directory.join("preloaded");
    let text = format!(
        "#!/bin/sh\n{environment} LD_PRELOAD='{}' exec '{}' \"$@\"\n",
        library.display(),
        env!("CARGO_BIN_EXE_flannel-udp"),
    );
    fs::write(&script, text).expect("the script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its mode");
    DaemonOptions { binary: Some(script), ..DaemonOptions::with_flags(flags) }
}

/// Compiles `NAME.c` of this folder to a shared library.
fn compile(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/support");
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.so"));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-fno-builtin", "-o"]);
    compiler.arg(&library).arg(folder.join(format!("{name}.c"))).arg("-ldl");
    let output = compiler.output().expect("cc (package gcc)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}
