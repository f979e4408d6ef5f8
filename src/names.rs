//! Addresses of host names.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::net::lookup_host;
use tokio::time::timeout;

/// Looks up names. A lookup cannot be stopped, and takes long if a name server is silent: five
/// seconds for each, by default (`resolv.conf(5)`). So there is one at a time for each name, and
/// its result serves the next attempt if it comes too late for this one.
#[derive(Default)]
pub(crate) struct Names {
    pending: Mutex<HashMap<String, Lookup>>,
}

type Lookup = Shared<BoxFuture<'static, Result<Vec<SocketAddr>, String>>>;

/// A name without an address.
#[derive(Debug)]
pub(crate) struct NameError(String);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NameError {}

impl Names {
    /// The addresses of `host`, within `limit`.
    pub(crate) async fn resolve(
        &self,
        host: &str,
        port: u16,
        limit: Duration,
    ) -> io::Result<Vec<SocketAddr>> {
        let bare = host.trim_matches(['[', ']']);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let lookup = self.lookup(host.to_owned(), port);
        let began = Instant::now();
        tracing::debug!(kind = "name", host, "looking up the name");
        let outcome = timeout(limit, lookup).await;
        tracing::debug!(kind = "name", host, took = ?began.elapsed(), "the name server's answer: {outcome:?}");
        if outcome.is_ok() {
            self.pending().remove(host);
        }
        let why = match outcome {
            Ok(Ok(addresses)) if !addresses.is_empty() => return Ok(addresses),
            Ok(Ok(_)) => format!("the name {host} has no address"),
            Ok(Err(error)) => format!("the name {host}: {error}"),
            Err(_) => format!("no name server has answered yet for {host}"),
        };
        Err(io::Error::other(NameError(why)))
    }

    fn lookup(&self, host: String, port: u16) -> Lookup {
        let start = |host: String| {
            // A task of its own, so that the lookup goes on when the attempt is given up.
            let task = tokio::spawn(async move {
                let addresses =
                    lookup_host((host, port)).await.map_err(|error| error.to_string())?;
                Ok(addresses.collect())
            });
            task.map(|ended| ended.unwrap_or_else(|error| Err(error.to_string()))).boxed().shared()
        };
        self.pending().entry(host.clone()).or_insert_with(|| start(host)).clone()
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<String, Lookup>> {
        self.pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_need_no_lookup_and_bad_names_are_named() {
        let names = Names::default();
        let limit = Duration::from_secs(5);
        for host in ["127.0.0.1", "[::1]"] {
            assert_eq!(names.resolve(host, 2379, limit).await.unwrap()[0].port(), 2379);
        }
        let long = "x".repeat(300);
        let error = names.resolve(&long, 1, limit).await.unwrap_err();
        assert!(error.to_string().contains(&long), "{error}");
        assert!(names.pending().is_empty());
    }

    /// A lookup that came too late serves the next attempt.
    #[tokio::test]
    async fn a_slow_lookup_is_not_started_again() {
        let names = Names::default();
        let (answer, answered) = tokio::sync::oneshot::channel();
        let slow = answered.map(|address| Ok(vec![address.unwrap()])).boxed().shared();
        names.pending().insert("etcd.example".into(), slow);
        let limit = Duration::from_millis(20);
        let error = names.resolve("etcd.example", 1, limit).await.unwrap_err();
        assert!(error.get_ref().unwrap().is::<NameError>(), "{error}");
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        answer.send(address).unwrap();
        assert_eq!(names.resolve("etcd.example", 1, limit).await.unwrap(), [address]);
    }
}
