//! Finds and runs the firewall programs of the host.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::lock;

/// The directories in which programs are searched, and what those programs turned out not to support.
#[derive(Clone, Debug)]
pub struct Toolbox {
    dirs: Vec<PathBuf>,
    given_up: Arc<Mutex<HashSet<(PathBuf, &'static str)>>>,
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
        Self::only(dirs)
    }

    /// Searches these directories only.
    pub fn only(dirs: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { dirs: dirs.into_iter().collect(), given_up: Arc::default() }
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

impl Toolbox {
    /// Runs a program with an option that its older versions lack: a version that does not know the option is run
    /// without it, now and from then on.
    pub(super) async fn run_with(
        &self,
        program: &Path,
        option: &'static str,
        args: &[&str],
        input: &str,
    ) -> Result<String, ToolError> {
        if self.may_use(program, option) {
            match run(program, &[&[option], args].concat(), input).await {
                Err(error) if error.is_unknown_option(option) => self.give_up(program, option),
                outcome => return outcome,
            }
        }
        run(program, args, input).await
    }

    /// Whether an option or feature has not been given up.
    pub(super) fn may_use(&self, program: &Path, option: &'static str) -> bool {
        let given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        !given_up.contains(&(program.to_owned(), option))
    }

    /// Continues without an option or feature that a program does not support.
    pub(super) fn give_up(&self, program: &Path, option: &'static str) {
        tracing::info!("{} does not support {option}; continuing without it", program.display());
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        given_up.insert((program.to_owned(), option));
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
        status: ExitStatus,
        /// Its standard error output.
        said: String,
        /// Its standard input, empty if it had none.
        input: Input,
    },
    /// The program did not end in time and was stopped.
    #[error("`{command}` did not finish within {} s and was killed", TIME_LIMIT.as_secs())]
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

impl ToolError {
    /// The exit code of a program that failed.
    pub(super) fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Failed { status, .. } => status.code(),
            _ => None,
        }
    }

    /// Whether the program ended because it does not know an option, in the words of getopt(3) and of iptables.
    pub(super) fn is_unknown_option(&self, option: &str) -> bool {
        let Self::Failed { said, .. } = self else { return false };
        let letter = option.trim_start_matches('-');
        let named = [format!("\"{option}\""), format!("`{option}'"), format!("-- '{letter}'")];
        let said_so = |line: &str| {
            let lower = line.to_ascii_lowercase();
            ["unknown option", "invalid option", "unrecognized option", "unknown arg"]
                .iter()
                .any(|words| lower.contains(words))
                && (named.iter().any(|name| line.contains(name))
                    || line.ends_with(&format!("-- {letter}"))
                    || line.ends_with(option))
        };
        said.lines().any(|line| said_so(line.trim()))
    }

    /// The error in one line, without the program's input.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Failed { command, said, status, .. } => {
                format!(
                    "`{command}` failed ({status}): {}",
                    said.lines().next().unwrap_or_default()
                )
            }
            _ => self.to_string(),
        }
    }
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
    tracing::trace!(kind = "firewall", "running {command}");
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
    let output = match patiently(whole, &command).await {
        Some(output) => output.map_err(io_error)?,
        None => return Err(ToolError::Hung { command }),
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

/// Waits for a program up to [`TIME_LIMIT`], and logs that it waits, and for whom.
async fn patiently<T>(work: impl Future<Output = T>, command: &str) -> Option<T> {
    let begun = Instant::now();
    let mut work = std::pin::pin!(work);
    if let Ok(output) = tokio::time::timeout(NOTICE_AFTER, &mut work).await {
        return Some(output);
    }
    match lock::holder() {
        Some(holder) => tracing::warn!(
            "`{command}` is waiting for the xtables lock ({}), which {holder} holds",
            lock::file().display()
        ),
        None => {
            tracing::warn!("`{command}` has not finished yet, perhaps because of the xtables lock")
        }
    }
    let output = tokio::time::timeout(TIME_LIMIT - NOTICE_AFTER, work).await.ok()?;
    tracing::info!("`{command}` finished after {:.1} s", begun.elapsed().as_secs_f64());
    Some(output)
}

/// Time after which a program that has not ended is logged.
const NOTICE_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn an_unknown_option_is_recognised_in_every_version() {
        let failed = |said: &str| ToolError::Failed {
            command: "x".into(),
            status: ExitStatus::from_raw(2 << 8),
            said: said.into(),
            input: Input(String::new()),
        };
        for (said, option, expected) in [
            // iptables-restore 1.4.21 to 1.6.1
            (
                "iptables-restore: invalid option -- 'w'\nUsage: iptables-restore [-b] [-c]",
                "-w",
                true,
            ),
            ("iptables-restore: unrecognized option '-w'", "-w", false),
            ("iptables v1.4.14: unknown option \"-w\"\nTry `iptables -h'", "-w", true),
            ("iptables v1.4.7: Unknown arg `-C'", "-C", true),
            ("iptables: invalid option -- w", "-w", true),
            ("iptables-restore v1.4.21: unknown option \"--random-fully\"\nline 9", "-w", false),
            ("iptables v1.8.9 (legacy): can't initialize iptables table `nat'", "-w", false),
            ("iptables: No chain/target/match by that name.", "-S", false),
        ] {
            assert_eq!(failed(said).is_unknown_option(option), expected, "{said}");
        }
    }
}
