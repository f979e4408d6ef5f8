//! UDP: numbered packets at a rate or as fast as possible, and requests that wait for their echo.
//!
//! Every packet is one `send` system call: a generator that batches would not be what
//! applications do, and would favour tunnels that batch.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::histogram::{Histogram, Percentiles};

/// What to send.
#[derive(Debug, Clone, clap::Args)]
pub struct UdpOptions {
    /// The sink's address and port
    #[arg(long)]
    pub to: SocketAddrV4,
    /// Bytes of payload, at least 14
    #[arg(long, default_value_t = 18)]
    pub size: usize,
    /// Packets a second over all flows; 0: as fast as possible
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Flows (source ports) taken in turn
    #[arg(long, default_value_t = 1)]
    pub flows: u16,
}

/// What to ask.
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

/// What a UDP source has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpReport {
    /// Its clock, in nanoseconds.
    pub at_ns: u64,
    /// Packets the kernel took.
    pub sent: u64,
    /// Packets the kernel refused.
    pub refused: u64,
}

/// What an echo client has seen since the last mark.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct EchoReport {
    /// Its clock, in nanoseconds.
    pub at_ns: u64,
    /// Answers.
    pub answered: u64,
    /// Requests given up after 200 ms.
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
    shared: Arc<Sent>,
}

/// An echo client that runs in this process.
#[derive(Debug, Clone)]
pub(super) struct EchoClient {
    started: Instant,
    seen: Arc<Mutex<(Histogram, u64)>>,
}

#[derive(Debug, Default)]
struct Sent {
    sent: AtomicU64,
    refused: AtomicU64,
    stop: AtomicBool,
}

impl UdpSource {
    pub(super) fn start(options: &UdpOptions) -> io::Result<Self> {
        let sockets: Vec<UdpSocket> =
            (0..options.flows.max(1)).map(|_| connected(options.to)).collect::<Result<_, _>>()?;
        let source = Self { started: Instant::now(), shared: Arc::default() };
        let (shared, size, rate) = (Arc::clone(&source.shared), options.size, options.rate);
        thread::Builder::new()
            .name("udp".into())
            .spawn(move || blast(&sockets, size.max(Tag::LEN), rate, &shared))?;
        Ok(source)
    }

    pub(super) fn report(&self) -> UdpReport {
        UdpReport {
            at_ns: self.started.elapsed().as_nanos() as u64,
            sent: self.shared.sent.load(Relaxed),
            refused: self.shared.refused.load(Relaxed),
        }
    }

    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Relaxed);
    }
}

impl EchoClient {
    pub(super) fn start(options: &EchoOptions) -> io::Result<Self> {
        let client = Self { started: Instant::now(), seen: Arc::default() };
        for number in 0..options.inflight.max(1) {
            let socket = connected(options.to)?;
            socket.set_read_timeout(Some(GIVE_UP))?;
            let (seen, size) = (Arc::clone(&client.seen), options.size.max(Tag::LEN));
            thread::Builder::new()
                .name(format!("echo{number}"))
                .spawn(move || ask_forever(&socket, size, &seen))?;
        }
        Ok(client)
    }

    /// Forgets what was seen so far.
    pub(super) fn mark(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(|e| e.into_inner());
        seen.0.clear();
        seen.1 = 0;
    }

    pub(super) fn report(&self) -> EchoReport {
        let seen = self.seen.lock().unwrap_or_else(|e| e.into_inner());
        EchoReport {
            at_ns: self.started.elapsed().as_nanos() as u64,
            answered: seen.0.count(),
            lost: seen.1,
            times: seen.0.percentiles(),
        }
    }
}

impl Tag {
    pub(super) const LEN: usize = 14;

    fn write(self, packet: &mut [u8]) {
        packet[..8].copy_from_slice(&self.sequence.to_le_bytes());
        packet[8..12].copy_from_slice(&self.run.to_le_bytes());
        packet[12..14].copy_from_slice(&self.flow.to_le_bytes());
    }

    pub(super) fn decode(packet: &[u8]) -> Option<Self> {
        let (sequence, rest) = packet.split_first_chunk()?;
        let (run, rest) = rest.split_first_chunk()?;
        let flow = rest.first_chunk()?;
        Some(Self {
            sequence: u64::from_le_bytes(*sequence),
            run: u32::from_le_bytes(*run),
            flow: u16::from_le_bytes(*flow),
        })
    }
}

fn connected(to: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    Ok(socket)
}

fn blast(sockets: &[UdpSocket], size: usize, rate: u64, shared: &Sent) {
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
                Ok(_) => shared.sent.fetch_add(1, Relaxed),
                Err(_) => shared.refused.fetch_add(1, Relaxed),
            };
            number += 1;
        }
        if shared.stop.load(Relaxed) {
            return;
        }
        if rate != 0 {
            thread::sleep(PACE);
        }
    }
}

fn ask_forever(socket: &UdpSocket, size: usize, seen: &Mutex<(Histogram, u64)>) {
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
        let mut seen = seen.lock().unwrap_or_else(|e| e.into_inner());
        if answered {
            seen.0.record(took);
        } else {
            seen.1 += 1;
        }
    }
}

/// Sends one request and waits for its answer; late answers to earlier requests are passed over.
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

/// A paced source sleeps this long between bursts; with the kernel's slack it wakes about every
/// 0.1 ms, so a rate of 100,000 packets a second leaves in bursts of about ten.
const PACE: Duration = Duration::from_micros(50);

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
