//! The HTTP ports of health checks and metrics: a listener that bears with a limited number of clients.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// A port for health checks or metrics cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for {what} on {address} ({flags}): {source}")]
pub struct ListenError {
    what: &'static str,
    flags: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// Listens for `what`, as `flags` say. `0.0.0.0` means every address of either family where the
/// kernel has both, as it does for flannel.
pub(super) fn listen(
    what: &'static str,
    flags: &'static str,
    ip: IpAddr,
    port: u16,
) -> Result<std::net::TcpListener, ListenError> {
    let address = SocketAddr::new(ip, port);
    let fail = |source| ListenError { what, flags, address, source };
    if ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        match open(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {}
            outcome => return outcome.map_err(fail),
        }
    }
    open(address).map_err(fail)
}

/// Connections that may wait to be accepted; health checks come one at a time.
const BACKLOG: i32 = 128;

fn open(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Serves `pages` until it is dropped, to 32 clients at a time. Further ones wait to be accepted,
/// and so that they do not wait for ever, a connection on which nothing moves for 30 s is closed.
///
/// # Errors
/// The listener is no good.
pub async fn serve(listener: std::net::TcpListener, pages: Router) -> io::Result<()> {
    serve_within(listener, pages, MAX_CLIENTS, SILENCE).await
}

async fn serve_within(
    listener: std::net::TcpListener,
    pages: Router,
    clients: usize,
    silence: Duration,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(clients));
    axum::serve(Bounded { listener, places, silence }, pages).await
}

/// A listener with a limited number of places.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    silence: Duration,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let patience = Box::pin(sleep(self.silence));
        let connection = Connection { stream, patience, silence: self.silence, _place: place };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when nothing moves on it for a while, and then leaves its place to another.
struct Connection {
    stream: TcpStream,
    patience: Pin<Box<Sleep>>,
    silence: Duration,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// `outcome`, or an error once it has been waited for too long.
    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            let end = Instant::now() + self.silence;
            self.patience.as_mut().reset(end);
            return outcome;
        }
        ready!(self.patience.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.bounded(cx, outcome)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.bounded(cx, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Connections of one port at a time.
const MAX_CLIENTS: usize = 32;
/// Longer than an answer takes (10 s), and no longer than a client that waits for a place should.
const SILENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as Client;

    use axum::routing::get;

    use super::*;

    /// Serves "well" with these bounds, as long as `work` goes on.
    fn served(clients: usize, silence: Duration, work: impl FnOnce(SocketAddr)) {
        let listener = listen("tests", "none", Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let pages = Router::new().route("/", get(|| async { "well" }));
            runtime.block_on(async {
                tokio::select! {
                    outcome = serve_within(listener, pages, clients, silence) => panic!("{outcome:?}"),
                    _ = stopped => {}
                }
            });
        });
        work(address);
        stop.send(()).unwrap();
        server.join().unwrap();
    }

    fn asking(address: SocketAddr) -> Client {
        let mut client = Client::connect(address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        client
    }

    /// Whether an answer comes within `limit`.
    fn is_answered(client: &mut Client, limit: Duration) -> bool {
        client.set_read_timeout(Some(limit)).unwrap();
        let mut answer = [0; 512];
        let read = client.read(&mut answer).unwrap_or(0);
        String::from_utf8_lossy(&answer[..read]).ends_with("well")
    }

    #[test]
    fn one_client_too_many_waits_until_another_leaves() {
        served(MAX_CLIENTS, SILENCE, |address| {
            let mut clients: Vec<_> = (0..MAX_CLIENTS).map(|_| asking(address)).collect();
            assert!(clients.iter_mut().all(|client| is_answered(client, LONG)));
            // They stay: HTTP/1.1 keeps a connection.
            let mut late = asking(address);
            assert!(!is_answered(&mut late, Duration::from_millis(200)));
            clients.pop();
            assert!(is_answered(&mut late, LONG));
        });
    }

    #[test]
    fn who_says_nothing_loses_its_place() {
        let silence = Duration::from_millis(300);
        served(2, silence, |address| {
            let mut dumb = Client::connect(address).unwrap();
            let mut idle = asking(address);
            assert!(is_answered(&mut idle, LONG));
            let began = std::time::Instant::now();
            let mut late = asking(address);
            assert!(is_answered(&mut late, LONG));
            assert!(began.elapsed() >= silence / 2, "{:?}", began.elapsed());
            for client in [&mut dumb, &mut idle] {
                client.set_read_timeout(Some(LONG)).unwrap();
                assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0, "it is closed");
            }
        });
    }

    #[test]
    fn a_client_that_talks_stays() {
        let silence = Duration::from_millis(400);
        served(1, silence, |address| {
            let mut client = asking(address);
            for _ in 0..6 {
                assert!(is_answered(&mut client, LONG));
                std::thread::sleep(silence / 4);
                client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            }
        });
    }

    #[test]
    fn a_busy_port_is_an_error_with_words() {
        let taken =
            listen("health checks", "--healthz-port", Ipv4Addr::UNSPECIFIED.into(), 0).unwrap();
        let port = taken.local_addr().unwrap().port();
        // Both families where there are both.
        assert!(Client::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        let error = listen("health checks", "--healthz-port", Ipv4Addr::UNSPECIFIED.into(), port)
            .unwrap_err()
            .to_string();
        assert!(error.contains("--healthz-port") && error.contains("in use"), "{error}");
    }

    const LONG: Duration = Duration::from_secs(10);
}
