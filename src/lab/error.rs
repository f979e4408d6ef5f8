//! What can go wrong while a lab is built or used.

use std::io;
use std::path::PathBuf;

/// Why the lab could not be built or used, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what each field is")]
pub enum LabError {
    #[error("{program} is missing: install the package {package}")]
    Missing { program: String, package: String },
    #[error("cannot start {program}: {source}")]
    Start { program: String, source: io::Error },
    #[error("`{command}` failed: {said}")]
    Tool { command: String, said: String },
    #[error("network namespace {name}: {source}")]
    Netns { name: String, source: io::Error },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{what} ended early ({status}); its last words:\n{log}")]
    Ended { what: String, status: String, log: String },
    #[error("{what} was not ready after {seconds} s; its last words:\n{log}")]
    NotReady { what: String, seconds: u64, log: String },
    #[error("etcd: {0}")]
    Etcd(String),
    #[error("the lab needs root or an unprivileged user namespace, and has neither:\n{0}")]
    Privilege(String),
    #[error("traffic agent in {place}: {said}")]
    Agent { place: String, said: String },
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
