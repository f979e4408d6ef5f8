//! Connections to etcd: one endpoint each, rotated when one fails.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::warn;

use super::error::explain;
use super::keys::Keys;
use super::options::EtcdOptions;
use crate::subnet::store::{OpenError, StoreError, UnavailableKind};

/// Makes and keeps connections.
pub(super) struct Connector {
    pub(super) options: EtcdOptions,
    pub(super) keys: Keys,
    /// The connection of all single calls.
    connection: Mutex<Option<EtcdConnection>>,
    /// The endpoint that is tried next; counts up, taken modulo the number of endpoints.
    attempt: AtomicUsize,
    /// Watches that are being begun at this moment.
    beginning: AtomicUsize,
    /// etcd answered that it asks for no user.
    no_user: AtomicBool,
}

/// A connection to one endpoint.
#[derive(Clone)]
pub(super) struct EtcdConnection {
    pub(super) client: Client,
    /// The attempt at which it was made.
    pub(super) attempt: usize,
    /// Whether anything was ever answered over it.
    proven: Arc<AtomicBool>,
}

impl Connector {
    pub(super) fn new(mut options: EtcdOptions) -> Result<Self, OpenError> {
        options.endpoints.retain_mut(|endpoint| {
            *endpoint = endpoint.trim().trim_end_matches('/').to_owned();
            !endpoint.is_empty()
        });
        if options.endpoints.is_empty() {
            return Err(OpenError("no etcd endpoint is given; set --etcd-endpoints".into()));
        }
        for endpoint in &options.endpoints {
            check_endpoint(endpoint)?;
        }
        if options.cert_file.is_some() != options.key_file.is_some() {
            return Err(OpenError(
                "--etcd-certfile and --etcd-keyfile belong together; only one is given".into(),
            ));
        }
        for file in [&options.ca_file, &options.cert_file, &options.key_file].into_iter().flatten()
        {
            read(file).map_err(OpenError)?;
        }
        if options.password.is_some() && options.username.is_none() {
            return Err(OpenError("--etcd-password is given without --etcd-username".into()));
        }
        Ok(Self {
            keys: Keys::new(&options.prefix),
            options,
            connection: Mutex::new(None),
            attempt: AtomicUsize::new(0),
            beginning: AtomicUsize::new(0),
            no_user: AtomicBool::new(false),
        })
    }

    /// Runs `op` on the shared connection; each endpoint gets one try.
    pub(super) async fn call<T, F, R>(&self, op: F) -> Result<T, StoreError>
    where
        F: Fn(Client) -> R,
        R: Future<Output = Result<T, Error>>,
    {
        let mut outcome = Err(StoreError::unavailable(UnavailableKind::Other, "not tried"));
        // One more than there are endpoints: the connection at hand may just have gone stale.
        for _ in 0..=self.options.endpoints.len() {
            let connection = match self.connection().await {
                Ok(connection) => connection,
                Err(error) => {
                    outcome = Err(error);
                    continue;
                }
            };
            match self.run(&connection, &op).await {
                Err((error, true)) => {
                    self.abandon(&connection).await;
                    outcome = Err(error);
                }
                Err((error, false)) => return Err(error),
                Ok(value) => return Ok(value),
            }
        }
        outcome
    }

    /// Runs `op` on one connection; the flag of an error says whether another may do better.
    pub(super) async fn run<T, F, R>(
        &self,
        connection: &EtcdConnection,
        op: F,
    ) -> Result<T, (StoreError, bool)>
    where
        F: FnOnce(Client) -> R,
        R: Future<Output = Result<T, Error>>,
    {
        let endpoint = self.endpoint(connection.attempt);
        match timeout(self.options.request_timeout, op(connection.client.clone())).await {
            Ok(Ok(value)) => {
                connection.proven.store(true, Ordering::Relaxed);
                Ok(value)
            }
            Ok(Err(error)) => match explain(&error, endpoint) {
                // In TLS 1.3 a server refuses a certificate after the handshake, and its reason
                // may be lost with the connection.
                (StoreError::Unavailable { kind: UnavailableKind::Closed, detail }, elsewhere)
                    if self.is_tls(endpoint) && !connection.proven.load(Ordering::Relaxed) =>
                {
                    let detail = format!("{detail} before the first answer; {}", self.hint());
                    Err((StoreError::unavailable(UnavailableKind::Tls, detail), elsewhere))
                }
                other => Err(other),
            },
            Err(_) => Err((self.slow(endpoint, self.options.request_timeout), true)),
        }
    }

