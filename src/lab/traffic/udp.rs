//! UDP: numbered packets at a fixed rate or as fast as possible, and requests that wait for their echo.
//!
//! Every packet is one `send` system call, as in most applications. A generator that batched would
//! favour tunnels that batch.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};
use serde::{Deserialize, Serialize};

use super::latency::{LatencyHistogram, Percentiles};

/// Options of a UDP source.
#[derive(Debug, Clone, clap::Args)]
pub struct UdpOptions {
    /// The sink's address and port
    #[arg(long)]
    pub to: SocketAddrV4,
    /// Bytes of payload, at least 14
    #[arg(long, default_value_t = 18)]
    pub size: usize,
    /// Packets per second over all flows; 0: as fast as possible
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Flows (source ports), used in turn
    #[arg(long, default_value_t = 1)]
    pub flows: u16,
}

/// Options of an echo client.
#[derive(Debug, Clone, clap::Args)]
pub struct EchoOptions {
    /// The echo's address and port
    #[arg(long)]
    pub to: SocketAddrV4,
    /// Bytes of payload, at least 14
    #[arg(long, default_value_t = 64)]
    pub size: usize,
    /// Requests in flight, each from a thread of its own
    #[arg(long, default_value_t = 1)]
    pub inflight: usize,
}

/// Counters of a UDP source since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpReport {
    /// Nanoseconds since the start.
    pub at_ns: u64,
    /// Packets that the kernel accepted.
    pub sent: u64,
    /// Packets that the kernel rejected.
    pub refused: u64,
}

/// Results of an echo client since the last mark.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct EchoReport {
    /// Nanoseconds since the start.
    pub at_ns: u64,
    /// Requests answered.
    pub answered: u64,
    /// Requests without an answer within 200 ms.
    pub lost: u64,
    /// Round-trip times in microseconds.
    pub times: Percentiles,
}

/// The first bytes of every packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) sequence: u64,
    pub(super) run: u32,
    pub(super) flow: u16,
}

/// A UDP source that runs in this process.
#[derive(Debug, Clone)]
pub(super) struct UdpSource {
    started: Instant,
    counters: Arc<SendCounters>,
}

/// An echo client that runs in this process.
#[derive(Debug, Clone)]
pub(super) struct EchoClient {
    started: Instant,
    results: Arc<Mutex<EchoResults>>,
}

/// Results of an echo client since the last mark.
#[derive(Debug, Default)]
struct EchoResults {
    times: LatencyHistogram,
    lost: u64,
}

#[derive(Debug, Default)]
struct SendCounters {
    sent: AtomicU64,
    refused: AtomicU64,
    stop: AtomicBool,
}

impl UdpSource {
    pub(super) fn start(options: &UdpOptions) -> io::Result<Self> {
        let sockets: Vec<UdpSocket> =
            (0..options.flows.max(1)).map(|_| connected(options.to)).collect::<Result<_, _>>()?;
        let source = Self { started: Instant::now(), counters: Arc::default() };
        let (counters, size, rate) = (Arc::clone(&source.counters), options.size, options.rate);
        thread::Builder::new()
            .name("udp".into())
            .spawn(move || send_all(&sockets, size.max(Tag::LEN), rate, &counters))?;
        Ok(source)
    }

    pub(super) fn report(&self) -> UdpReport {
        UdpReport {
            at_ns: self.started.elapsed().as_nanos() as u64,
            sent: self.counters.sent.load(Relaxed),
            refused: self.counters.refused.load(Relaxed),
        }
    }

    pub(super) fn stop(&self) {
        self.counters.stop.store(true, Relaxed);
    }
}

impl EchoClient {
    pub(super) fn start(options: &EchoOptions) -> io::Result<Self> {
        let client = Self { started: Instant::now(), results: Arc::default() };
        for number in 0..options.inflight.max(1) {
            let socket = connected(options.to)?;
            socket.set_read_timeout(Some(GIVE_UP))?;
            let (results, size) = (Arc::clone(&client.results), options.size.max(Tag::LEN));
            thread::Builder::new()
                .name(format!("echo{number}"))
                .spawn(move || send_requests(&socket, size, &results))?;
        }
        Ok(client)
    }

