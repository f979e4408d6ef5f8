//! The status socket: where the daemon listens, and where the commands that query it connect.

use std::path::PathBuf;

use clap::Args;

use crate::exit::{Code, Exit};
use crate::observe::client::{Client, ClientError};
use crate::observe::protocol::DEFAULT_SOCKET;

/// The flag of every command that queries the daemon.
#[derive(Clone, Debug, Args)]
pub struct SocketArgs {
    /// Status socket of the daemon
    #[arg(
        long = "socket",
        id = "daemon-socket",
        value_name = "PATH",
        env = "FLANNELD_SOCKET",
        default_value = DEFAULT_SOCKET,
        global = true
    )]
    pub path: PathBuf,
}

impl SocketArgs {
    /// A client of the daemon behind this socket; it connects when it is used.
    pub fn client(&self) -> Client {
        Client::new(&self.path)
    }
}

/// The flags of a command that prints one answer of the daemon.
#[derive(Clone, Debug, Args)]
pub struct QueryArgs {
    /// Which daemon is queried.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl QueryArgs {
    /// A client of the daemon; it connects when it is used.
    pub fn client(&self) -> Client {
        self.socket.client()
    }
}

impl From<ClientError> for Exit {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::NoDaemon { .. } | ClientError::Broken { .. } => Code::Unavailable,
            ClientError::Permission(_) => Code::Permission,
            ClientError::Refused(_) | ClientError::Garbled(_) => Code::BadData,
        };
        Self::new(code, format!("error: {error}"))
    }
}

/// The value of the daemon's own `--socket`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenPath {
    /// The daemon opens no status socket: the value was empty.
    Disabled,
    /// The daemon listens at this path.
    At(PathBuf),
}

impl ListenPath {
    /// Parses the value of `--socket`; every text is valid.
    ///
    /// # Errors
    /// None; clap wants a `Result`.
    pub fn parse(text: &str) -> Result<Self, std::convert::Infallible> {
        Ok(if text.is_empty() { Self::Disabled } else { Self::At(text.into()) })
    }
}
