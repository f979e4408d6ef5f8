//! ICMP echo over a raw socket: requests of any length, with the Don't Fragment flag or in fragments, their
//! replies, and the ICMP errors that routers or hosts send instead (RFC 792).

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::oneshot;

use crate::packet::icmpv4::{self, Icmpv4, kind};
use crate::packet::ipv4::{self, Ipv4};
use crate::packet::protocol;
use crate::sys::raw;

/// Outcome of an echo request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EchoOutcome {
    /// A reply arrived.
    Reply(EchoReply),
    /// A router or host reported that the request could not be delivered.
    Error(IcmpError),
    /// Nothing arrived in time.
    Silence,
}

/// A reply to an echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EchoReply {
    /// Time from the request to the reply.
    pub(crate) time: Duration,
    /// Length in bytes of the longest fragment that the reply came in; `None` if it came whole, or on a kernel
    /// that does not say.
    pub(crate) fragment: Option<usize>,
}

/// An ICMP error and its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IcmpError {
    pub(crate) by: Ipv4Addr,
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// The MTU that a router's *fragmentation needed* names (RFC 1191).
    pub(crate) mtu: Option<u16>,
}

/// A raw socket that sends echo requests, and a thread that reads the replies and errors.
pub(crate) struct Echo {
    socket: Arc<Socket>,
    shared: Arc<EchoState>,
    identifier: u16,
    next: AtomicU16,
    waker: Waker,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct EchoState {
    stop: AtomicBool,
    waiting: Mutex<HashMap<u16, PendingEcho>>,
    /// The last error about a UDP datagram of this host, by destination address and port.
    datagrams: Mutex<HashMap<(Ipv4Addr, u16), IcmpError>>,
}

struct PendingEcho {
    to: Ipv4Addr,
    sent: Instant,
    answer: oneshot::Sender<EchoOutcome>,
}

impl Echo {
    /// Opens the socket.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`; `EMFILE` if no descriptor is left.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.set_header_included_v4(true)?;
        socket.set_nonblocking(true)?;
        // A burst of long replies must not overflow this buffer: the loss would be blamed on the
        // path.
        let _ = socket.set_recv_buffer_size(4 << 20);
        // On a kernel that does not know it, every reply seems to be whole.
        let _ = raw::report_fragments(&socket);
        let (socket, shared) = (Arc::new(socket), Arc::new(EchoState::default()));
        let identifier = fastrand::u16(1..);
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), SOCKET, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let reader = std::thread::Builder::new().name("echo".into()).spawn({
            let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
            move || read(poll, &socket, &shared, identifier)
        })?;
        Ok(Self {
            socket,
            shared,
            identifier,
            next: AtomicU16::new(0),
            waker,
            reader: Some(reader),
        })
    }

    /// Sends an echo request of `len` bytes, IPv4 header included, to `to` and waits up to `limit`.
    ///
    /// # Errors
    /// The kernel does not send it: no route, or longer than the device's MTU (`EMSGSIZE`).
    pub(crate) async fn ping(
        &self,
        to: Ipv4Addr,
        len: usize,
        limit: Duration,
    ) -> io::Result<EchoOutcome> {
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        let request = request(to, len, self.identifier, sequence);
        self.exchange(to, sequence, &[request], limit).await
    }

    /// As [`Self::ping`], with the request in fragments of at most `fragment` bytes each, header included.
    ///
    /// # Errors
    /// As [`Self::ping`].
    pub(crate) async fn ping_in_fragments(
        &self,
        to: Ipv4Addr,
        len: usize,
        fragment: usize,
        limit: Duration,
    ) -> io::Result<EchoOutcome> {
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        let request = request(to, len, self.identifier, sequence);
        self.exchange(to, sequence, &fragments(&request, fragment), limit).await
    }

    async fn exchange(
        &self,
        to: Ipv4Addr,
        sequence: u16,
        packets: &[Vec<u8>],
        limit: Duration,
    ) -> io::Result<EchoOutcome> {
        let (answer, answered) = oneshot::channel();
        self.shared.waiting().insert(sequence, PendingEcho { to, sent: Instant::now(), answer });
        let answered = async {
            let destination = SocketAddrV4::new(to, 0).into();
            for packet in packets {
                while let Err(error) = self.socket.send_to(packet, &destination) {
                    // The send buffer is full.
                    if error.kind() != io::ErrorKind::WouldBlock {
                        return Err(error);
                    }
                    tokio::time::sleep(SEND_RETRY).await;
                }
            }
            Ok(answered.await)
        };
        let outcome = tokio::time::timeout(limit, answered).await;
        self.shared.waiting().remove(&sequence);
        let outcome = outcome.ok().transpose()?;
        Ok(outcome.and_then(Result::ok).unwrap_or(EchoOutcome::Silence))
    }

    /// Returns the last ICMP error about a datagram of this host to UDP `port` of `to`.
    pub(crate) fn last_error(&self, to: Ipv4Addr, port: u16) -> Option<IcmpError> {
        let datagrams = self.shared.datagrams.lock().unwrap_or_else(PoisonError::into_inner);
        datagrams.get(&(to, port)).copied()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = self.waker.wake();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl EchoState {
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u16, PendingEcho>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(mut poll: Poll, socket: &Socket, shared: &EchoState, identifier: u16) {
    let mut events = Events::with_capacity(2);
    let mut buffer = vec![0; 1 << 16];
    while !shared.stop.load(Ordering::Relaxed) {
        let (len, fragment) = match raw::receive(socket, &mut buffer) {
            Ok(received) => received,
            // mio is edge-triggered: a wait comes only after a read that found the socket empty.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match poll.poll(&mut events, None) {
                    Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
                    _ => continue,
                }
            }
            // Other errors are transient on a raw socket.
            Err(_) => continue,
        };
        let now = Instant::now();
        match parse_message(&buffer[..len], identifier) {
            Some(IcmpMessage::Reply { from, sequence }) => {
                complete(shared, sequence, from, |waiting| {
                    EchoOutcome::Reply(EchoReply { time: now - waiting.sent, fragment })
                });
            }
            Some(IcmpMessage::About { to, sequence, error }) => {
                complete(shared, sequence, to, |_| EchoOutcome::Error(error));
            }
            Some(IcmpMessage::AboutDatagram { to, port, error }) => {
                let mut datagrams = shared.datagrams.lock().unwrap_or_else(PoisonError::into_inner);
                datagrams.insert((to, port), error);
            }
            None => {}
        }
    }
}

