//! Errors of building and using a lab.

use std::io;
use std::path::PathBuf;

/// An error of building or using a lab. The message says what to do, where something can be done.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages describe the fields")]
pub enum LabError {
    #[error("{program} is missing: install the package {package}")]
    Missing { program: String, package: String },
    #[error("cannot start {program}: {source}")]
    Start { program: String, source: io::Error },
    #[error("`{command}` failed: {message}")]
    Tool { command: String, message: String },
    #[error("network namespace {name}: {source}")]
    Netns { name: String, source: io::Error },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{what} exited unexpectedly ({status}); the end of its log:\n{log}")]
    Ended { what: String, status: String, log: String },
    #[error("{what} was not ready after {seconds} s; the end of its log:\n{log}")]
    NotReady { what: String, seconds: u64, log: String },
    #[error("etcd: {0}")]
    Etcd(String),
    #[error("the lab needs root or an unprivileged user namespace; neither is available:\n{0}")]
    Privilege(String),
    #[error("traffic agent in {agent}: {message}")]
    Agent { agent: String, message: String },
    #[error("{0}")]
    Unusable(String),
    #[error("interrupted")]
    Interrupted,
}

impl LabError {
    /// An I/O error at `path`.
    pub fn file(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { path: path.into(), source }
    }
}
