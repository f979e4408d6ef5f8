//! Liveness of the daemon's threads, for the health port and the service manager's watchdog.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::daemon::Options;
use crate::dataplane::Dataplane;
use crate::exit::{Code, Exit};
use crate::host::systemd;
use crate::observe::health::{self, Health, Pulse};
use crate::observe::http::{self, ListenError};
use crate::observe::metrics;
use crate::observe::protocol::Request;

/// The daemon's health, updated by the control thread.
pub(super) struct Liveness {
    health: Health,
    /// The heartbeat of each packet thread, and the thread's count of loop iterations at the last check.
    workers: HashMap<String, (Pulse, u64)>,
    period: Duration,
}

impl Liveness {
    /// Opens the configured ports for health checks and metrics, and starts the control thread's own heartbeat.
    /// Each scrape of the metrics sends one of `requests` to the control thread.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if a port cannot be opened.
    pub(super) fn start(options: &Options, requests: &mpsc::Sender<Request>) -> Result<Self, Exit> {
        let health = Health::default();
        let refused = |error: ListenError| Exit::new(Code::Unavailable, error.to_string());
        let mut metrics = options.metrics_addr;
        if options.healthz_port != 0 {
            let address = SocketAddr::new(options.healthz_ip, options.healthz_port);
            let mut pages = health::pages(health.clone());
            // One listener serves both if both have the same address.
            if metrics.take_if(|metrics| *metrics == address).is_some() {
                pages = pages.merge(metrics::pages(requests.clone()));
            }
            let listener = health::listen(address.ip(), address.port()).map_err(refused)?;
            serve("health checks", listener, pages);
        }
        if let Some(address) = metrics {
            let listener = metrics::listen(address).map_err(refused)?;
            serve("metrics", listener, metrics::pages(requests.clone()));
        }
        let pulse = health.register("control", HEARTBEAT_LIMIT);
        tokio::spawn(async move {
            let mut beats = interval(HEARTBEAT_PERIOD);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                beats.tick().await;
                pulse.beat();
            }
        });
        let period = systemd::watchdog_period()
            .map_or(HEARTBEAT_PERIOD, |period| period.min(HEARTBEAT_PERIOD));
        Ok(Self { health, workers: HashMap::new(), period })
    }

    /// The shared state of health.
    pub(super) fn health(&self) -> Health {
        self.health.clone()
    }

    /// The time between two calls of [`Self::check`] that the caller must keep.
    pub(super) fn period(&self) -> Duration {
        self.period
    }

    /// Marks the daemon as not ready because of `missing`; `systemctl status` shows the text as well.
    pub(super) fn set_waiting(&self, missing: &str) {
        self.health.set_waiting(missing);
        systemd::status(missing);
    }

    /// Marks the daemon as ready: set up, with the first complete list of routes in the table.
    pub(super) fn set_ready(&self, status: &str) {
        self.health.set_ready();
        systemd::ready(status);
    }

    /// Checks that every packet thread has made progress since the last call, wakes all of them so that idle
    /// threads make progress until the next one, and notifies the watchdog if no heartbeat is overdue.
    pub(super) fn check(&mut self, plane: Option<&Dataplane>) {
        let mut before = std::mem::take(&mut self.workers);
        for (name, counters) in plane.into_iter().flat_map(Dataplane::threads) {
            let rounds = counters.rounds.get();
            let (pulse, seen) = before
                .remove(name)
                .unwrap_or_else(|| (self.health.register(name, HEARTBEAT_LIMIT), rounds));
            if rounds != seen {
                pulse.beat();
            }
            self.workers.insert(name.to_owned(), (pulse, rounds));
        }
        if let Some(plane) = plane {
            plane.nudge();
        }
        if self.health.alive() {
            systemd::watchdog();
        } else {
            let overdue = self.health.heartbeats().into_iter().filter(|beat| !beat.alive());
            let names: Vec<_> = overdue.map(|beat| beat.name).collect();
            tracing::error!("no sign of life from {}", names.join(", "));
        }
    }
}

fn serve(what: &'static str, listener: TcpListener, pages: Router) {
    tokio::spawn(async move {
        if let Err(error) = http::serve(listener, pages).await {
            tracing::error!("the HTTP server for {what} has stopped: {error}");
        }
    });
}

/// Time between two heartbeats; an idle packet thread is woken this often.
const HEARTBEAT_PERIOD: Duration = Duration::from_secs(2);

/// Longest time without a heartbeat that counts as alive: a few periods, to allow for a busy machine.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(10);
