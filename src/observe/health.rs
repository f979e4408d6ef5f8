//! Health for supervisors: `/healthz` as flannel's, `/readyz`, `/livez`, and the service manager's watchdog.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::any;

use super::http::{self, ListenError};
use super::warnings::Warnings;

/// The daemon's health; clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<HealthState>);

#[derive(Debug)]
struct HealthState {
    started: Instant,
    /// What the daemon waits for; `None` once it is ready.
    missing: Mutex<Option<String>>,
    threads: Mutex<Vec<Arc<MonitoredThread>>>,
    warnings: Warnings,
}

#[derive(Debug)]
struct MonitoredThread {
    name: String,
    limit: Duration,
    /// Milliseconds from `started` to the last heartbeat.
    last: AtomicU64,
}

/// Sends the heartbeats of one thread. Dropping it takes the thread off the list.
#[derive(Debug)]
pub struct Pulse {
    health: Health,
    thread: Arc<MonitoredThread>,
}

impl Pulse {
    /// Records a heartbeat: reads the clock and stores the time, without a lock.
    pub fn beat(&self) {
        self.thread.last.store(self.health.now(), Ordering::Relaxed);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        lock(&self.health.0.threads).retain(|thread| !Arc::ptr_eq(thread, &self.thread));
    }
}

/// The last heartbeat of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Name of the thread.
    pub name: String,
    /// Time since the heartbeat.
    pub age: Duration,
    /// Age from which on the heartbeat is overdue.
    pub limit: Duration,
}

impl Heartbeat {
    /// Whether the heartbeat is recent enough.
    pub fn alive(&self) -> bool {
        self.age <= self.limit
    }
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(HealthState {
            started: Instant::now(),
            missing: Mutex::new(Some("starting".into())),
            threads: Mutex::default(),
            warnings: Warnings::default(),
        }))
    }
}

impl Health {
    /// Adds a thread that sends a heartbeat at least every `limit`.
    pub fn register(&self, name: impl Into<String>, limit: Duration) -> Pulse {
        let last = AtomicU64::new(self.now());
        let thread = Arc::new(MonitoredThread { name: name.into(), limit, last });
        lock(&self.0.threads).push(Arc::clone(&thread));
        Pulse { health: self.clone(), thread }
    }

    /// Sets the daemon ready: it is set up, and the route table has the first full list of peers.
    pub fn set_ready(&self) {
        *lock(&self.0.missing) = None;
    }

    /// Sets the daemon not ready, with the reason, such as `waiting for the network config`.
    pub fn set_waiting(&self, missing: impl Into<String>) {
        *lock(&self.0.missing) = Some(missing.into());
    }

    /// What the daemon waits for, or a warning that makes it unready; `None` while it is ready.
    pub fn missing(&self) -> Option<String> {
        let waiting = lock(&self.0.missing).clone();
        waiting.or_else(|| self.0.warnings.not_ready())
    }

    /// The warnings in force.
    pub fn warnings(&self) -> Warnings {
        self.0.warnings.clone()
    }

    /// The last heartbeat of every thread.
    pub fn heartbeats(&self) -> Vec<Heartbeat> {
        let now = self.now();
        lock(&self.0.threads)
            .iter()
            .map(|thread| Heartbeat {
                name: thread.name.clone(),
                age: Duration::from_millis(now.saturating_sub(thread.last.load(Ordering::Relaxed))),
                limit: thread.limit,
            })
            .collect()
    }

    /// Whether no thread's heartbeat is overdue; the service manager's watchdog is notified only then.
    pub fn alive(&self) -> bool {
        self.heartbeats().iter().all(Heartbeat::alive)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Locks a mutex whose data is consistent even if a thread panicked while it held the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens for health checks.
pub fn listen(ip: IpAddr, port: u16) -> Result<std::net::TcpListener, ListenError> {
    http::listen("health checks", "--healthz-ip, --healthz-port", ip, port)
}

/// The pages of the health port.
pub fn pages(health: Health) -> Router {
    Router::new()
        .route("/healthz", any(|| async { "flanneld is running" }))
        .route("/readyz", any(ready))
        .route("/livez", any(live))
        .with_state(health)
}

async fn ready(State(health): State<Health>) -> (StatusCode, String) {
    let (code, mut text) = match health.missing() {
        None => (StatusCode::OK, "flanneld is ready".to_owned()),
        Some(missing) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("flanneld is not ready yet\n{missing}\n"))
        }
    };
    for warning in health.warnings().all().iter().filter(|warning| !warning.not_ready) {
        let _ = write!(text, "\nwarning: {}", warning.sentence());
    }
    (code, text)
}

async fn live(State(health): State<Health>) -> (StatusCode, String) {
    let heartbeats = health.heartbeats();
    let mut text = String::new();
    for beat in &heartbeats {
        let word = if beat.alive() { "ok" } else { "LATE" };
        let _ = writeln!(text, "{} {word} last seen {} ms ago", beat.name, beat.age.as_millis());
    }
    let all = heartbeats.iter().all(Heartbeat::alive);
    (if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream};

    /// Serves `health` on a free port and returns the answers to `requests`.
    fn ask(health: &Health, requests: &[(&str, &str)]) -> Vec<(u16, String, String)> {
        let listener = listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let address = listener.local_addr().unwrap();
        let health = health.clone();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    outcome = http::serve(listener, pages(health)) => panic!("{outcome:?}"),
                    _ = stopped => {}
                }
            });
        });
        let answers = requests.iter().map(|(method, path)| {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            (status, head.to_ascii_lowercase(), body.to_owned())
        });
        let answers = answers.collect();
        stop.send(()).unwrap();
        server.join().unwrap();
        answers
    }

    #[test]
    fn healthz_is_flannels() {
        let health = Health::default();
        let asked = ask(
            &health,
            &[
                ("GET", "/healthz"),
                ("POST", "/healthz"),
                ("GET", "/healthz/"),
                ("GET", "/"),
                ("GET", "/metrics"),
            ],
        );
        for (status, head, body) in &asked[..2] {
            assert_eq!((*status, body.as_str()), (200, "flanneld is running"));
            assert!(head.contains("content-type: text/plain; charset=utf-8"), "{head}");
        }
        assert!(asked[2..].iter().all(|(status, ..)| *status == 404));
    }

    #[test]
    fn the_daemon_is_ready_after_the_first_full_list() {
        let health = Health::default();
        health.set_waiting("waiting for the network config");
        let asked = ask(&health, &[("GET", "/readyz")]);
        assert_eq!(asked[0].0, 503);
        assert_eq!(asked[0].2, "flanneld is not ready yet\nwaiting for the network config\n");
        health.set_ready();
        let asked = ask(&health, &[("GET", "/readyz")]);
        assert_eq!((asked[0].0, asked[0].2.as_str()), (200, "flanneld is ready"));
    }

    #[test]
    fn a_thread_with_an_overdue_heartbeat_is_named() {
        let health = Health::default();
        let worker = health.register("worker 0", Duration::from_secs(60));
        let stuck = health.register("worker 1", Duration::ZERO);
        worker.beat();
        std::thread::sleep(Duration::from_millis(5));
        assert!(!health.alive());
        let asked = ask(&health, &[("GET", "/livez")]);
        assert_eq!(asked[0].0, 503);
        assert!(asked[0].2.contains("worker 0 ok") && asked[0].2.contains("worker 1 LATE"));
        drop(stuck);
        assert!(health.alive());
        assert_eq!(ask(&health, &[("GET", "/livez")])[0].0, 200);
    }
}
