//! The control thread's side of the status socket: answers each request.

use std::time::{Instant, SystemTime};

use serde_json::json;
use tokio::sync::mpsc;

use super::explain::explain;
use super::liveness::Liveness;
use super::logging::Log;
use super::node::Node;
use super::signals::{DaemonSignal, Signals};
use crate::args::ListenPath;
use crate::confine::Confinement;
use crate::daemon::Options;
use crate::exit::{Code, Exit};
use crate::observe::health::{Health, Heartbeat};
use crate::observe::protocol::snapshot::{self, Snapshot, StoreAddress};
use crate::observe::protocol::{Answer, Command, DEFAULT_SOCKET, LogLevel, Request};
use crate::observe::server::{SocketError, StatusSocket};
use crate::subnet::{Instance, LeaseStore, Refusal, SubnetStatus};

/// Answers the requests of the status socket and of the metrics port.
pub(super) struct StatusServer {
    requests: mpsc::Receiver<Request>,
    /// Keeps the channel open while no socket and no metrics port has a sender.
    _sender: mpsc::Sender<Request>,
    log: Log,
    confinement: Confinement,
    health: Health,
    instance: Instance,
    store: StoreAddress,
    refusal: Refusal,
    started: SystemTime,
    started_at: Instant,
}

/// The state that requests are answered from once the daemon is set up.
pub(super) struct DaemonState<'a> {
    pub(super) node: &'a Node<'a>,
    pub(super) status: SubnetStatus,
    /// A description of the lease store, such as its endpoints.
    pub(super) store: &'a str,
}

impl StatusServer {
    /// Opens the configured ports for health checks and metrics, and the status socket.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if a port or a requested socket cannot be opened.
    pub(super) fn start(
        options: &Options,
        log: Log,
        confinement: Confinement,
        refusal: Refusal,
    ) -> Result<(Self, Liveness), Exit> {
        let (sender, requests) = mpsc::channel(MAX_PENDING_REQUESTS);
        let liveness = Liveness::start(options, &sender)?;
        if let Some(socket) = socket(options)? {
            tokio::spawn(socket.serve(sender.clone()));
        }
        let server = Self {
            requests,
            _sender: sender,
            log,
            confinement,
            health: liveness.health(),
            instance: Instance::current(),
            store: StoreAddress::from(&options.store.options()),
            refusal,
            started: SystemTime::now(),
            started_at: Instant::now(),
        };
        Ok((server, liveness))
    }

    /// Reads again what can be read again while the daemon runs, and logs what cannot.
    /// `store` is `None` until the daemon is set up.
    pub(super) fn reload(&self, store: Option<&dyn LeaseStore>) {
        self.log.reset();
        let files = match store.map(LeaseStore::reload) {
            Some(Ok(files)) if files.is_empty() => "no certificate files are in use".to_owned(),
            Some(Ok(files)) => {
                let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
                format!("reread, and used from the next request to etcd on: {}", names.join(", "))
            }
            Some(Err(why)) => {
                tracing::warn!(
                    "SIGHUP: cannot use the current certificate and key files: {why}. Open connections to \
                     etcd are kept; a new connection needs these files"
                );
                "the certificates are unchanged".to_owned()
            }
            None => "certificate files are read for each connection to etcd".to_owned(),
        };
        tracing::info!(
            log_level = %self.log.filter(),
            "SIGHUP: the log level is reset to its value at startup; {files}. Not reread: other flags, the \
             environment and the network config; changes to them take effect at a restart"
        );
    }

    /// Waits for the next request.
    pub(super) async fn request(&mut self) -> Request {
        self.requests.recv().await.expect("the server holds a sender, so the channel is open")
    }

    /// Answers requests and signals while the daemon is being set up; returns at a signal to stop.
    pub(super) async fn answer_during_start(&mut self, signals: &mut Signals) {
        loop {
            tokio::select! {
                request = self.request() => self.answer(request, None).await,
                signal = signals.next() => match signal {
                    DaemonSignal::Stop => return,
                    DaemonSignal::Reload => self.reload(None),
                    DaemonSignal::WriteStats => tracing::info!("SIGUSR1: there are no statistics yet"),
                },
            }
        }
    }

