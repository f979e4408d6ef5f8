//! Finds and runs the firewall programs of the host.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The directories in which programs are searched.
#[derive(Clone, Debug)]
pub struct Toolbox {
    dirs: Vec<PathBuf>,
}

impl Toolbox {
    /// Searches `PATH`, and the system directories that an ordinary user's `PATH` lacks.
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

    /// Searches these directories only.
    pub fn only(dirs: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { dirs: dirs.into_iter().collect() }
    }

    /// The directories, in search order.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Returns the first executable file called `name`.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        self.dirs.iter().map(|dir| dir.join(name)).find(|path| {
            path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
    }
}

/// A program failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The program ended with a status other than 0.
    #[error("`{command}` failed ({status}): {said}{input}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// Its standard error output.
        said: String,
        /// Its standard input, empty if it had none.
        input: Input,
    },
    /// The program did not end in time and was stopped.
    #[error("`{command}` did not end within {} s; it was stopped", TIME_LIMIT.as_secs())]
    Hung {
        /// The command line.
        command: String,
    },
    /// The program could not be run.
    #[error("cannot run `{command}`: {source}")]
    Io {
        /// The command line.
        command: String,
        /// The error of the kernel.
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

/// Time limit for a firewall tool. With `-w` iptables waits for the xtables lock, which other
/// programs hold for seconds on a busy host.
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
                // A program that ends without reading its input explains that on its standard
                // error.
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