    /// The attempts of one more watch that is begun. Attempts that run at the same time begin at
    /// different endpoints.
    pub(super) fn rotation(&self) -> EndpointRotation<'_> {
        let ahead = self.beginning.fetch_add(1, Ordering::Relaxed);
        EndpointRotation {
            first: self.attempt.load(Ordering::Relaxed).wrapping_add(ahead),
            connector: self,
        }
    }

    /// A new connection.
    pub(super) async fn dial(&self, attempt: usize) -> Result<EtcdConnection, StoreError> {
        let endpoint = self.endpoint(attempt);
        // Twice the connection's limit: with a user there is a request in it.
        let limit = self.options.connect_timeout * 2;
        let outcome = match timeout(limit, self.connect(endpoint)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.slow(endpoint, limit)),
        };
        match outcome {
            Ok(client) => Ok(EtcdConnection { client, attempt, proven: Arc::default() }),
            Err(error) => {
                self.mark_failed(attempt);
                Err(error)
            }
        }
    }

    /// Lets the next endpoint have its attempt, if it is still the attempt of this one.
    pub(super) fn mark_failed(&self, attempt: usize) {
        let next = attempt.wrapping_add(1);
        let _ = self.attempt.compare_exchange(attempt, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Remembers that this attempt's endpoint does well.
    pub(super) fn mark_healthy(&self, attempt: usize) {
        self.attempt.fetch_max(attempt, Ordering::Relaxed);
    }

    pub(super) fn endpoint(&self, attempt: usize) -> &str {
        &self.options.endpoints[attempt % self.options.endpoints.len()]
    }

    async fn connection(&self) -> Result<EtcdConnection, StoreError> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = connection.as_ref() {
            return Ok(connection.clone());
        }
        Ok(connection.insert(self.dial(self.attempt.load(Ordering::Relaxed)).await?).clone())
    }

    /// Forgets the shared connection, unless somebody has replaced it already.
    async fn abandon(&self, bad: &EtcdConnection) {
        self.mark_failed(bad.attempt);
        let mut connection = self.connection.lock().await;
        if connection.as_ref().is_some_and(|connection| connection.attempt == bad.attempt) {
            *connection = None;
        }
    }

    async fn connect(&self, endpoint: &str) -> Result<Client, StoreError> {
        let options = self.connect_options(endpoint)?;
        let user =
            self.options.username.as_deref().filter(|_| !self.no_user.load(Ordering::Relaxed));
        if let Some(user) = user {
            let password = self.options.password.as_ref().map_or("", |secret| secret.reveal());
            let with_user = options.clone().with_user(user, password).with_auto_token_refresh(true);
            match Client::connect([endpoint], Some(with_user)).await {
                Err(Error::GRpcStatus(status)) if status.message().contains(AUTH_DISABLED) => {
                    warn!(endpoint, user, "etcd asks for no user; going on without");
                    self.no_user.store(true, Ordering::Relaxed);
                }
                other => return other.map_err(|error| explain(&error, endpoint).0),
            }
        }
        Client::connect([endpoint], Some(options))
            .await
            .map_err(|error| explain(&error, endpoint).0)
    }

    /// Reads the certificates anew each time: they may have been replaced.
    fn connect_options(&self, endpoint: &str) -> Result<ConnectOptions, StoreError> {
        let options = &self.options;
        let connect = ConnectOptions::new()
            .with_connect_timeout(options.connect_timeout)
            .with_keep_alive(options.keep_alive, options.keep_alive / 2)
            .with_keep_alive_while_idle(true)
            .with_tcp_keepalive(options.keep_alive)
            .with_require_leader(true);
        if !self.is_tls(endpoint) {
            return Ok(connect);
        }
        let bad = |text: String| StoreError::unavailable(UnavailableKind::Tls, text);
        let mut tls = TlsOptions::new();
        if let Some(authorities) = self.authorities().map_err(bad)? {
            tls = tls.ca_certificate(Certificate::from_pem(authorities));
        }
        if let (Some(cert), Some(key)) = (&options.cert_file, &options.key_file) {
            let cert = read(cert).map_err(bad)?;
            let key = read(key).map_err(bad)?;
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        Ok(connect.with_tls(tls))
    }

    fn is_tls(&self, endpoint: &str) -> bool {
        let options = &self.options;
        endpoint.starts_with(HTTPS)
            || !endpoint.starts_with(HTTP)
                && (options.ca_file.is_some() || options.cert_file.is_some())
    }

    /// The given authorities, else those of the system.
    fn authorities(&self) -> Result<Option<Vec<u8>>, String> {
        match &self.options.ca_file {
            Some(file) => read(file).map(Some),
            None => Ok(SYSTEM_AUTHORITIES.iter().find_map(|file| std::fs::read(file).ok())),
        }
    }

    /// What may be wrong if a server closes a TLS connection without a word.
    fn hint(&self) -> &'static str {
        match self.options.cert_file {
            Some(_) => "does the server trust the authority of --etcd-certfile?",
            None => "does the server ask for a client certificate (--etcd-certfile)?",
        }
    }

    fn slow(&self, endpoint: &str, limit: Duration) -> StoreError {
        let detail = format!("{endpoint}: nothing within {limit:?}");
        StoreError::unavailable(UnavailableKind::Timeout, detail)
    }
}

