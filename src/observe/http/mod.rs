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

use crate::host::ports::{self, Transport};

/// The daemon cannot listen on a port for health checks or metrics.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen for {what} on {address} ({flags}): {source}{}",
    ports::holder(source, Transport::Tcp, address.port())
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

/// Serves `pages` to at most 32 clients at a time, until the future is dropped. One more takes the place of
/// another, so that nobody who keeps connections open delays a health check: of one that has had no answer yet
/// before one that has, of one from elsewhere before one of this host, and of the oldest among these. A
/// connection is closed if a request and the wait for its answer take 5 s, however the bytes drip, and if it is
/// idle for 30 s after an answer.
///
/// # Errors
/// The listener does not work with tokio.
pub async fn serve(listener: std::net::TcpListener, pages: Router) -> io::Result<()> {
    serve_limited(listener, pages, MAX_CLIENTS, Limits::DEFAULT).await
}

/// How long a connection may take.
#[derive(Clone, Copy)]
struct Limits {
    /// From the beginning of a request to the beginning of its answer.
    request: Duration,
    /// From an answer to the next request.
    idle: Duration,
}

impl Limits {
    const DEFAULT: Self = Self { request: Duration::from_secs(5), idle: Duration::from_secs(30) };
}

async fn serve_limited(
    listener: std::net::TcpListener,
    pages: Router,
    clients: usize,
    limits: Limits,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let places = VecDeque::with_capacity(clients);
    axum::serve(Bounded { listener, places, clients, limits }, pages).await
}

/// A listener with a limited number of connections.
struct Bounded {
    listener: TcpListener,
    /// The connections that are open, the oldest first, and some that have ended.
    places: VecDeque<Arc<Place>>,
    clients: usize,
    limits: Limits,
}

/// The place of a connection, which a newer one may take.
#[derive(Default)]
struct Place {
    /// Whether the client is a process of this host, as a kubelet is.
    is_local: bool,
    /// Whether a request has been answered.
    answered: AtomicBool,
    taken: AtomicBool,
    waker: AtomicWaker,
}

impl Bounded {
    /// The place of another connection; one of the others makes room if all are occupied.
    fn place(&mut self, is_local: bool) -> Arc<Place> {
        // A connection that has ended has dropped its own reference.
        self.places.retain(|place| Arc::strong_count(place) > 1);
        let rank = |place: &Arc<Place>| (place.is_local, place.answered.load(Ordering::Relaxed));
        // The first of those that are least.
        let least = self.places.iter().enumerate().min_by_key(|(_, place)| rank(place));
        if self.places.len() == self.clients
            && let Some(least) = least.map(|(at, _)| at)
            && let Some(least) = self.places.remove(least)
        {
            least.taken.store(true, Ordering::Release);
            least.waker.wake();
        }
        let place = Arc::new(Place { is_local, ..Place::default() });
        self.places.push_back(Arc::clone(&place));
        place
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let own = stream.local_addr().map(|own| own.ip());
        let place = self.place(own.is_ok_and(|own| own == address.ip()));
        let (limits, deadline) = (self.limits, Box::pin(sleep(self.limits.request)));
        (Connection { stream, deadline, limits, place, is_idle: false }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when it takes too long or a newer one takes its place.
struct Connection {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    limits: Limits,
    place: Arc<Place>,
    /// Whether it has had an answer, and has not begun another request.
    is_idle: bool,
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
            return outcome;
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn allow(&mut self, time: Duration) {
        self.deadline.as_mut().reset(Instant::now() + time);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.is_idle && outcome.is_ready() {
            self.is_idle = false;
            let time = self.limits.request;
            self.allow(time);
        }
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
        if outcome.is_ready() {
            self.is_idle = true;
            self.place.answered.store(true, Ordering::Relaxed);
            let time = self.limits.idle;
            self.allow(time);
        }
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

#[cfg(test)]
mod tests;
