//! UDP flows of numbered packets, whose receiver checks order, loss and content.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::net;
use super::pattern::Pattern;
use super::test_lab::Endpoint;

/// Sends `count` packets, packet `n` with `size(n)` bytes of payload (at least 8), and checks that all
/// arrive in order and unchanged. At most [`WINDOW`] packets are in flight.
#[track_caller]
pub fn in_order(
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    count: u64,
    size: impl Fn(u64) -> usize + Sync,
) {
    let arrived = ordered(from, to, count, size);
    assert_eq!(arrived, count, "packets that arrived");
}

/// [`in_order`] beside other traffic, which may fill a queue on the path: packets may be lost, but those
/// that arrive must be in order and unchanged. Returns how many arrived.
#[track_caller]
pub fn ordered(
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    count: u64,
    size: impl Fn(u64) -> usize + Sync,
) -> u64 {
    let (sender, receiver, address) = sockets(from, to);
    receiver.set_read_timeout(Some(LAST_CALL)).expect("a timeout");
    // One more than the number of the last packet received.
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let (mut buffer, mut arrived) = (vec![0; 65536], 0);
            while next.load(Ordering::Relaxed) < count
                && let Ok(len) = receiver.recv(&mut buffer)
            {
                let number = number_in(&buffer[..len]).ok_or("a packet without a number")?;
                let expected = next.load(Ordering::Relaxed);
                if number < expected {
                    return Err(format!("packet {number} came after {}", expected - 1));
                }
                if number >= count || buffer[..len] != packet(number, size(number)) {
                    return Err(format!("packet {number} came with {len} other bytes"));
                }
                arrived += 1;
                next.store(number + 1, Ordering::Release);
            }
            Ok(arrived)
        });
        for number in 0..count {
            let waiting = Instant::now();
            while number.saturating_sub(next.load(Ordering::Acquire)) >= WINDOW
                && waiting.elapsed() < TAKEN_FOR_LOST
                && !receiving.is_finished()
            {
                thread::yield_now();
            }
            sender.send_to(&packet(number, size(number)), address).expect("sending");
        }
        receiving.join().expect("the receiver").unwrap_or_else(|wrong: String| panic!("{wrong}"))
    })
}

/// Sends a payload of each size and waits for the echo of each.
#[track_caller]
pub fn echo(from: Endpoint<'_>, to: Endpoint<'_>, sizes: impl IntoIterator<Item = usize>) {
    echo_within(1, from, to, sizes);
}

/// [`echo`] beside other traffic, which may fill a queue on the path: each payload is sent up to `tries`
/// times.
#[track_caller]
pub fn echo_within(
    tries: u32,
    from: Endpoint<'_>,
    to: Endpoint<'_>,
    sizes: impl IntoIterator<Item = usize>,
) {
    let (sender, receiver, address) = sockets(from, to);
    sender.set_read_timeout(Some(net::TIMEOUT / tries)).expect("a timeout");
    receiver.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let done = AtomicBool::new(false);
    let wrong = thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 65536];
            while !done.load(Ordering::Relaxed) {
                if let Ok((len, sender)) = receiver.recv_from(&mut buffer) {
                    receiver.send_to(&buffer[..len], sender).expect("the echo");
                }
            }
        });
        let wrong = sizes.into_iter().find_map(|size| {
            let mut answers = (0..tries).map(|_| ask(&sender, address, size));
            let answer = answers.find(|answer| *answer != Ok(false)).unwrap_or(Ok(false));
            (answer != Ok(true)).then_some((size, answer))
        });
        done.store(true, Ordering::Relaxed);
        wrong
    });
    assert_eq!(wrong, None, "a payload that did not come back as it was");
}

/// Whether a payload of `size` bytes is echoed in time; an error if other bytes are.
fn ask(socket: &UdpSocket, to: SocketAddr, size: usize) -> Result<bool, String> {
    let sent = Pattern::bytes(size as u64, size);
    socket.send_to(&sent, to).expect("sending");
    let mut buffer = vec![0; 65536];
    loop {
        match socket.recv(&mut buffer) {
            Ok(len) if buffer[..len] == sent => return Ok(true),
            // The late echo of an earlier payload.
            Ok(len) if buffer[..len] == Pattern::bytes(len as u64, len) => {}
            Ok(len) => return Err(format!("{len} other bytes")),
            Err(_) => return Ok(false),
        }
    }
}

