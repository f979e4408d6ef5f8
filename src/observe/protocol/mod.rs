//! The language of the status socket: one line of JSON asks, one line answers.
//!
//! `{"version":1,"command":"status"}`, with a command's arguments as further fields, is answered by
//! `{"version":1,"ok":…}` or `{"version":1,"error":"a sentence"}`. What follows an answer line is up
//! to the command: nothing for most.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use self::explain::Query;
use self::snapshot::Snapshot;

pub mod capture;
pub mod explain;
pub mod snapshot;

/// Version of the language.
pub const VERSION: u64 = 1;

/// Where the socket is unless `--socket` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/flannel/flannel-udp.sock";

/// Longest line that asks, in bytes.
pub const MAX_LINE: usize = 64 << 10;

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// A [`Snapshot`].
    Status,
    /// An [`Explanation`](explain::Explanation) of a packet's way.
    Explain(Query),
    /// Packets, as a pcapng stream behind the answer until either side ends it.
    Capture(Box<capture::Request>),
    /// Another filter for the log; answered by the one before.
    LogLevel {
        /// A level or a filter, as for `--log-level`.
        level: String,
    },
}

impl Command {
    /// The names of all commands, for the answer to an unknown one.
    const NAMES: [&str; 4] = ["status", "explain", "log-level", "capture"];

    /// Reads a line; the error is a sentence for the one who sent it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let request: Value = serde_json::from_slice(line)
            .map_err(|error| format!("the request is not a line of JSON: {error}"))?;
        match request.get("version") {
            Some(version) if *version == json!(VERSION) => {}
            Some(version) => {
                return Err(format!(
                    "version {version} of the status protocol is not known here; this daemon, \
                     {}, speaks version {VERSION}",
                    env!("CARGO_PKG_VERSION")
                ));
            }
            None => {
                return Err(format!("the request has no \"version\"; {VERSION} is spoken here"));
            }
        }
        let Some(name) = request.get("command").and_then(Value::as_str) else {
            return Err("the request has no \"command\"".into());
        };
        if !Self::NAMES.contains(&name) {
            return Err(format!(
                "command {name:?} is not known here; this daemon, {}, knows {}",
                env!("CARGO_PKG_VERSION"),
                Self::NAMES.join(", ")
            ));
        }
        let name = name.to_owned();
        serde_json::from_value(request).map_err(|error| format!("the arguments of {name}: {error}"))
    }

    /// The line that asks for it.
    pub fn line(&self) -> String {
        let mut request = serde_json::to_value(self).expect("a command makes JSON");
        request["version"] = VERSION.into();
        format!("{request}\n")
    }
}

/// A command on its way to the control loop.
pub struct Request {
    /// What is asked for.
    pub command: Command,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// What the control loop says.
pub enum Answer {
    /// To [`Command::Status`].
    Snapshot(Box<Snapshot>),
    /// To a command whose answer is small.
    Value(Value),
    /// To a command whose answer is followed by a stream.
    Stream {
        /// What is said first.
        first: Value,
        /// Carries the rest, until it is done or the other side is gone.
        carry: Box<dyn FnOnce(UnixStream) -> BoxFuture<'static, ()> + Send>,
    },
    /// It cannot be done; a sentence that says why.
    Error(String),
}

impl Answer {
    /// The line for the client.
    pub fn line(&self) -> Bytes {
        match self {
            Self::Snapshot(snapshot) => line("ok", snapshot),
            Self::Value(value) | Self::Stream { first: value, .. } => line("ok", value),
            Self::Error(error) => line("error", error),
        }
    }
}

/// A line with the version and one more field.
fn line(name: &str, value: &impl Serialize) -> Bytes {
    let mut line = BytesMut::new().writer();
    write!(line, "{{\"version\":{VERSION},\"{name}\":").expect("a buffer grows");
    serde_json::to_writer(&mut line, value).expect("numbers and strings make JSON");
    line.write_all(b"}\n").expect("a buffer grows");
    line.into_inner().freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_round_trip() {
        for command in [Command::Status, Command::LogLevel { level: "debug".into() }] {
            let line = command.line();
            assert!(line.ends_with('\n') && line.contains("\"version\":1"), "{line}");
            assert_eq!(Command::parse(line.as_bytes()), Ok(command));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, said) in [
            ("", "not a line of JSON"),
            ("GET / HTTP/1.1", "not a line of JSON"),
            ("[]", "no \"version\""),
            ("3", "no \"version\""),
            (r#"{"command":"status"}"#, "no \"version\""),
            (r#"{"version":2,"command":"status"}"#, "version 2 of the status protocol"),
            (r#"{"version":"1","command":"status"}"#, "version \"1\" of"),
            (r#"{"version":1}"#, "no \"command\""),
            (r#"{"version":1,"command":7}"#, "no \"command\""),
            (r#"{"version":1,"command":"reboot"}"#, "knows status, explain, log-level"),
            (r#"{"version":1,"command":"log-level"}"#, "missing field `level`"),
            (r#"{"version":1,"command":"log-level","level":3}"#, "arguments of log-level"),
        ] {
            let error = Command::parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
    }

    #[test]
    fn every_name_is_a_command() {
        for name in Command::NAMES {
            let line = json!({ "version": 1, "command": name }).to_string();
            let error = Command::parse(line.as_bytes()).err().unwrap_or_default();
            assert!(!error.contains("unknown variant"), "{error}");
        }
    }
}
