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
    let (sender, receiver, address) = sockets(from, to);
    let arrived = AtomicU64::new(0);
    thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let mut buffer = vec![0; 65536];
            for number in 0..count {
                let len = match receiver.recv(&mut buffer) {
                    Ok(len) => len,
                    Err(e) => return Err(format!("packet {number} of {count} did not come: {e}")),
                };
                check(number, &buffer[..len], size(number))?;
                arrived.store(number + 1, Ordering::Release);
            }
            Ok(())
        });
        for number in 0..count {
            while number - arrived.load(Ordering::Acquire) >= WINDOW {
                if receiving.is_finished() {
                    break;
                }
                thread::yield_now();
            }
            sender.send_to(&packet(number, size(number)), address).expect("sending");
        }
        if let Err(wrong) = receiving.join().expect("the receiver") {
            panic!("{wrong}");
        }
    });
}

/// Sends each payload and waits until the other end has sent it back.
#[track_caller]
pub fn echo(from: Place<'_>, to: Place<'_>, sizes: impl IntoIterator<Item = usize>) {
    let (sender, receiver, address) = sockets(from, to);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            receiver.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
            let mut buffer = vec![0; 65536];
            while !done.load(Ordering::Relaxed) {
                if let Ok((len, asker)) = receiver.recv_from(&mut buffer) {
                    receiver.send_to(&buffer[..len], asker).expect("the echo");
                }
            }
        });
        let mut wrong = None;
        let mut buffer = vec![0; 65536];
        for size in sizes {
            let sent = Pattern::bytes(size as u64, size);
            sender.send_to(&sent, address).expect("sending");
            wrong = match sender.recv(&mut buffer) {
                Ok(len) if buffer[..len] == sent => continue,
                Ok(len) => Some(format!("{size} bytes came back as {len} others")),
                Err(e) => Some(format!("{size} bytes did not come back: {e}")),
            };
            break;
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(wrong, None);
    });
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

    /// Ends the flow; each packet must have arrived once, in order. Returns how many they were.
    #[track_caller]
    pub fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().expect("the sender");
        let seen = self.receiver.join().expect("the receiver");
        let sent = self.sent.load(Ordering::Relaxed);
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

fn check(number: u64, payload: &[u8], size: usize) -> Result<(), String> {
    match number_in(payload) {
        _ if payload == packet(number, size) => Ok(()),
        Some(other) if other != number => Err(format!("packet {other} came in place of {number}")),
        _ => Err(format!("packet {number} came with other bytes, {} for {size}", payload.len())),
    }
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
pub const WINDOW: u64 = 64;

/// How long the last packets may take.
const LAST_CALL: Duration = Duration::from_secs(2);
