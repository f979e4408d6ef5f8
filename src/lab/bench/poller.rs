//! Polling of a daemon for metrics and status every second, as by Prometheus and an operator.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::lab::LabError;
use crate::lab::topology::Lab;
use crate::sys::netns::Netns;

/// The flag that makes a daemon serve metrics.
pub(super) const FLAG: &str = "--metrics-addr=127.0.0.1:9285";

/// Polls one daemon for as long as this value exists.
#[derive(Debug)]
pub(super) struct StatusPoller {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StatusPoller {
    /// Starts to poll the daemon of host `number`.
    ///
    /// # Errors
    /// The first poll fails.
    pub(super) fn start(lab: &Lab, number: usize) -> Result<Self, LabError> {
        let host = lab.host(number);
        let socket = host.directory().join("flannel-udp.sock");
        let name = host.netns_name().to_owned();
        let open =
            || Netns::open(&name).map_err(|source| LabError::Netns { name: name.clone(), source });
        let netns = open()?;
        let first = netns.enter(|| poll(&socket)).and_then(|polled| polled);
        first.map_err(|e| LabError::Unusable(format!("{} cannot be polled: {e}", host.name())))?;
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let run = move || {
            // A poll that fails later does not end the measurement.
            let _ = netns.enter(|| poll_until(&stopped, &socket));
        };
        let thread = thread::Builder::new()
            .name("poller".into())
            .spawn(run)
            .map_err(|e| LabError::Unusable(format!("cannot start the polling thread: {e}")))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for StatusPoller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn poll_until(stop: &AtomicBool, socket: &Path) {
    while !stop.load(Ordering::Relaxed) {
        let _ = poll(socket);
        thread::park_timeout(INTERVAL);
    }
}

/// Scrapes the metrics and requests the status once.
fn poll(socket: &Path) -> io::Result<()> {
    let mut page = TcpStream::connect_timeout(&METRICS.into(), POLL_TIMEOUT)?;
    page.set_read_timeout(Some(POLL_TIMEOUT))?;
    page.write_all(b"GET /metrics HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    page.read_to_string(&mut text)?;
    if !text.starts_with("HTTP/1.1 200") {
        let line = text.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("/metrics answers {line:?}")));
    }
    let mut status = UnixStream::connect(socket)?;
    status.set_read_timeout(Some(POLL_TIMEOUT))?;
    status.write_all(b"{\"version\":1,\"command\":\"status\"}\n")?;
    let mut answer = String::new();
    BufReader::new(status).read_line(&mut answer)?;
    if answer.contains("\"ok\"") {
        Ok(())
    } else {
        Err(io::Error::other(format!("status answers {answer:?}")))
    }
}

const METRICS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9285);
const INTERVAL: Duration = Duration::from_secs(1);
const POLL_TIMEOUT: Duration = Duration::from_secs(2);