/// Which endpoints one attempt to begin a watch tries.
pub(super) struct EndpointRotation<'a> {
    first: usize,
    connector: &'a Connector,
}

impl EndpointRotation<'_> {
    /// One attempt for each endpoint.
    pub(super) fn attempts(&self) -> impl Iterator<Item = usize> + use<> {
        let first = self.first;
        (0..self.connector.options.endpoints.len()).map(move |step| first.wrapping_add(step))
    }
}

impl Drop for EndpointRotation<'_> {
    fn drop(&mut self) {
        self.connector.beginning.fetch_sub(1, Ordering::Relaxed);
    }
}

fn check_endpoint(endpoint: &str) -> Result<(), OpenError> {
    let rest = match endpoint.split_once("://") {
        Some(("http" | "https", rest)) => rest,
        Some((scheme, _)) => {
            return Err(OpenError(format!(
                "etcd endpoint {endpoint}: unknown scheme `{scheme}`; use http or https"
            )));
        }
        None => endpoint,
    };
    let bad = || OpenError(format!("etcd endpoint {endpoint} is not of the form http://host:port"));
    let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
    let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
    let is_host = !host.is_empty() && !host.contains(|c: char| c == '/' || c.is_whitespace());
    if is_port && is_host { Ok(()) } else { Err(bad()) }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("open {}: {error}", file.display()))
}

const HTTP: &str = "http://";
const HTTPS: &str = "https://";
/// etcd's `ErrAuthNotEnabled`.
const AUTH_DISABLED: &str = "authentication is not enabled";
/// Where distributions keep the authorities that everybody trusts.
pub const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for good in ["http://127.0.0.1:2379", "https://etcd.example:2379", "[::1]:2379", "a:1"] {
            assert!(check_endpoint(good).is_ok(), "{good}");
        }
        for bad in ["bogus://x:1", "http://x", "http://x:0", "http://x:99999", "http://:1", "x/y:1"]
        {
            assert!(check_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_that_cannot_work_are_refused() {
        let refused = |change: fn(&mut EtcdOptions)| {
            let mut options = EtcdOptions::default();
            change(&mut options);
            Connector::new(options).map(drop).unwrap_err().to_string()
        };
        assert!(refused(|o| o.endpoints = vec![" ".into()]).contains("--etcd-endpoints"));
        assert!(refused(|o| o.ca_file = Some("/nonexist".into())).starts_with("open /nonexist"));
        assert!(refused(|o| o.key_file = Some("/nonexist".into())).contains("--etcd-certfile"));
    }
}