    /// Clears the results.
    pub(super) fn mark(&self) {
        let mut results = self.results.lock().unwrap_or_else(|e| e.into_inner());
        results.times.clear();
        results.lost = 0;
    }

    pub(super) fn report(&self) -> EchoReport {
        let results = self.results.lock().unwrap_or_else(|e| e.into_inner());
        EchoReport {
            at_ns: self.started.elapsed().as_nanos() as u64,
            answered: results.times.count(),
            lost: results.lost,
            times: results.times.percentiles(),
        }
    }
}

impl Tag {
    pub(super) const LEN: usize = 14;

    /// Writes the tag to the beginning of `packet`, which has at least [`Self::LEN`] bytes.
    fn write(self, mut packet: &mut [u8]) {
        packet.put_u64_le(self.sequence);
        packet.put_u32_le(self.run);
        packet.put_u16_le(self.flow);
    }

    /// The tag of `packet`; `None` if `packet` is too short.
    pub(super) fn decode(mut packet: &[u8]) -> Option<Self> {
        Some(Self {
            sequence: packet.try_get_u64_le().ok()?,
            run: packet.try_get_u32_le().ok()?,
            flow: packet.try_get_u16_le().ok()?,
        })
    }
}

fn connected(to: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    Ok(socket)
}

/// Sends packets from all sockets in turn until the source is stopped.
fn send_all(sockets: &[UdpSocket], size: usize, rate: u64, counters: &SendCounters) {
    let run = std::process::id();
    let mut packet = vec![0x5a; size];
    let started = Instant::now();
    let mut number = 0u64;
    let flows = sockets.len() as u64;
    loop {
        let due = if rate == 0 {
            number + UNPACED_BURST
        } else {
            (started.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000) as u64
        };
        while number < due {
            let flow = number % flows;
            Tag { sequence: number / flows, run, flow: flow as u16 }.write(&mut packet);
            match sockets[flow as usize].send(&packet) {
                Ok(_) => counters.sent.fetch_add(1, Relaxed),
                Err(_) => counters.refused.fetch_add(1, Relaxed),
            };
            number += 1;
        }
        if counters.stop.load(Relaxed) {
            return;
        }
        if rate != 0 {
            thread::sleep(BURST_INTERVAL);
        }
    }
}

/// Sends one request after another, each once the one before was answered or given up.
fn send_requests(socket: &UdpSocket, size: usize, results: &Mutex<EchoResults>) {
    let mut request = vec![0x5a; size];
    let mut answer = vec![0; size];
    let run = std::process::id();
    let mut sequence = 0;
    loop {
        sequence += 1;
        Tag { sequence, run, flow: 0 }.write(&mut request);
        let sent = Instant::now();
        let answered = ask(socket, &request, &mut answer, sequence, sent);
        let took = sent.elapsed();
        let mut results = results.lock().unwrap_or_else(|e| e.into_inner());
        if answered {
            results.times.record(took);
        } else {
            results.lost += 1;
        }
    }
}

/// Sends one request and waits for its answer; answers to earlier requests are ignored. Returns whether
/// it was answered.
fn ask(socket: &UdpSocket, request: &[u8], answer: &mut [u8], wanted: u64, sent: Instant) -> bool {
    if socket.send(request).is_err() {
        thread::sleep(Duration::from_millis(1));
        return false;
    }
    loop {
        match socket.recv(answer) {
            Ok(len) if Tag::decode(&answer[..len]).is_some_and(|t| t.sequence == wanted) => {
                return true;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
            Ok(_) | Err(_) if sent.elapsed() > GIVE_UP => return false,
            Ok(_) | Err(_) => {}
        }
    }
}

/// Time that a source with a rate sleeps between bursts. With the kernel's timer slack it wakes about
/// every 0.1 ms, so 100,000 packets per second are sent in bursts of about ten.
const BURST_INTERVAL: Duration = Duration::from_micros(50);

const UNPACED_BURST: u64 = 256;
const GIVE_UP: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_fits_the_smallest_packet() {
        let tag = Tag { sequence: 1 << 40, run: 77, flow: 3 };
        let mut packet = [0; Tag::LEN];
        tag.write(&mut packet);
        assert_eq!(Tag::decode(&packet), Some(tag));
        assert_eq!(Tag::decode(&packet[1..]), None);
    }
}