fn complete(
    shared: &EchoState,
    sequence: u16,
    to: Ipv4Addr,
    outcome: impl Fn(&PendingEcho) -> EchoOutcome,
) {
    let mut all = shared.waiting();
    if all.get(&sequence).is_some_and(|waiting| waiting.to == to)
        && let Some(waiting) = all.remove(&sequence)
    {
        let outcome = outcome(&waiting);
        let _ = waiting.answer.send(outcome);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum IcmpMessage {
    Reply { from: Ipv4Addr, sequence: u16 },
    About { to: Ipv4Addr, sequence: u16, error: IcmpError },
    AboutDatagram { to: Ipv4Addr, port: u16, error: IcmpError },
}

fn parse_message(packet: &[u8], identifier: u16) -> Option<IcmpMessage> {
    let packet = Ipv4::parse(packet).ok()?;
    let message = Icmpv4::parse(packet.payload()).ok()?;
    if message.kind() == kind::ECHO_REPLY {
        let (id, sequence) = message.echo()?;
        return (id == identifier)
            .then_some(IcmpMessage::Reply { from: packet.source(), sequence });
    }
    if !matches!(message.kind(), kind::UNREACHABLE | kind::TIME_EXCEEDED) {
        return None;
    }
    let mtu = u32::from_be_bytes(message.rest_of_header()) as u16;
    let names_mtu = message.kind() == kind::UNREACHABLE && message.code() == 4 && mtu > 0;
    let error = IcmpError {
        by: packet.source(),
        kind: message.kind(),
        code: message.code(),
        mtu: names_mtu.then_some(mtu),
    };
    // The packet that the error is about, of which only the start is quoted.
    let quoted = Ipv4::parse_truncated(message.payload()).ok()?;
    let to = quoted.destination();
    match quoted.protocol() {
        protocol::ICMP => {
            let request = Icmpv4::parse(quoted.payload()).ok()?;
            let (id, sequence) = request.echo()?;
            (request.kind() == kind::ECHO_REQUEST && id == identifier)
                .then_some(IcmpMessage::About { to, sequence, error })
        }
        protocol::UDP => {
            let (_, port) = quoted.ports()?;
            Some(IcmpMessage::AboutDatagram { to, port, error })
        }
        _ => None,
    }
}

/// An echo request of `len` bytes in all with DF set; the kernel fills in source and identification
/// and completes the header checksum (`raw(7)`).
fn request(to: Ipv4Addr, len: usize, identifier: u16, sequence: u16) -> Vec<u8> {
    let len = len.clamp(HEADERS, usize::from(u16::MAX));
    let payload: Vec<u8> = (0..len - HEADERS).map(|index| index as u8).collect();
    let message_len = (len - ipv4::Header::LEN) as u16;
    let ip = ipv4::Header::new(protocol::ICMP, Ipv4Addr::UNSPECIFIED, to, message_len);
    let message = icmpv4::Header::echo_request(identifier, sequence).with_checksum(&payload);
    [&ip.to_bytes()[..], &message.to_bytes(), &payload].concat()
}

/// A packet without options in fragments of at most `limit` bytes each, header included.
fn fragments(packet: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let Ok(whole) = Ipv4::parse(packet) else { return vec![packet.to_vec()] };
    // All but the last carry a multiple of 8 bytes (RFC 791).
    let step = (limit.saturating_sub(ipv4::Header::LEN) / 8 * 8).max(8);
    let id = fastrand::u16(1..);
    let parts = whole.payload().chunks(step).enumerate().map(|(index, part)| {
        let header = ipv4::Header {
            total_len: (ipv4::Header::LEN + part.len()) as u16,
            id,
            dont_fragment: false,
            more_fragments: (index + 1) * step < whole.payload_len(),
            fragment_offset: (index * step) as u16,
            ..ipv4::Header::from(&whole)
        };
        [&header.to_bytes()[..], part].concat()
    });
    parts.collect()
}

/// Length of the two headers in bytes.
const HEADERS: usize = ipv4::Header::LEN + icmpv4::Header::LEN;
const SOCKET: Token = Token(0);
/// Wakes the reader, which then checks whether to stop.
const WAKER: Token = Token(1);
/// Wait for room in the send buffer of the socket.
const SEND_RETRY: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::udp;

    const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 0);
    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 9);

    fn packet(from: Ipv4Addr, message: &[u8]) -> Vec<u8> {
        let len = message.len() as u16;
        let ip = ipv4::Header::new(protocol::ICMP, from, Ipv4Addr::UNSPECIFIED, len);
        [&ip.to_bytes()[..], message].concat()
    }

    #[test]
    fn replies_and_errors_are_distinguished() {
        let sent = request(PEER, 100, 7, 3);
        assert!(Icmpv4::parse(&sent[ipv4::Header::LEN..]).unwrap().verify_checksum());
        let mut reply = sent[ipv4::Header::LEN..].to_vec();
        reply[0] = kind::ECHO_REPLY;
        let reply = packet(PEER, &reply);
        assert_eq!(parse_message(&reply, 7), Some(IcmpMessage::Reply { from: PEER, sequence: 3 }));
        assert_eq!(parse_message(&reply, 8), None, "another program's");

        let mut bytes = vec![kind::UNREACHABLE, 4, 0, 0, 0, 0, 5, 0x78];
        bytes.extend(&sent[..HEADERS]);
        let error = IcmpError { by: ROUTER, kind: kind::UNREACHABLE, code: 4, mtu: Some(1400) };
        let about = IcmpMessage::About { to: PEER, sequence: 3, error };
        assert_eq!(parse_message(&packet(ROUTER, &bytes), 7), Some(about));

        bytes[1] = 3;
        let ip = ipv4::Header::new(protocol::UDP, Ipv4Addr::UNSPECIFIED, PEER, 100);
        bytes.truncate(8);
        bytes.extend(ip.to_bytes());
        bytes.extend(udp::Header::new(4000, 8285, 92).to_bytes());
        let error = IcmpError { code: 3, mtu: None, ..error };
        let about = IcmpMessage::AboutDatagram { to: PEER, port: 8285, error };
        assert_eq!(parse_message(&packet(ROUTER, &bytes), 7), Some(about));
        for cut in 0..packet(ROUTER, &bytes).len() {
            parse_message(&packet(ROUTER, &bytes)[..cut], 7);
        }
    }

    #[test]
    fn fragments_cover_the_packet() {
        let whole = request(PEER, 1472, 7, 3);
        for limit in [0, 28, 84, 576, 1371, 1471] {
            let fragments = fragments(&whole, limit);
            let mut payload: Vec<u8> = vec![];
            for (index, bytes) in fragments.iter().enumerate() {
                let part = Ipv4::parse(&bytes[..]).unwrap();
                assert!(bytes.len() <= limit.max(28) && !part.dont_fragment());
                assert_eq!(part.fragment_offset(), payload.len());
                assert_eq!(part.more_fragments(), index + 1 < fragments.len());
                payload.extend(part.payload());
            }
            assert_eq!(payload, whole[ipv4::Header::LEN..], "{limit}");
        }
    }
}
