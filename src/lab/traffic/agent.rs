//! The owner's side of an agent.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::command::{MARK, REPORT, STOP};
use crate::lab::{LabError, interrupt, tool};
use crate::sys::netns::Netns;

/// A generator or sink in a namespace. Dropping this value ends its process.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    answers: Receiver<String>,
    /// Namespace and command line, for error messages.
    description: String,
}

impl Agent {
    /// Starts `binary lab-agent WORDS` in `netns` and waits until it is ready.
    pub fn start(binary: &Path, netns: &Netns, words: &str) -> Result<Self, LabError> {
        let mut command = Command::new(binary);
        command
            .arg("lab-agent")
            .args(words.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = netns
            .spawn(&mut command)
            .map_err(|e| tool::could_not_start(&binary.to_string_lossy(), e))?;
        let (send, answers) = mpsc::channel();
        if let Some(out) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if send.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let description = format!("{} ({words})", netns.name().unwrap_or("nowhere"));
        let mut agent = Self { child, answers, description };
        agent.answer()?;
        Ok(agent)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks for the counters.
    pub fn report<R: DeserializeOwned>(&mut self) -> Result<R, LabError> {
        self.ask(REPORT)
    }

    /// Makes an echo client clear its results.
    pub fn mark<R: DeserializeOwned>(&mut self) -> Result<R, LabError> {
        self.ask(MARK)
    }

    /// Makes a source stop sending, and returns its counters.
    pub fn stop<R: DeserializeOwned>(&mut self) -> Result<R, LabError> {
        self.ask(STOP)
    }

    fn ask<R: DeserializeOwned>(&mut self, question: &str) -> Result<R, LabError> {
        let written = match &mut self.child.stdin {
            Some(line) => writeln!(line, "{question}"),
            None => Ok(()),
        };
        written.map_err(|e| self.failed(&e.to_string()))?;
        let answer = self.answer()?;
        serde_json::from_str(&answer).map_err(|e| self.failed(&format!("{answer}: {e}")))
    }

    fn answer(&mut self) -> Result<String, LabError> {
        let end = Instant::now() + ANSWER_TIMEOUT;
        loop {
            match self.answers.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Disconnected) => {
                    let mut errors = String::new();
                    if let Some(err) = &mut self.child.stderr {
                        let _ = err.read_to_string(&mut errors);
                    }
                    return Err(self.failed(&format!("ended: {}", errors.trim())));
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() >= end => {
                    return Err(self.failed("does not answer"));
                }
                Err(RecvTimeoutError::Timeout) => interrupt::check()?,
            }
        }
    }

    fn failed(&self, message: &str) -> LabError {
        LabError::Agent { agent: self.description.clone(), message: message.to_owned() }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
