//! A TCP proxy on loopback that can be cut, silenced and slowed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does to connections and data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Pass,
    /// Connections are closed, and new ones are closed at once.
    Cut,
    /// Connections stay open, new ones are accepted, and no data passes.
    Silent,
    /// Existing connections stay open and pass no data any more; new ones pass.
    OldSilent,
    /// Data passes after this delay.
    Slow(Duration),
}

/// Forwards one port to another.
pub struct Proxy {
    pub port: u16,
    mode: watch::Sender<Mode>,
    pub connections: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, modes) = watch::channel(Mode::Pass);
        let connections = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                counter.fetch_add(1, Ordering::Relaxed);
                let mode = *modes.borrow();
                if mode != Mode::Cut {
                    tokio::spawn(forward(client, target, modes.clone()));
                }
            }
        });
        Self { port, mode, connections, task }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.mode.send_replace(Mode::Cut);
    }
}

async fn forward(client: TcpStream, target: u16, modes: watch::Receiver<Mode>) {
    let mut born = modes.clone();
    let _ = born.borrow_and_update();
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let newborn = *modes.borrow() == Mode::OldSilent;
    let mut cut = modes.clone();
    tokio::select! {
        () = pump(client_read, server_write, modes.clone(), newborn) => {}
        () = pump(server_read, client_write, modes.clone(), newborn) => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    newborn: bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut doomed = false;
    loop {
        let Ok(count) = from.read(&mut buffer).await else { return };
        if count == 0 {
            return;
        }
        loop {
            let mode = *modes.borrow_and_update();
            match mode {
                Mode::OldSilent if !newborn => doomed = true,
                Mode::Silent => {}
                Mode::Slow(delay) => {
                    tokio::time::sleep(delay).await;
                    break;
                }
                _ if !doomed => break,
                _ => {}
            }
            if modes.changed().await.is_err() {
                return;
            }
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
