//! Daemons with a C file of this folder between them and the C library (`LD_PRELOAD`): `faults.c`,
//! for whom the kernel fails, and `counting.c`, whose memory is counted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use flannel_udp::lab::DaemonOptions;

/// Options of a daemon that meets `faults`, as `faults.c` spells them; files go to `directory`.
pub fn faulty(directory: &Path, faults: &str, flags: &[&str]) -> DaemonOptions {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| compile("faults"));
    through(directory, library, &format!("FAULTS='{faults}'"), flags)
}

/// Options of a daemon whose allocations are counted, and where the counts are; files go to
/// `directory`.
pub fn counted(directory: &Path, flags: &[&str]) -> (DaemonOptions, Counts) {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| compile("counting"));
    let counts = directory.join("counts");
    let options = through(directory, library, &format!("COUNTS='{}'", counts.display()), flags);
    (options, Counts(counts))
}

/// The file that `counting.c` writes.
pub struct Counts(PathBuf);

/// Its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocations {
    /// By packet workers.
    pub asked: u64,
    /// By packet workers.
    pub given_back: u64,
    pub asked_by_others: u64,
}

impl Counts {
    /// The counts at this moment.
    pub fn now(&self) -> Allocations {
        let bytes = fs::read(&self.0).expect("the counts");
        let number =
            |n: usize| u64::from_ne_bytes(bytes[n * 8..n * 8 + 8].try_into().expect("eight bytes"));
        Allocations { asked: number(0), given_back: number(1), asked_by_others: number(2) }
    }
}

/// A script that sets `environment` and the library for the daemon alone.
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
