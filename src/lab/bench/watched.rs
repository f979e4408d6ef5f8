//! A daemon that is watched: its metrics scraped and its status asked for every second, as Prometheus
//! and a curious operator do.

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

/// The flag with which a daemon lets itself be watched.
pub(super) const FLAG: &str = "--metrics-addr=127.0.0.1:9285";

/// Somebody who watches one daemon for as long as this value lives.
#[derive(Debug)]
pub(super) struct Watcher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins to watch the daemon of host `number`.
    ///
    /// # Errors
    /// The first look fails: there is nothing to see.
    pub(super) fn start(lab: &Lab, number: usize) -> Result<Self, LabError> {
        let host = lab.host(number);
        let socket = host.directory().join("flannel-udp.sock");
        let name = host.netns_name().to_owned();
        let open =
            || Netns::open(&name).map_err(|source| LabError::Netns { name: name.clone(), source });
        let netns = open()?;
        let first = netns.enter(|| look(&socket)).and_then(|seen| seen);
        first.map_err(|e| LabError::Unusable(format!("{} cannot be watched: {e}", host.name())))?;
        let stop = Arc::<AtomicBool>::default();
        let told = Arc::clone(&stop);
        let watch = move || {
            // A look that fails is made again: the measurement goes on.
            let _ = netns.enter(|| watch(&socket, &told));
        };
        let thread = thread::Builder::new()
            .name("watcher".into())
            .spawn(watch)
            .map_err(|e| LabError::Unusable(format!("no thread to watch with: {e}")))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn watch(socket: &Path, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let _ = look(socket);
        thread::park_timeout(EVERY);
    }
}

/// Scrapes the metrics and asks for the status once.
fn look(socket: &Path) -> io::Result<()> {
    let mut page = TcpStream::connect_timeout(&METRICS.into(), PATIENCE)?;
    page.set_read_timeout(Some(PATIENCE))?;
    page.write_all(b"GET /metrics HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    page.read_to_string(&mut text)?;
    if !text.starts_with("HTTP/1.1 200") {
        let line = text.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("/metrics answers {line:?}")));
    }
    let mut status = UnixStream::connect(socket)?;
    status.set_read_timeout(Some(PATIENCE))?;
    status.write_all(b"{\"version\":1,\"command\":\"status\"}\n")?;
    let mut answer = String::new();
    BufReader::new(status).read_line(&mut answer)?;
    match answer.contains("\"ok\"") {
        true => Ok(()),
        false => Err(io::Error::other(format!("status answers {answer:?}"))),
    }
}

const METRICS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9285);
const EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(2);
