//! Connections to etcd: one endpoint each; the next endpoint is used after a failure.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions, Error};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::error::explain;
use super::keys::Keys;
use super::options::EtcdOptions;
use super::rotation::EndpointRotation;
use super::{channel, check, tls};
use crate::names::Names;
use crate::subnet::store::{OpenError, StoreError, UnavailableKind};

/// Opens connections, and keeps the one that single calls share.
pub(super) struct Connector {
    pub(super) options: EtcdOptions,
    pub(super) keys: Keys,
    pub(super) rotation: EndpointRotation,
    names: Arc<Names>,
    /// The connection that all single calls share.
    shared: Mutex<Option<EtcdConnection>>,
    /// Whether etcd answered that its authentication is disabled.
    auth_disabled: AtomicBool,
}

/// A connection to one endpoint.
#[derive(Clone)]
pub(super) struct EtcdConnection {
    pub(super) client: Client,
    /// The attempt that opened the connection.
    pub(super) attempt: usize,
    /// Whether any request was ever answered on this connection.
    proven: Arc<AtomicBool>,
}

impl Connector {
    pub(super) fn new(options: EtcdOptions) -> Result<Self, OpenError> {
        let options = check::checked(options)?;
        Ok(Self {
            keys: Keys::new(&options.prefix),
            rotation: EndpointRotation::new(options.endpoints.len()),
            options,
            names: Arc::default(),
            shared: Mutex::new(None),
            auth_disabled: AtomicBool::new(false),
        })
    }

    /// Runs `op` on the shared connection; each endpoint gets one attempt.
    pub(super) async fn call<T, F, R>(&self, op: F) -> Result<T, StoreError>
    where
        F: Fn(Client) -> R,
        R: Future<Output = Result<T, Error>>,
    {
        let mut failures = BTreeMap::new();
        // One attempt more than there are endpoints: the shared connection may be stale.
        for _ in 0..=self.options.endpoints.len() {
            let connection = match self.shared().await {
                Ok(connection) => connection,
                Err((attempt, error)) => {
                    failures.insert(self.rotation.endpoint(attempt), error);
                    continue;
                }
            };
            match self.run(&connection, &op).await {
                Err((error, true)) => {
                    let endpoint = self.endpoint(connection.attempt);
                    debug!(kind = "store", endpoint, %error, "a request failed; connecting again");
                    self.abandon(&connection).await;
                    failures.insert(self.rotation.endpoint(connection.attempt), error);
                }
                Err((error, false)) => return Err(error),
                Ok(value) => return Ok(value),
            }
        }
        Err(StoreError::of_endpoints(failures.into_values().collect()))
    }

