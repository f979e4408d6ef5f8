//! The HTTP ports of health checks and metrics: a listener that limits the number of clients.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use futures::task::AtomicWaker;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};

use crate::humanize;

/// The daemon cannot listen on a port for health checks or metrics.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen for {what} on {address} ({flags}): {source}{}",
    humanize::holder_of_tcp_port(source, address.port())
)]
pub struct ListenError {
    what: &'static str,
    flags: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// Listens for `what`, on the address that `flags` give. As with flannel, `0.0.0.0` means every address
/// of both families if the kernel has IPv6.
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

/// Connections that may wait to be accepted: health checks arrive one at a time.
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

/// Serves `pages` to at most 32 clients at a time, until the future is dropped. One more takes the place of the
/// client that connected first, so that nobody who keeps connections open delays a health check. A connection
/// that is idle for 30 s is closed.
///
/// # Errors
/// The listener does not work with tokio.
pub async fn serve(listener: std::net::TcpListener, pages: Router) -> io::Result<()> {
    serve_limited(listener, pages, MAX_CLIENTS, IDLE_TIMEOUT).await
}

async fn serve_limited(
    listener: std::net::TcpListener,
    pages: Router,
    clients: usize,
    idle_timeout: Duration,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let places = VecDeque::with_capacity(clients);
    axum::serve(Bounded { listener, places, clients, idle_timeout }, pages).await
}

/// A listener with a limited number of connections.
struct Bounded {
    listener: TcpListener,
    /// The connections that are open, the oldest first, and some that have ended.
    places: VecDeque<Arc<Place>>,
    clients: usize,
    idle_timeout: Duration,
}

/// The place of a connection, which a newer one may take.
#[derive(Default)]
struct Place {
    taken: AtomicBool,
    waker: AtomicWaker,
}

impl Bounded {
    /// The place of another connection; the oldest one makes room if all are occupied.
    fn place(&mut self) -> Arc<Place> {
        // A connection that has ended has dropped its own reference.
        self.places.retain(|place| Arc::strong_count(place) > 1);
        if self.places.len() == self.clients
            && let Some(oldest) = self.places.pop_front()
        {
            oldest.taken.store(true, Ordering::Release);
            oldest.waker.wake();
        }
        let place = Arc::<Place>::default();
        self.places.push_back(Arc::clone(&place));
        place
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let (place, idle_timeout) = (self.place(), self.idle_timeout);
        let deadline = Box::pin(sleep(idle_timeout));
        (Connection { stream, deadline, idle_timeout, place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when it is idle for too long or a newer one takes its place.
struct Connection {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    idle_timeout: Duration,
    place: Arc<Place>,
}

impl Connection {
    /// Returns `outcome`, or an error if it is still pending at the deadline or the place is taken.
    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.place.waker.register(cx.waker());
        if self.place.taken.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if outcome.is_ready() {
            let end = Instant::now() + self.idle_timeout;
            self.deadline.as_mut().reset(end);
            return outcome;
        }
        ready!(self.deadline.as_mut().poll(cx));
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

/// Connections per port.
const MAX_CLIENTS: usize = 32;
/// Longer than an answer takes (10 s).
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as Client;

    use axum::routing::get;

    use super::*;

    /// Serves "well" with these limits while `work` runs.
    fn served(clients: usize, idle_timeout: Duration, work: impl FnOnce(SocketAddr)) {
        let listener = listen("tests", "none", Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let pages = Router::new().route("/", get(|| async { "well" }));
            runtime.block_on(async {
                tokio::select! {
                    outcome = serve_limited(listener, pages, clients, idle_timeout) => panic!("{outcome:?}"),
                    _ = stopped => {}
                }
            });
        });
        work(address);
        stop.send(()).unwrap();
        server.join().unwrap();
    }

    fn send_request(address: SocketAddr) -> Client {
        let mut client = Client::connect(address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        client
    }

    /// Whether an answer arrives within `limit`.
    fn is_answered(client: &mut Client, limit: Duration) -> bool {
        client.set_read_timeout(Some(limit)).unwrap();
        let mut answer = [0; 512];
        let read = client.read(&mut answer).unwrap_or(0);
        String::from_utf8_lossy(&answer[..read]).ends_with("well")
    }

    #[test]
    fn one_client_too_many_takes_the_place_of_the_first() {
        served(MAX_CLIENTS, IDLE_TIMEOUT, |address| {
            let mut clients: Vec<_> = (0..MAX_CLIENTS).map(|_| send_request(address)).collect();
            assert!(clients.iter_mut().all(|client| is_answered(client, LONG)));
            // HTTP/1.1 keeps the connections open.
            let mut next = send_request(address);
            assert!(is_answered(&mut next, LONG));
            assert_eq!(clients[0].read(&mut [0; 1]).unwrap_or(0), 0, "the connection is closed");
            clients[1].write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            assert!(is_answered(&mut clients[1], LONG), "the others are left alone");
        });
    }

    #[test]
    fn clients_that_never_finish_a_request_delay_no_other() {
        served(MAX_CLIENTS, IDLE_TIMEOUT, |address| {
            let drip = || {
                let mut client = Client::connect(address).unwrap();
                client.write_all(b"GET / HT").unwrap();
                client
            };
            let _dripping: Vec<_> = (0..300).map(|_| drip()).collect();
            assert!(is_answered(&mut send_request(address), Duration::from_secs(1)));
        });
    }

    #[test]
    fn an_idle_client_is_disconnected() {
        let idle_timeout = Duration::from_millis(300);
        served(2, idle_timeout, |address| {
            let mut silent = Client::connect(address).unwrap();
            let mut idle = send_request(address);
            assert!(is_answered(&mut idle, LONG));
            for client in [&mut silent, &mut idle] {
                client.set_read_timeout(Some(LONG)).unwrap();
                assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0, "the connection is closed");
            }
        });
    }

    #[test]
    fn an_active_client_stays_connected() {
        let idle_timeout = Duration::from_millis(400);
        served(1, idle_timeout, |address| {
            let mut client = send_request(address);
            for _ in 0..6 {
                assert!(is_answered(&mut client, LONG));
                std::thread::sleep(idle_timeout / 4);
                client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            }
        });
    }

    #[test]
    fn the_error_of_a_port_in_use_names_the_flag() {
        let taken =
            listen("health checks", "--healthz-port", Ipv4Addr::UNSPECIFIED.into(), 0).unwrap();
        let port = taken.local_addr().unwrap().port();
        // Both families, if the kernel has both.
        assert!(Client::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        let error = listen("health checks", "--healthz-port", Ipv4Addr::UNSPECIFIED.into(), port)
            .unwrap_err()
            .to_string();
        assert!(error.contains("--healthz-port") && error.contains("in use"), "{error}");
        assert!(error.contains("`ss -tlnp 'sport = :"), "{error}");
    }

    const LONG: Duration = Duration::from_secs(10);
}
