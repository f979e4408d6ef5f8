//! The language of the status socket: one line of JSON is the request, one line the answer.
//!
//! `{"version":1,"command":"status"}`, with a command's arguments as further fields, is answered by
//! `{"version":1,"ok":…}` or `{"version":1,"error":"a sentence"}`. After the answer to `capture` the
//! connection carries a stream; after any other answer it ends.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use self::capture::CaptureRequest;
use self::explain::Query;
use self::snapshot::Snapshot;

pub mod capture;
pub mod explain;
pub mod snapshot;
mod store_address;

/// Version of the language.
pub const VERSION: u64 = 1;

/// Path of the socket if `--socket` is not given.
pub const DEFAULT_SOCKET: &str = "/run/flannel/flannel-udp.sock";

/// Longest request, in bytes.
pub const MAX_LINE: usize = 64 << 10;

macro_rules! commands {
    ($($(#[$doc:meta])* $variant:ident $(($arguments:ty))? = $name:literal,)*) => {
        /// A command of the status socket, with its arguments.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "command")]
        pub enum Command {
            $($(#[$doc])* #[serde(rename = $name)] $variant $(($arguments))?,)*
        }

        impl Command {
            /// The names of all commands.
            const NAMES: &[&str] = &[$($name,)*];
        }
    };
}

commands! {
    /// A [`Snapshot`].
    Status = "status",
    /// An [`Explanation`](explain::Explanation) of a packet's path.
    Explain(Query) = "explain",
    /// Sets the filter of the log, or asks for it; the answer has the filter before it was set, and the one in
    /// force.
    LogLevel(LogLevel) = "log-level",
    /// Packets, as a pcapng stream after the answer, until either side ends it.
    Capture(Box<CaptureRequest>) = "capture",
}

/// The arguments of `log-level`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLevel {
    /// A level or a filter, as for `--log-level`; `None` asks for the one in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
}

impl Command {
    /// Parses a request.
    ///
    /// # Errors
    /// A sentence for the client: what is wrong with the line.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let request: Value = serde_json::from_slice(line)
            .map_err(|error| format!("the request is not a line of JSON: {error}"))?;
        match request.get("version") {
            Some(version) if *version == json!(VERSION) => {}
            Some(version) => {
                return Err(format!(
                    "version {version} of the status protocol is unknown; this daemon, {}, speaks \
                     version {VERSION}",
                    env!("CARGO_PKG_VERSION")
                ));
            }
            None => {
                return Err(format!("the request has no \"version\"; it must be {VERSION}"));
            }
        }
        let Some(name) = request.get("command").and_then(Value::as_str) else {
            return Err("the request has no \"command\"".into());
        };
        if !Self::NAMES.contains(&name) {
            return Err(format!(
                "command {name:?} is unknown; this daemon, {}, knows {}",
                env!("CARGO_PKG_VERSION"),
                Self::NAMES.join(", ")
            ));
        }
        let name = name.to_owned();
        serde_json::from_value(request).map_err(|error| format!("the arguments of {name}: {error}"))
    }

    /// The request as a line.
    pub fn line(&self) -> String {
        let mut request = serde_json::to_value(self).expect("a command makes JSON");
        request["version"] = VERSION.into();
        format!("{request}\n")
    }
}

/// A command for the control loop to answer.
pub struct Request {
    /// The command.
    pub command: Command,
    /// Where the control loop sends the answer.
    pub answer: oneshot::Sender<Answer>,
}

/// The control loop's answer to a command.
pub enum Answer {
    /// To [`Command::Status`].
    Snapshot(Box<Snapshot>),
    /// To any other command whose answer is one line.
    Value(Value),
    /// To a command whose answer is followed by a stream.
    Stream {
        /// The answer line.
        first: Value,
        /// Sends the stream until its end, or until the client closes the connection.
        send: Box<dyn FnOnce(UnixStream) -> BoxFuture<'static, ()> + Send>,
    },
    /// The command failed; a sentence that says why.
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

    fn log_level(level: &str) -> Command {
        Command::LogLevel(LogLevel { level: Some(level.into()) })
    }

    #[test]
    fn commands_round_trip() {
        for command in [Command::Status, log_level("debug")] {
            let line = command.line();
            assert!(line.ends_with('\n') && line.contains("\"version\":1"), "{line}");
            assert_eq!(Command::parse(line.as_bytes()), Ok(command));
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (line, expected) in [
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
            (r#"{"version":1,"command":"explain"}"#, "missing field"),
            (r#"{"version":1,"command":"log-level","level":3}"#, "arguments of log-level"),
        ] {
            let error = Command::parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
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
