//! The other end of the status socket: asks a running daemon.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::Value;

use super::protocol::snapshot::Snapshot;
use super::protocol::{Command, VERSION};

/// Asks the daemon at one socket; each question is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

/// There is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error(
        "no daemon answers at {path}: {source}\nIf it is not running, start it (systemctl start \
         flannel-udp). If it runs with another --socket, say the same here; with --socket= it \
         answers nowhere"
    )]
    NoDaemon {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket is not for this user.
    #[error("the status socket {0} answers root and the daemon's own user alone: use sudo")]
    Permission(PathBuf),
    /// The daemon says no, and why.
    #[error("{0}")]
    Refused(String),
    /// What comes is no answer.
    #[error("the daemon's answer cannot be understood: {0}")]
    Garbled(String),
    /// The connection broke, or no answer came in time.
    #[error("the daemon at {path} does not answer: {source}")]
    Broken {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What follows an answer.
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
    /// A client of the daemon at `path`; connects to nothing yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything about the daemon.
    pub fn status(&self) -> Result<Snapshot, ClientError> {
        self.ask(&Command::Status)
    }

    /// One question, one answer.
    pub fn ask<T: DeserializeOwned>(&self, command: &Command) -> Result<T, ClientError> {
        self.open(command).map(|(answer, _)| answer)
    }

    /// One question, its answer, and the stream that follows. Reads of the stream wait for ever.
    pub fn open<T: DeserializeOwned>(&self, command: &Command) -> Result<(T, Stream), ClientError> {
        let mut stream = self.connect()?;
        let broken = |source| ClientError::Broken { path: self.path.clone(), source };
        stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
        // A daemon that has no place for us answers before it reads.
        let written = stream.write_all(command.line().as_bytes());
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.by_ref().take(MAX_ANSWER).read_line(&mut line).map_err(broken)?;
        if line.is_empty() {
            written.map_err(broken)?;
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        reader.get_ref().set_read_timeout(None).map_err(broken)?;
        Ok((understand(&line)?, reader))
    }

    fn connect(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(&self.path).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Permission(self.path.clone()),
            _ => ClientError::NoDaemon { path: self.path.clone(), source },
        })
    }
}

fn understand<T: DeserializeOwned>(line: &str) -> Result<T, ClientError> {
    let garbled = |error: serde_json::Error| ClientError::Garbled(error.to_string());
    let line: Line = serde_json::from_str(line).map_err(garbled)?;
    match line {
        Line { error: Some(error), .. } => Err(ClientError::Refused(error)),
        Line { version, .. } if version != VERSION => {
            Err(ClientError::Garbled(format!("it is of version {version}, not {VERSION}")))
        }
        Line { ok: Some(answer), .. } => serde_json::from_value(answer).map_err(garbled),
        Line { .. } => Err(ClientError::Garbled("it says neither ok nor error".into())),
    }
}

/// Longest wait for an answer: the daemon itself gives up sooner.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest answer: a hundred thousand peers have room.
const MAX_ANSWER: u64 = 64 << 20;
