//! What an error of the etcd client means.

use std::error::Error as StdError;
use std::io;

use etcd_client::Error;

use crate::subnet::store::{RegistryError, Trouble};

/// The error in the registry's terms, and whether another endpoint may do better.
pub(super) fn explain(error: &Error, endpoint: &str) -> (RegistryError, bool) {
    if let Error::GRpcStatus(status) = error
        && status.message().contains("required revision has been compacted")
    {
        return (RegistryError::Compacted, false);
    }
    let (trouble, text) = match error {
        Error::GRpcStatus(status) => match by_message(status.message()) {
            Some(trouble) => (trouble, status.message().to_owned()),
            None => by_chain(status, status.message()),
        },
        Error::TransportError(transport) => by_chain(transport, "transport error"),
        Error::IoError(io) => by_chain(io, "input or output"),
        other => (Trouble::Other, other.to_string()),
    };
    let detail = format!("{endpoint}: {text}");
    (RegistryError::unavailable(trouble, detail), true)
}

/// etcd's own words, which it sends with shared status codes.
fn by_message(message: &str) -> Option<Trouble> {
    const AUTHENTICATION: [&str; 8] = [
        "invalid auth token",
        "authentication failed",
        "permission denied",
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
    Some(if is(&AUTHENTICATION) {
        Trouble::Authentication
    } else if is(&NO_LEADER) {
        Trouble::NoLeader
    } else if message.contains("timed out") {
        Trouble::Timeout
    } else {
        Trouble::Other
    })
}

/// Looks for the cause at the bottom of a chain of errors.
fn by_chain(error: &(dyn StdError + 'static), fallback: &str) -> (Trouble, String) {
    let mut trouble = None;
    let mut text = fallback.to_owned();
    let mut next = Some(error);
    while let Some(error) = next {
        let words = error.to_string();
        if let Some(io) = error.downcast_ref::<io::Error>() {
            trouble = Some(match io.kind() {
                io::ErrorKind::ConnectionRefused => Trouble::Refused,
                io::ErrorKind::TimedOut => Trouble::Timeout,
                _ if is_tls(&words) => Trouble::Tls,
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof => Trouble::Closed,
                _ => Trouble::Other,
            });
        } else if trouble.is_none() && is_tls(&words) {
            trouble = Some(Trouble::Tls);
        } else if trouble.is_none() && words.contains("deadline has elapsed") {
            trouble = Some(Trouble::Timeout);
        }
        next = error.source();
        if next.is_none() && !words.is_empty() {
            text = words;
        }
    }
    (trouble.unwrap_or(Trouble::Closed), text)
}

fn is_tls(words: &str) -> bool {
    ["certificate", "alert", "InvalidContentType", "corrupt message", "handshake", "tls"]
        .iter()
        .any(|sign| words.contains(sign))
}
