//! Answers what is asked through the status socket, on the control thread.

use std::convert::Infallible;
use std::time::{Instant, SystemTime};

use serde_json::json;
use tokio::sync::mpsc;

use super::explain::explain;
use super::liveness::Vitals;
use super::logging::Log;
use super::node::Node;
use crate::args::ListenPath;
use crate::confine::Confinement;
use crate::daemon::Options;
use crate::exit::{Code, Exit};
use crate::observe::health::{Health, Heartbeat};
use crate::observe::protocol::snapshot::{self, Snapshot};
use crate::observe::protocol::{Answer, Command, DEFAULT_SOCKET, Request};
use crate::observe::server::{SocketError, StatusSocket};
use crate::subnet::{Instance, SubnetStatus};

/// The one who answers.
pub(super) struct Observer {
    requests: mpsc::Receiver<Request>,
    /// Keeps the channel open.
    _sender: mpsc::Sender<Request>,
    log: Log,
    confinement: Confinement,
    health: Health,
    instance: Instance,
    started: SystemTime,
    born: Instant,
}

/// What there is to see once the daemon is set up.
pub(super) struct View<'a> {
    pub(super) node: &'a Node<'a>,
    pub(super) status: SubnetStatus,
    /// The lease store, in words.
    pub(super) store: &'a str,
}

impl Observer {
    /// Opens the ports for health checks and metrics and the status socket, as far as they are
    /// wanted.
    pub(super) fn start(
        options: &Options,
        log: Log,
        confinement: Confinement,
    ) -> Result<(Self, Vitals), Exit> {
        let (sender, requests) = mpsc::channel(WAITING);
        let vitals = Vitals::start(options, &sender)?;
        if let Some(socket) = socket(options)? {
            tokio::spawn(socket.serve(sender.clone()));
        }
        let observer = Self {
            requests,
            _sender: sender,
            log,
            confinement,
            health: vitals.health(),
            instance: Instance::current(),
            started: SystemTime::now(),
            born: Instant::now(),
        };
        Ok((observer, vitals))
    }

    /// The next question.
    pub(super) async fn request(&mut self) -> Request {
        // Our own sender keeps the channel open.
        self.requests.recv().await.expect("a channel with a sender")
    }

    /// Answers while the daemon is being set up.
    pub(super) async fn answer_at_start(&mut self) -> Infallible {
        loop {
            let request = self.request().await;
            self.answer(request, None).await;
        }
    }

    /// Answers one question; there is no `view` before the daemon is set up.
    pub(super) async fn answer(&self, request: Request, view: Option<View<'_>>) {
        let answer = match request.command {
            Command::Status => Answer::Snapshot(Box::new(self.snapshot(view).await)),
            Command::Explain(query) => match view {
                Some(View { node, status, .. }) => {
                    let explanation = explain(node, &status.peers, query).await;
                    serde_json::to_value(explanation)
                        .map_or_else(|error| Answer::Error(error.to_string()), Answer::Value)
                }
                None => {
                    Answer::Error("the daemon is not set up yet; see flannel-udp status".into())
                }
            },
            Command::Capture(request) => match view {
                Some(View { node, .. }) => node.capture(&request),
                None => {
                    Answer::Error("the daemon is not set up yet; see flannel-udp status".into())
                }
            },
            Command::LogLevel { level } => match self.log.set(&level) {
                Ok((before, now)) => Answer::Value(json!({ "before": before, "now": now })),
                Err(error) => Answer::Error(error),
            },
        };
        // Whoever asked may be gone.
        let _ = request.answer.send(answer);
    }

    async fn snapshot(&self, view: Option<View<'_>>) -> Snapshot {
        let late = self.health.heartbeats().into_iter().filter(|beat| !Heartbeat::alive(beat));
        let missing = self.health.missing();
        let mut snapshot = Snapshot {
            taken: snapshot::unix(SystemTime::now()),
            build: snapshot::Build::current(),
            process: snapshot::Process {
                pid: std::process::id(),
                host: self.instance.name.clone(),
                instance: self.instance.fingerprint().to_string(),
                started: snapshot::unix(self.started),
                uptime: self.born.elapsed().as_secs_f64(),
                log_level: self.log.filter(),
            },
            health: snapshot::Health {
                ready: missing.is_none(),
                missing,
                late: late.map(|beat| beat.name).collect(),
            },
            confinement: self.confinement.clone(),
            ..Snapshot::default()
        };
        if let Some(View { node, status, store }) = view {
            node.describe(&mut snapshot, &status).await;
            snapshot.lease = Some(snapshot::Lease {
                subnet: status.lease,
                held: status.lease_held,
                expires: status.lease_expires.map(snapshot::unix),
                renewals: status.renewals,
            });
            snapshot.registry = Some(snapshot::Registry {
                store: store.to_owned(),
                connected: status.connected,
                synced: status.synced,
                last_contact_ago: status.last_contact.map(|at| at.elapsed().as_secs_f64()),
                revision: status.revision,
                watch_restarts: status.watch_restarts,
                skipped_keys: status.skipped_keys,
                last_error: status.last_error,
            });
        }
        snapshot
    }
}

/// The socket that `--socket` asks for. One that was asked for and is not to be had is an error; the
/// usual one may be missing, as on a host where two daemons run.
fn socket(options: &Options) -> Result<Option<StatusSocket>, Exit> {
    let refused = |error: SocketError| Exit::new(Code::Unavailable, error.to_string());
    match &options.socket {
        Some(ListenPath::Disabled) => Ok(None),
        Some(ListenPath::At(path)) => StatusSocket::listen(path).map(Some).map_err(refused),
        None => Ok(StatusSocket::listen(DEFAULT_SOCKET.as_ref())
            .inspect_err(|error| tracing::warn!("{error}; going on without a status socket"))
            .ok()),
    }
}

/// Questions that may wait for the control loop.
const WAITING: usize = 32;