/// A flow in the background, of about 1000 packets per second.
pub struct Background {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<Seen>,
}

/// What the receiver of a flow saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub packets: u64,
    pub lost: u64,
    pub misordered: u64,
}

impl Background {
    /// Starts a flow.
    pub fn start(from: Endpoint<'_>, to: Endpoint<'_>) -> Self {
        let (sender, receiver, address) = sockets(from, to);
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        Self {
            sender: thread::spawn({
                let (stop, sent) = (stop.clone(), sent.clone());
                move || send_steadily(&sender, address, &stop, &sent)
            }),
            receiver: thread::spawn({
                let (stop, sent) = (stop.clone(), sent.clone());
                move || watch(&receiver, &stop, &sent)
            }),
            stop,
            sent,
        }
    }

    /// Packets sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends the flow. Returns how many packets were sent, and what the receiver saw.
    pub fn end(self) -> (u64, Seen) {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().expect("the sender");
        let seen = self.receiver.join().expect("the receiver");
        (self.sent.load(Ordering::Relaxed), seen)
    }

    /// Ends the flow and checks that each packet arrived once and in order. Returns how many were sent.
    #[track_caller]
    pub fn finish(self) -> u64 {
        let (sent, seen) = self.end();
        assert!(
            seen.packets == sent && seen.lost == 0 && seen.misordered == 0,
            "{sent} packets sent, {seen:?}"
        );
        sent
    }
}

/// The payload of packet `number`: the number, then a pattern with the number as its seed.
pub fn packet(number: u64, size: usize) -> Vec<u8> {
    let mut payload = Pattern::bytes(number, size);
    let head = size.min(8);
    payload[..head].copy_from_slice(&number.to_be_bytes()[..head]);
    payload
}

/// The number in a payload of [`packet`].
pub fn number_in(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

fn send_steadily(socket: &UdpSocket, to: SocketAddr, stop: &AtomicBool, sent: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let number = sent.load(Ordering::Relaxed);
        socket.send_to(&packet(number, 100), to).expect("sending");
        sent.store(number + 1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(1));
    }
}

fn watch(socket: &UdpSocket, stop: &AtomicBool, sent: &AtomicU64) -> Seen {
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let (mut seen, mut expected) = (Seen::default(), 0);
    let mut buffer = [0; 2048];
    let mut last = Instant::now();
    loop {
        match socket.recv(&mut buffer) {
            Ok(len) => {
                let number = number_in(&buffer[..len]).unwrap_or(u64::MAX);
                seen.packets += 1;
                seen.misordered += u64::from(number < expected);
                seen.lost += number.saturating_sub(expected);
                expected = expected.max(number.saturating_add(1));
                last = Instant::now();
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let all = stop.load(Ordering::Relaxed) && expected >= sent.load(Ordering::Relaxed);
                if all || (stop.load(Ordering::Relaxed) && last.elapsed() > LAST_CALL) {
                    seen.lost += sent.load(Ordering::Relaxed).saturating_sub(expected);
                    return seen;
                }
            }
            Err(e) => panic!("receiving: {e}"),
        }
    }
}

fn sockets(from: Endpoint<'_>, to: Endpoint<'_>) -> (UdpSocket, UdpSocket, SocketAddr) {
    let receiver = net::udp(to.netns, to.address);
    let address = receiver.local_addr().expect("its address");
    (net::udp(from.netns, from.address), receiver, address)
}

/// Packets of an [`in_order`] flow that may be in flight: few enough for any buffer.
pub const WINDOW: u64 = 32;

/// How long a sender waits for room in the window before it counts a packet as lost.
const TAKEN_FOR_LOST: Duration = Duration::from_millis(200);

/// Time limit for the last packets in flight.
const LAST_CALL: Duration = Duration::from_secs(2);
