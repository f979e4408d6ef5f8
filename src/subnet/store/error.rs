//! Errors of lease stores.

use std::fmt;

/// Why a store did not carry out a request.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The entry exists, or is not at the expected revision.
    #[error("another host or an operator changed the entry at the same time")]
    Conflict,
    /// The store no longer has the history that a watch needs.
    #[error("the history has been compacted")]
    Compacted,
    /// The store cannot be reached, or did not answer as expected.
    #[error("{kind}: {detail}")]
    Unavailable {
        /// The class of the failure.
        kind: UnavailableKind,
        /// The endpoint, and its message.
        detail: String,
    },
}

impl StoreError {
    /// An [`Unavailable`](Self::Unavailable) error.
    pub fn unavailable(kind: UnavailableKind, detail: impl Into<String>) -> Self {
        Self::Unavailable { kind, detail: detail.into() }
    }
}

/// The class of a failure to use the store. Each class has its own remedy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UnavailableKind {
    /// No process listens at the endpoint.
    Refused,
    /// No answer within the time limit.
    Timeout,
    /// The TLS handshake failed: certificates, authorities or names do not match.
    Tls,
    /// The user, the password or a permission was rejected.
    Authentication,
    /// The etcd member runs, but its cluster has no leader.
    NoLeader,
    /// The connection or the watch was closed.
    Closed,
    /// Another failure, of the operating system or of the store.
    Other,
}

impl fmt::Display for UnavailableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::Timeout => "no answer in time",
            Self::Tls => "TLS failed",
            Self::Authentication => "authentication failed",
            Self::NoLeader => "the cluster has no leader",
            Self::Closed => "connection closed",
            Self::Other => "failed",
        })
    }
}

/// Options with which a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub(crate) String);
