//! The client of the status socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::Value;
use tokio::sync::oneshot;

use super::protocol::snapshot::Snapshot;
use super::protocol::{Command, VERSION};

/// A client of the daemon at one socket; each command is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon listens at the path.
    #[error(
        "no daemon answers at {path}: {source}\nIf it is not running, start it (`systemctl start \
         flannel-udp`). If it runs with another --socket, use the same here; with --socket= it has no status \
         socket"
    )]
    NoDaemon {
        /// Path of the socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// This user may not connect to the socket.
    #[error("only root and the daemon's own user may use the status socket {0}: use sudo")]
    Permission(PathBuf),
    /// The daemon refused the command, with this sentence.
    #[error("{0}")]
    Refused(String),
    /// The answer does not follow the protocol.
    #[error("cannot understand the daemon's answer: {0}")]
    Garbled(String),
    /// The connection broke, or no answer arrived in time.
    #[error("the daemon at {path} does not answer: {source}")]
    Broken {
        /// Path of the socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The stream after an answer.
pub type Stream = BufReader<UnixStream>;

#[derive(Deserialize)]
struct Line {
    version: u64,
    #[serde(default)]
    ok: Option<Value>,
    #[serde(default)]
    error: Option<String>,
}

impl Client {
    /// A client of the daemon at `path`; it connects when it sends a command.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state of the daemon.
    pub fn status(&self) -> Result<Snapshot, ClientError> {
        self.ask(&Command::Status)
    }

    /// The state of the daemon, or why there is none in one line, within `STATUS_TIMEOUT`.
    pub async fn status_soon(&self) -> Result<Box<Snapshot>, String> {
        let (answer, answered) = oneshot::channel();
        let client = self.clone();
        // The client blocks, so it runs in a thread, which a daemon that hangs cannot keep the command waiting for.
        std::thread::spawn(move || answer.send(client.status().map(Box::new)));
        match tokio::time::timeout(STATUS_TIMEOUT, answered).await {
            Ok(Ok(outcome)) => outcome
                .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned()),
            _ => Err(format!("the daemon at {} does not answer", self.path.display())),
        }
    }

    /// Sends a command and reads its answer.
    pub fn ask<T: DeserializeOwned>(&self, command: &Command) -> Result<T, ClientError> {
        self.open(command).map(|(answer, _)| answer)
    }

    /// Sends a command, reads its answer and returns the stream after it, whose reads have no timeout.
    pub fn open<T: DeserializeOwned>(&self, command: &Command) -> Result<(T, Stream), ClientError> {
        let mut stream = self.connect()?;
        let broken = |source| ClientError::Broken { path: self.path.clone(), source };
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(broken)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(broken)?;
        // A daemon with too many clients answers before it reads.
        let written = stream.write_all(command.line().as_bytes());
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.by_ref().take(MAX_ANSWER).read_line(&mut line).map_err(broken)?;
        if line.is_empty() {
            written.map_err(broken)?;
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        reader.get_ref().set_read_timeout(None).map_err(broken)?;
        Ok((parse_answer(&line)?, reader))
    }

    fn connect(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(&self.path).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Permission(self.path.clone()),
            _ => ClientError::NoDaemon { path: self.path.clone(), source },
        })
    }
}

fn parse_answer<T: DeserializeOwned>(line: &str) -> Result<T, ClientError> {
    let garbled = |error: serde_json::Error| ClientError::Garbled(error.to_string());
    let line: Line = serde_json::from_str(line).map_err(garbled)?;
    match line {
        Line { error: Some(error), .. } => Err(ClientError::Refused(error)),
        Line { version, .. } if version != VERSION => {
            Err(ClientError::Garbled(format!("its version is {version}, not {VERSION}")))
        }
        Line { ok: Some(answer), .. } => serde_json::from_value(answer).map_err(garbled),
        Line { .. } => Err(ClientError::Garbled("it has neither \"ok\" nor \"error\"".into())),
    }
}

/// Longest wait for an answer; the daemon's own timeouts are shorter.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a command waits that can do without the daemon, which normally answers within milliseconds.
const STATUS_TIMEOUT: Duration = Duration::from_millis(1500);
/// Longest answer, in bytes: enough for a hundred thousand peers.
const MAX_ANSWER: u64 = 64 << 20;