    /// Runs `op` on one connection. The flag beside an error says whether another endpoint may
    /// succeed.
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
                // In TLS 1.3 a server rejects a client certificate after the handshake (RFC 8446,
                // section 4.4.2.4), and its alert may be lost with the connection.
                (StoreError::Unavailable { kind: UnavailableKind::Closed, detail }, elsewhere)
                    if tls::is_used(&self.options, endpoint)
                        && !connection.proven.load(Ordering::Relaxed) =>
                {
                    let hint = tls::hint(&self.options);
                    let detail = format!("{detail} before the first answer; {hint}");
                    Err((StoreError::unavailable(UnavailableKind::Tls, detail), elsewhere))
                }
                other => Err(other),
            },
            Err(_) => Err((slow(endpoint, self.options.request_timeout), true)),
        }
    }

    /// Opens a new connection to the attempt's endpoint.
    pub(super) async fn dial(&self, attempt: usize) -> Result<EtcdConnection, StoreError> {
        let endpoint = self.endpoint(attempt);
        // Twice the limit of a connection, because a login is a request of its own.
        let limit = self.options.connect_timeout * 2;
        let outcome = match timeout(limit, self.connect(endpoint)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(slow(endpoint, limit)),
        };
        match outcome {
            Ok(client) => {
                debug!(kind = "store", endpoint, "will send requests to this endpoint");
                Ok(EtcdConnection { client, attempt, proven: Arc::default() })
            }
            Err(error) => {
                self.rotation.mark_failed(attempt);
                debug!(kind = "store", endpoint, %error, "cannot use this endpoint; the next attempt goes to another");
                Err(error)
            }
        }
    }

    pub(super) fn endpoint(&self, attempt: usize) -> &str {
        &self.options.endpoints[self.rotation.endpoint(attempt)]
    }

    /// Checks the files of the credentials, and has the next call open a connection with them. A watch keeps its
    /// own connection until that ends.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub(super) fn reload(&self) -> Result<Vec<PathBuf>, String> {
        let problems = tls::problems(&self.options);
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        let EtcdOptions { ca_file, cert_file, key_file, .. } = &self.options;
        let files: Vec<_> = [ca_file, cert_file, key_file].into_iter().flatten().cloned().collect();
        // A call that holds the lock is opening a connection, for which it reads the files.
        if let Ok(mut shared) = self.shared.try_lock()
            && !files.is_empty()
        {
            *shared = None;
        }
        Ok(files)
    }

    /// The connection that single calls share; beside an error stands the attempt that failed.
    async fn shared(&self) -> Result<EtcdConnection, (usize, StoreError)> {
        let mut shared = self.shared.lock().await;
        if let Some(connection) = shared.as_ref() {
            return Ok(connection.clone());
        }
        let attempt = self.rotation.current();
        let connection = self.dial(attempt).await.map_err(|error| (attempt, error))?;
        Ok(shared.insert(connection).clone())
    }

    /// Drops the shared connection, unless another call has replaced it already.
    async fn abandon(&self, failed: &EtcdConnection) {
        self.rotation.mark_failed(failed.attempt);
        let mut shared = self.shared.lock().await;
        if shared.as_ref().is_some_and(|connection| connection.attempt == failed.attempt) {
            *shared = None;
        }
    }

    async fn connect(&self, endpoint: &str) -> Result<Client, StoreError> {
        let options = ConnectOptions::new().with_require_leader(true);
        let user = self.options.username.as_deref();
        if let Some(user) = user.filter(|_| !self.auth_disabled.load(Ordering::Relaxed)) {
            let password = self.options.password.as_ref().map_or("", |secret| secret.reveal());
            let with_user = options.clone().with_user(user, password).with_auto_token_refresh(true);
            match Client::from_channel(self.channel(endpoint)?, Some(with_user)).await {
                Err(Error::GRpcStatus(status)) if status.message().contains(AUTH_DISABLED) => {
                    warn!(
                        endpoint,
                        user, "etcd has authentication disabled; continuing without a user name"
                    );
                    self.auth_disabled.store(true, Ordering::Relaxed);
                }
                other => return other.map_err(|error| explain(&error, endpoint).0),
            }
        }
        Client::from_channel(self.channel(endpoint)?, Some(options))
            .await
            .map_err(|error| explain(&error, endpoint).0)
    }

    fn channel(&self, endpoint: &str) -> Result<Channel, StoreError> {
        let options = &self.options;
        let config = tls::is_used(options, endpoint).then(|| tls::client_config(options));
        let config = config
            .transpose()
            .map_err(|text| StoreError::unavailable(UnavailableKind::Tls, text))?;
        channel::open(options, endpoint, config, &self.names)
            .map_err(|error| explain(&Error::TransportError(error), endpoint).0)
    }
}

fn slow(endpoint: &str, limit: Duration) -> StoreError {
    let detail = format!("{endpoint}: no answer within {limit:?}");
    StoreError::unavailable(UnavailableKind::Timeout, detail)
}

/// etcd's `ErrAuthNotEnabled` (`api/v3rpc/rpctypes/error.go`).
const AUTH_DISABLED: &str = "authentication is not enabled";
