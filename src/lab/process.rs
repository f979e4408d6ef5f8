//! A process in a namespace of the lab, with its output in a log file; it is stopped on drop.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{LabError, interrupt, tool};
use crate::sys::netns::Netns;
use crate::sys::process::{Signal, signal};

/// A process of the lab, running or exited.
#[derive(Debug)]
pub struct LabProcess {
    /// Description for error messages.
    what: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
    keep: bool,
}

impl LabProcess {
    /// Starts `command` in `netns`, with its output appended to the file `log`.
    pub fn start(
        netns: &Netns,
        mut command: Command,
        what: impl Into<String>,
        log: PathBuf,
    ) -> Result<Self, LabError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|e| LabError::file(&log, e))?;
        let err = out.try_clone().map_err(|e| LabError::file(&log, e))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let child = netns.spawn(&mut command).map_err(|e| tool::could_not_start(&program, e))?;
        Ok(Self { what: what.into(), child, log, ended: None, keep: false })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file with its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its exit status, if it has exited.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The process has exited.
    pub fn signal(&mut self, wanted: Signal) -> Result<(), LabError> {
        if self.ended().is_some() {
            return Err(self.ended_early());
        }
        signal(&self.child, wanted)
            .map_err(|e| LabError::Unusable(format!("cannot signal {}: {e}", self.what)))
    }

    /// Polls `ready` until it returns true.
    ///
    /// # Errors
    /// The process exits first, or `limit` passes.
    pub fn wait_until(
        &mut self,
        limit: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<(), LabError> {
        let end = Instant::now() + limit;
        loop {
            if ready() {
                return Ok(());
            }
            if self.ended().is_some() {
                return Err(self.ended_early());
            }
            if Instant::now() >= end {
                let (what, log) = (self.what.clone(), self.last_lines());
                return Err(LabError::NotReady { what, seconds: limit.as_secs(), log });
            }
            interrupt::sleep(POLL)?;
        }
    }

    /// Sends SIGTERM, after `timeout` SIGKILL, and returns the exit status.
    pub fn stop(&mut self, timeout: Duration) -> Result<ExitStatus, LabError> {
        if self.ended().is_none() {
            let _ = signal(&self.child, Signal::Continue);
            let _ = signal(&self.child, Signal::Terminate);
        }
        let end = Instant::now() + timeout;
        while self.ended().is_none() && Instant::now() < end {
            thread::sleep(POLL);
        }
        self.kill()
    }

    /// Sends SIGKILL and returns the exit status.
    pub fn kill(&mut self) -> Result<ExitStatus, LabError> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        let failed =
            |e: std::io::Error| LabError::Unusable(format!("cannot end {}: {e}", self.what));
        self.child.kill().map_err(failed)?;
        let status = self.child.wait().map_err(failed)?;
        self.ended = Some(status);
        Ok(status)
    }

    /// The last lines of its output.
    pub fn last_lines(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    /// Lets the process continue when this value is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    fn ended_early(&self) -> LabError {
        let status = self.ended.map_or_else(|| "unknown".into(), |s| s.to_string());
        LabError::Ended { what: self.what.clone(), status, log: self.last_lines() }
    }
}

impl Drop for LabProcess {
    fn drop(&mut self) {
        if !self.keep {
            let _ = self.stop(STOP_TIMEOUT);
        }
    }
}

/// Interval at which a wait checks its condition.
const POLL: Duration = Duration::from_millis(10);

/// Time after which a process that is dropped is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Lines of the log that an error message contains.
const LAST_LINES: usize = 20;