    /// Answers one request; `state` is `None` until the daemon is set up.
    pub(super) async fn answer(&self, request: Request, state: Option<DaemonState<'_>>) {
        let answer = match request.command {
            Command::Status => Answer::Snapshot(Box::new(self.snapshot(state).await)),
            Command::Explain(query) => match state {
                Some(DaemonState { node, status, .. }) => {
                    let explanation = explain(node, &status, query).await;
                    serde_json::to_value(explanation)
                        .map_or_else(|error| Answer::Error(error.to_string()), Answer::Value)
                }
                None => Answer::Error(STARTING.into()),
            },
            Command::Capture(request) => match state {
                Some(DaemonState { node, .. }) => node.capture(&request),
                None => Answer::Error(STARTING.into()),
            },
            Command::LogLevel(LogLevel { level: None }) => {
                Answer::Value(json!({ "now": self.log.filter() }))
            }
            Command::LogLevel(LogLevel { level: Some(level) }) => match self.log.set(&level) {
                Ok((before, now)) => Answer::Value(json!({ "before": before, "now": now })),
                Err(error) => Answer::Error(error),
            },
        };
        // The client may have closed its connection meanwhile.
        let _ = request.answer.send(answer);
    }

    async fn snapshot(&self, state: Option<DaemonState<'_>>) -> Snapshot {
        let overdue = self.health.heartbeats().into_iter().filter(|beat| !Heartbeat::alive(beat));
        let missing = self.health.missing();
        let mut snapshot = Snapshot {
            taken: snapshot::unix(SystemTime::now()),
            build: snapshot::Build::current(),
            process: snapshot::Process {
                pid: std::process::id(),
                host: self.instance.name.clone(),
                instance: self.instance.fingerprint().to_string(),
                started: snapshot::unix(self.started),
                uptime: self.started_at.elapsed().as_secs_f64(),
                log_level: self.log.filter(),
                log_lines_lost: self.log.lost(),
            },
            health: snapshot::Health {
                ready: missing.is_none(),
                missing,
                late: overdue.map(|beat| beat.name).collect(),
            },
            warnings: self.health.warnings().all(),
            confinement: self.confinement.clone(),
            store: Some(self.store.clone()),
            ..Snapshot::default()
        };
        if let Some(DaemonState { node, status, store }) = state {
            node.describe(&mut snapshot, &status).await;
            snapshot.lease = Some(snapshot::Lease {
                subnet: status.lease,
                held: status.lease_held,
                expires: status.lease_expires.map(snapshot::unix),
                renewals: status.renewals,
            });
            snapshot.registry = Some(snapshot::StoreState {
                store: store.to_owned(),
                connected: status.connected,
                synced: status.synced,
                last_contact_ago: status.last_contact.map(|at| at.elapsed().as_secs_f64()),
                revision: status.revision,
                watch_restarts: status.watch_restarts,
                skipped_keys: status.skipped_keys,
                last_error: status.last_error,
            });
        } else if let Some(failure) = self.refusal.failure() {
            let store = self.store.describe();
            let last_error = Some(failure);
            let state = snapshot::StoreState { store, last_error, ..Default::default() };
            snapshot.registry = Some(state);
        }
        snapshot
    }
}

/// Opens the status socket. A path given with `--socket` that cannot be opened is an error; without the flag
/// the daemon continues without a socket, as on a host where another daemon holds the default path.
fn socket(options: &Options) -> Result<Option<StatusSocket>, Exit> {
    let refused = |error: SocketError| Exit::new(Code::Unavailable, error.to_string());
    match &options.socket {
        Some(ListenPath::Disabled) => Ok(None),
        Some(ListenPath::At(path)) => StatusSocket::listen(path).map(Some).map_err(refused),
        None => Ok(StatusSocket::listen(DEFAULT_SOCKET.as_ref())
            .inspect_err(|error| tracing::warn!("{error}; continuing without a status socket"))
            .ok()),
    }
}

/// The answer to requests that need the data plane, until there is one.
const STARTING: &str = "the daemon is still starting; see `flannel-udp status`";

/// Requests that may wait for the event loop.
const MAX_PENDING_REQUESTS: usize = 32;
