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

    /// The failure of a request that no endpoint carried out, from the error of each. It is displayed as one line
    /// per endpoint, and its class is that of the most telling error: a refusal, if there is one, and rather a
    /// silent server than a port at which no server listens.
    pub fn of_endpoints(mut errors: Vec<Self>) -> Self {
        errors.sort_by_key(|error| match error.kind() {
            Some(kind) if kind.is_refusal() => 0,
            Some(UnavailableKind::Refused) => 2,
            _ => 1,
        });
        let mut errors = errors.into_iter();
        match errors.next() {
            Some(Self::Unavailable { kind, mut detail }) => {
                for error in errors {
                    detail += &format!("\n{error}");
                }
                Self::unavailable(kind, detail)
            }
            Some(other) => other,
            None => Self::unavailable(UnavailableKind::Other, "not tried"),
        }
    }

    /// The class of an [`Unavailable`](Self::Unavailable) error.
    pub fn kind(&self) -> Option<UnavailableKind> {
        match self {
            Self::Unavailable { kind, .. } => Some(*kind),
            Self::Conflict | Self::Compacted => None,
        }
    }

    /// What to do about it: commands or advice.
    pub fn remedy(&self) -> &'static str {
        self.kind().map_or("try again", UnavailableKind::remedy)
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
    /// The user or the password was rejected.
    Authentication,
    /// The user is known, and may not do this.
    Permission,
    /// The store has no room for a write.
    Full,
    /// No name server has an address for the endpoint, or none answers.
    Name,
    /// The etcd member runs, but its cluster has no leader.
    NoLeader,
    /// The connection or the watch was closed.
    Closed,
    /// Another failure, of the operating system or of the store.
    Other,
}

impl UnavailableKind {
    /// Whether the store answered, and refused.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Authentication | Self::Permission | Self::Full)
    }

    /// What to do about a failure of this class: commands or advice.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Refused => {
                "no process listens there: `systemctl status etcd` on that host; check --etcd-endpoints"
            }
            Self::Timeout => {
                "the host is down, a firewall drops its port, or etcd hangs: on that host, run `systemctl \
                 status etcd` and `etcdctl endpoint health`; for a directory, check its file server: \
                 `findmnt --list`"
            }
            Self::Tls => {
                "check --etcd-cafile, --etcd-certfile, --etcd-keyfile, the scheme (https) and the \
                 dates of the certificates"
            }
            Self::Authentication => {
                "check FLANNELD_ETCD_USERNAME and FLANNELD_ETCD_PASSWORD; on etcd's host \
                 `etcdctl --user=root user list`"
            }
            Self::Permission => {
                "grant the user's role read and write access to everything under the prefix; on etcd's host: \
                 `etcdctl --user=root role list`, `etcdctl role grant-permission --help`; for a directory, \
                 check its owner, mode and mount (rw)"
            }
            Self::Full => {
                "compact and defragment etcd, then clear its alarm, on its host: `etcdctl compact $(etcdctl \
                 endpoint status -w json | grep -o '\"revision\":[0-9]*' | cut -d: -f2)`, `etcdctl defrag`, \
                 `etcdctl alarm disarm`; for a directory, free some space (`df`)"
            }
            Self::Name => {
                "check the name in --etcd-endpoints and /etc/resolv.conf, or give the endpoint's \
                 address"
            }
            Self::NoLeader => {
                "most members are down or cannot reach one another: on a member's host \
                 `etcdctl endpoint status -w table`"
            }
            Self::Closed => {
                "the server closes the connection: check that it is etcd, and that the endpoint's scheme \
                 (http or https) is the one it expects"
            }
            Self::Other => "see etcd's log: `journalctl -u etcd`",
        }
    }
}

impl fmt::Display for UnavailableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::Timeout => "no answer in time",
            Self::Tls => "TLS failed",
            Self::Authentication => "authentication failed",
            Self::Permission => "permission denied",
            Self::Full => "no space left",
            Self::Name => "name resolution failed",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_has_its_line_and_the_most_telling_one_is_first() {
        use UnavailableKind::{Permission, Refused, Timeout};
        let error = |kind, endpoint: &str| StoreError::unavailable(kind, endpoint);
        let both = StoreError::of_endpoints(vec![error(Refused, "a"), error(Timeout, "b")]);
        assert_eq!(both.kind(), Some(Timeout));
        assert_eq!(both.to_string(), "no answer in time: b\nconnection refused: a");
        let refusal = StoreError::of_endpoints(vec![error(Timeout, "a"), error(Permission, "b")]);
        assert_eq!(refusal.kind(), Some(Permission));
        assert_eq!(
            StoreError::of_endpoints(vec![error(Refused, "a")]).to_string().lines().count(),
            1
        );
    }
}
