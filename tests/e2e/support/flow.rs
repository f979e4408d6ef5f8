//! UDP flows of numbered packets: order, loss and content are checked where they arrive.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::net;
use super::pattern::Pattern;
use super::world::Place;

/// Sends `count` packets, the payload of packet `n` being `size(n)` bytes (at least 8), and checks
/// that each arrives, in order and unchanged. At most [`WINDOW`] are on their way at a time.
#[track_caller]
pub fn in_order(from: Place<'_>, to: Place<'_>, count: u64, size: impl Fn(u64) -> usize + Sync) {
    let arrived = ordered(from, to, count, size);
    assert_eq!(arrived, count, "packets that arrived");
}

/// The same beside other traffic, which may fill a queue on the way: packets may be lost, yet what
/// arrives is in order and unchanged. Returns how many those were.
#[track_caller]
pub fn ordered(
    from: Place<'_>,
    to: Place<'_>,
    count: u64,
    size: impl Fn(u64) -> usize + Sync,
) -> u64 {
    let (sender, receiver, address) = sockets(from, to);
    receiver.set_read_timeout(Some(LAST_CALL)).expect("a timeout");
    // The number after the last that came.
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
            let patience = Instant::now();
            while number.saturating_sub(next.load(Ordering::Acquire)) >= WINDOW
                && patience.elapsed() < TAKEN_FOR_LOST
                && !receiving.is_finished()
            {
                thread::yield_now();
            }
            sender.send_to(&packet(number, size(number)), address).expect("sending");
        }
        receiving.join().expect("the receiver").unwrap_or_else(|wrong: String| panic!("{wrong}"))
    })
}

/// Sends each payload and waits until the other end has sent it back.
#[track_caller]
pub fn echo(from: Place<'_>, to: Place<'_>, sizes: impl IntoIterator<Item = usize>) {
    echo_within(1, from, to, sizes);
}

/// The same, where each payload may be sent up to `tries` times: beside other traffic, which may
/// fill a queue on the way.
#[track_caller]
pub fn echo_within(
    tries: u32,
    from: Place<'_>,
    to: Place<'_>,
    sizes: impl IntoIterator<Item = usize>,
) {
    let (sender, receiver, address) = sockets(from, to);
    sender.set_read_timeout(Some(net::PATIENCE / tries)).expect("a timeout");
    receiver.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let done = AtomicBool::new(false);
    let wrong = thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 65536];
            while !done.load(Ordering::Relaxed) {
                if let Ok((len, asker)) = receiver.recv_from(&mut buffer) {
                    receiver.send_to(&buffer[..len], asker).expect("the echo");
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

/// Whether `size` bytes come back in time; an error if others do.
fn ask(socket: &UdpSocket, to: SocketAddr, size: usize) -> Result<bool, String> {
    let sent = Pattern::bytes(size as u64, size);
    socket.send_to(&sent, to).expect("sending");
    let mut buffer = vec![0; 65536];
    loop {
        match socket.recv(&mut buffer) {
            Ok(len) if buffer[..len] == sent => return Ok(true),
            // The late answer to another question.
            Ok(len) if buffer[..len] == Pattern::bytes(len as u64, len) => {}
            Ok(len) => return Err(format!("{len} other bytes")),
            Err(_) => return Ok(false),
        }
    }
}

/// A steady flow in the background, about a thousand packets a second.
pub struct Background {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<Seen>,
}

/// What the far end of a flow saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub packets: u64,
    pub lost: u64,
    pub misordered: u64,
}

impl Background {
    /// Starts a flow.
    pub fn start(from: Place<'_>, to: Place<'_>) -> Self {
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

    /// Ends the flow. Returns how many packets were sent and what the far end saw.
    pub fn end(self) -> (u64, Seen) {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().expect("the sender");
        let seen = self.receiver.join().expect("the receiver");
        (self.sent.load(Ordering::Relaxed), seen)
    }

    /// Ends the flow; each packet must have arrived once, in order. Returns how many they were.
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

/// The payload of packet `number`: the number, then bytes that depend on it.
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

fn sockets(from: Place<'_>, to: Place<'_>) -> (UdpSocket, UdpSocket, SocketAddr) {
    let receiver = net::udp(to.netns, to.address);
    let address = receiver.local_addr().expect("its address");
    (net::udp(from.netns, from.address), receiver, address)
}

/// How many packets of an [`in_order`] flow may be on their way: few enough for any buffer.
pub const WINDOW: u64 = 32;

/// How long a sender waits for room in the window before it gives a packet up.
const TAKEN_FOR_LOST: Duration = Duration::from_millis(200);

/// How long the last packets may take.
const LAST_CALL: Duration = Duration::from_secs(2);
