//! Programs of the host: found, run, and their words passed on.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Where programs are looked for.
#[derive(Clone, Debug)]
pub struct Toolbox {
    dirs: Vec<PathBuf>,
}

impl Toolbox {
    /// `PATH`, and the system directories that an ordinary user's `PATH` lacks.
    pub fn from_environment() -> Self {
        let mut dirs: Vec<PathBuf> = std::env::var_os("PATH")
            .map(|p| std::env::split_paths(&p).collect())
            .unwrap_or_default();
        for dir in ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from) {
            if !dirs.contains(&dir) {
                dirs.push(dir);
            }
        }
        Self { dirs }
    }

    /// These directories and no others.
    pub fn only(dirs: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { dirs: dirs.into_iter().collect() }
    }

    /// The directories, in the order in which they are looked at.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// The first executable file called `name`.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        self.dirs.iter().map(|dir| dir.join(name)).find(|path| {
            path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
    }
}

/// A program did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It ended with an error.
    #[error("`{command}` failed ({status}): {said}{input}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it printed about that.
        said: String,
        /// What it was given on its standard input, if anything.
        input: Input,
    },
    /// It did not end.
    #[error("`{command}` did not end within {} s; it was stopped", TIME_LIMIT.as_secs())]
    Hung {
        /// The command line.
        command: String,
    },
    /// It could not be run.
    #[error("cannot run `{command}`: {source}")]
    Io {
        /// The command line.
        command: String,
        /// Why.
        source: io::Error,
    },
}

/// Standard input of a failed program, shown below its error.
#[derive(Debug)]
pub struct Input(String);

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "; its input was:")?;
        self.0.lines().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Longest time a firewall tool may take: it waits for the lock of others (`-w`), which a busy host
/// holds for seconds.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Runs a program with `input` on its standard input and returns its standard output.
pub(crate) async fn run(program: &Path, args: &[&str], input: &str) -> Result<String, ToolError> {
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
    let command = std::iter::once(&*name).chain(args.iter().copied()).collect::<Vec<_>>().join(" ");
    let io_error = |source| ToolError::Io { command: command.clone(), source };
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(io_error)?;
    let stdin = child.stdin.take();
    let whole = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // One that ends without reading has its reasons, and says them on stderr.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        tokio::join!(feed, child.wait_with_output()).1
    };
    let output = match tokio::time::timeout(TIME_LIMIT, whole).await {
        Ok(output) => output.map_err(io_error)?,
        Err(_) => return Err(ToolError::Hung { command }),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(ToolError::Failed {
        command,
        status: output.status,
        said: said.trim().to_owned(),
        input: Input(input.trim_end().to_owned()),
    })
}
