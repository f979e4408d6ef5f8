//! Signs of life: what the health port answers, and what feeds the service manager's watchdog.

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

/// The daemon's health, kept by the control thread.
pub(super) struct Vitals {
    health: Health,
    /// Each worker's pulse and the count of rounds it was last seen at.
    workers: HashMap<String, (Pulse, u64)>,
    period: Duration,
}

impl Vitals {
    /// Opens the ports for health checks and metrics, if there shall be any, and starts the control
    /// thread's own pulse. Scrapes become requests.
    pub(super) fn start(options: &Options, requests: &mpsc::Sender<Request>) -> Result<Self, Exit> {
        let health = Health::default();
        let refused = |error: ListenError| Exit::new(Code::Unavailable, error.to_string());
        let mut metrics = options.metrics_addr;
        if options.healthz_port != 0 {
            let address = SocketAddr::new(options.healthz_ip, options.healthz_port);
            let mut pages = health::pages(health.clone());
            // One listener serves both where both have the same address.
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
        let pulse = health.register("control", LIMIT);
        tokio::spawn(async move {
            let mut beats = interval(BEAT);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                beats.tick().await;
                pulse.beat();
            }
        });
        let period = systemd::watchdog_period().map_or(BEAT, |period| period.min(BEAT));
        Ok(Self { health, workers: HashMap::new(), period })
    }

    /// The state of health that this keeps.
    pub(super) fn health(&self) -> Health {
        self.health.clone()
    }

    /// How often [`Self::check`] is due.
    pub(super) fn period(&self) -> Duration {
        self.period
    }

    /// Not ready, and what for; `systemctl status` shows it as well.
    pub(super) fn waiting(&self, missing: &str) {
        self.health.set_waiting(missing);
        systemd::status(missing);
    }

    /// Everything is set up and the first full list of routes is in the table.
    pub(super) fn ready(&self, status: &str) {
        self.health.set_ready();
        systemd::ready(status);
    }

    /// Looks whether every worker has moved since the last time, wakes them all for the next, and
    /// feeds the watchdog if nobody is late.
    pub(super) fn check(&mut self, plane: Option<&Dataplane>) {
        let mut before = std::mem::take(&mut self.workers);
        for (name, counters) in plane.into_iter().flat_map(Dataplane::threads) {
            let rounds = counters.rounds.get();
            let (pulse, seen) =
                before.remove(name).unwrap_or_else(|| (self.health.register(name, LIMIT), rounds));
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
            let late = self.health.heartbeats().into_iter().filter(|beat| !beat.alive());
            let names: Vec<_> = late.map(|beat| beat.name).collect();
            tracing::error!("no sign of life from {}", names.join(", "));
        }
    }
}

fn serve(what: &'static str, listener: TcpListener, pages: Router) {
    tokio::spawn(async move {
        if let Err(error) = http::serve(listener, pages).await {
            tracing::error!("{what} are no longer answered: {error}");
        }
    });
}

/// Time between two looks; an idle worker wakes this often.
const BEAT: Duration = Duration::from_secs(2);

/// Longest time without a sign of life that counts as alive: a few looks, on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);
