//! Errors of the etcd client, in the terms of the lease store.

use std::error::Error as StdError;
use std::io;

use etcd_client::Error;
use tokio_rustls::rustls;

use crate::names::NameError;
use crate::subnet::store::{StoreError, UnavailableKind};

/// The store's error, and whether another endpoint may succeed.
pub(super) fn explain(error: &Error, endpoint: &str) -> (StoreError, bool) {
    if let Error::GRpcStatus(status) = error
        && status.message().contains("required revision has been compacted")
    {
        return (StoreError::Compacted, false);
    }
    let (kind, text) = match error {
        Error::GRpcStatus(status) => match by_message(status.message()) {
            Some(kind) => (kind, status.message().to_owned()),
            None => by_chain(status, status.message()),
        },
        Error::TransportError(transport) => by_chain(transport, "transport error"),
        Error::IoError(io) => by_chain(io, "I/O error"),
        other => (UnavailableKind::Other, other.to_string()),
    };
    let detail = format!("{endpoint}: {text}");
    (StoreError::unavailable(kind, detail), true)
}

/// The kind of an error by etcd's message, because etcd's errors share gRPC status codes.
fn by_message(message: &str) -> Option<UnavailableKind> {
    const AUTHENTICATION: [&str; 7] = [
        "invalid auth token",
        "authentication failed",
        "user name is empty",
        "user name not found",
        "revision of auth store is old",
        "auth: revision in header is old",
        "password",
    ];
    const NO_LEADER: [&str; 3] = ["no leader", "not leader", "leader changed"];
    let is = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if !message.starts_with("etcdserver") && !message.starts_with("auth") {
        return None;
    }
    Some(if message.contains("permission denied") {
        UnavailableKind::Permission
    } else if message.contains("database space exceeded") {
        UnavailableKind::Full
    } else if is(&AUTHENTICATION) {
        UnavailableKind::Authentication
    } else if is(&NO_LEADER) {
        UnavailableKind::NoLeader
    } else if message.contains("timed out") {
        UnavailableKind::Timeout
    } else {
        UnavailableKind::Other
    })
}

/// The kind of an error by its chain of sources, and the message of the last source.
fn by_chain(error: &(dyn StdError + 'static), fallback: &str) -> (UnavailableKind, String) {
    let mut kind = None;
    let mut text = fallback.to_owned();
    let mut next = Some(error);
    while let Some(error) = next {
        let words = error.to_string();
        if let Some(io) = error.downcast_ref::<io::Error>() {
            kind = Some(match io.kind() {
                io::ErrorKind::ConnectionRefused => UnavailableKind::Refused,
                io::ErrorKind::TimedOut => UnavailableKind::Timeout,
                _ if is_inside::<NameError>(io) => UnavailableKind::Name,
                _ if is_inside::<rustls::Error>(io) || is_tls(&words) => UnavailableKind::Tls,
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof => UnavailableKind::Closed,
                _ => UnavailableKind::Other,
            });
        } else if kind.is_none() && is_tls(&words) {
            kind = Some(UnavailableKind::Tls);
        } else if kind.is_none() && words.contains("deadline has elapsed") {
            kind = Some(UnavailableKind::Timeout);
        }
        next = error.source();
        if next.is_none() && !words.is_empty() {
            // rustls puts these words before an error that it does not know.
            text = words.strip_prefix("unexpected error: ").unwrap_or(&words).to_owned();
        }
    }
    (kind.unwrap_or(UnavailableKind::Closed), text)
}

/// Whether an error of this type became the I/O error.
fn is_inside<E: StdError + 'static>(io: &io::Error) -> bool {
    io.get_ref().is_some_and(|inner| inner.is::<E>())
}

fn is_tls(words: &str) -> bool {
    ["certificate", "alert", "InvalidContentType", "corrupt message", "handshake", "tls"]
        .iter()
        .any(|sign| words.contains(sign))
}
