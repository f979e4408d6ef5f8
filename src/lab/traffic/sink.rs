//! The receiver: one process per container that receives bulk TCP, counts UDP and answers echo requests.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::content::Checker;
use super::tcp::{Greeting, Verified};
use super::udp::Tag;
use crate::sys::udp;

/// Counters of a sink since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkReport {
    /// Nanoseconds since the start.
    pub at_ns: u64,
    /// Bytes received on all TCP connections.
    pub tcp_bytes: u64,
    /// UDP packets.
    pub udp_packets: u64,
    /// Bytes of UDP payload.
    pub udp_bytes: u64,
    /// UDP packets that arrived after a later packet of their flow, or twice.
    pub udp_disordered: u64,
    /// UDP packets not sent by a generator.
    pub udp_foreign: u64,
    /// UDP packets dropped because the sink's receive buffer was full: not lost in the tunnel.
    pub udp_overflowed: u64,
    /// Echo requests answered.
    pub echoed: u64,
}

/// A sink that runs in this process.
#[derive(Debug, Clone)]
pub(super) struct Sink {
    started: Instant,
    counters: Arc<SinkCounters>,
    datagrams: Arc<UdpSocket>,
}

#[derive(Debug, Default)]
struct SinkCounters {
    tcp_bytes: AtomicU64,
    udp_packets: AtomicU64,
    udp_bytes: AtomicU64,
    udp_disordered: AtomicU64,
    udp_foreign: AtomicU64,
    echoed: AtomicU64,
}

impl Sink {
    /// Opens the ports and starts the threads.
    pub(super) fn start() -> io::Result<Self> {
        let counters = Arc::new(SinkCounters::default());
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, SINK_PORT))?;
        let datagrams = Arc::new(udp_socket(SINK_PORT)?);
        let echo = udp_socket(ECHO_PORT)?;
        let run = |name: &str, work: Box<dyn FnOnce(&SinkCounters) + Send>| {
            let counters = Arc::clone(&counters);
            thread::Builder::new().name(name.into()).spawn(move || work(&counters)).map(drop)
        };
        let counted = Arc::clone(&datagrams);
        run("udp", Box::new(move |counters| count_datagrams(&counted, counters)))?;
        run("echo", Box::new(move |counters| answer(&echo, counters)))?;
        let shared = Arc::clone(&counters);
        thread::Builder::new().name("accept".into()).spawn(move || accept(&listener, &shared))?;
        Ok(Self { started: Instant::now(), counters, datagrams })
    }

    /// The counters now.
    pub(super) fn report(&self) -> SinkReport {
        let c = &self.counters;
        SinkReport {
            at_ns: self.started.elapsed().as_nanos() as u64,
            tcp_bytes: c.tcp_bytes.load(Relaxed),
            udp_packets: c.udp_packets.load(Relaxed),
            udp_bytes: c.udp_bytes.load(Relaxed),
            udp_disordered: c.udp_disordered.load(Relaxed),
            udp_foreign: c.udp_foreign.load(Relaxed),
            udp_overflowed: udp::dropped(&self.datagrams).unwrap_or(0).into(),
            echoed: c.echoed.load(Relaxed),
        }
    }
}

/// A socket whose receive buffer holds the packets of the time in which a busy machine does not schedule
/// this process, so that losses are those of the tunnel.
fn udp_socket(port: u16) -> io::Result<UdpSocket> {
    let socket = udp::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port), false)?;
    udp::grow_buffers(&socket);
    Ok(socket)
}

fn accept(listener: &TcpListener, counters: &Arc<SinkCounters>) {
    for stream in listener.incoming().flatten() {
        let counters = Arc::clone(counters);
        let _ = thread::Builder::new().name("tcp".into()).spawn(move || {
            let _ = receive(stream, &counters);
        });
    }
}

/// Reads one connection to its end, and answers a verified one with the result.
fn receive(mut stream: TcpStream, counters: &SinkCounters) -> io::Result<()> {
    let mut greeting = [0; Greeting::LEN];
    stream.read_exact(&mut greeting)?;
    let Some(greeting) = Greeting::decode(&greeting) else { return Ok(()) };
    let mut checker = greeting.seed.map(Checker::new);
    let mut buffer = vec![0; BUFFER];
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        counters.tcp_bytes.fetch_add(len as u64, Relaxed);
        if let Some(checker) = &mut checker {
            checker.take(&buffer[..len]);
        }
    }
    if let Some(checker) = checker {
        let found = Verified {
            bytes: checker.received(),
            checksum: checker.checksum(),
            first_wrong: checker.first_wrong(),
        };
        stream.write_all(serde_json::to_string(&found)?.as_bytes())?;
    }
    Ok(())
}

fn count_datagrams(socket: &UdpSocket, counters: &SinkCounters) {
    let mut buffer = vec![0; BUFFER];
    let mut run = 0;
    let mut next: Vec<u64> = Vec::new();
    loop {
        let Ok(len) = socket.recv(&mut buffer) else { continue };
        let Some(tag) = Tag::decode(&buffer[..len]) else {
            counters.udp_foreign.fetch_add(1, Relaxed);
            continue;
        };
        if tag.run != run {
            run = tag.run;
            next.clear();
        }
        let flow = usize::from(tag.flow);
        if next.len() <= flow {
            next.resize(flow + 1, 0);
        }
        if tag.sequence < next[flow] {
            counters.udp_disordered.fetch_add(1, Relaxed);
        } else {
            next[flow] = tag.sequence + 1;
        }
        counters.udp_packets.fetch_add(1, Relaxed);
        counters.udp_bytes.fetch_add(len as u64, Relaxed);
    }
}

fn answer(socket: &UdpSocket, counters: &SinkCounters) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) => {
                if socket.send_to(&buffer[..len], from).is_ok() {
                    counters.echoed.fetch_add(1, Relaxed);
                }
            }
            Err(_) => thread::sleep(Duration::from_micros(10)),
        }
    }
}

/// Port on which a sink receives bulk TCP and counts UDP.
pub const SINK_PORT: u16 = 5301;

/// Port on which a sink echoes UDP.
pub const ECHO_PORT: u16 = 5302;

const BUFFER: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// 8,192 packets far exceed a buffer of the default size and arrive in some 40 ms, longer than a busy
    /// machine leaves a process unscheduled.
    #[test]
    fn a_sinks_buffer_outlasts_a_pause() {
        let sink = udp_socket(0).unwrap();
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, sink.local_addr().unwrap().port());
        let source = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for _ in 0..8192 {
            source.send_to(&[0; 18], to).unwrap();
        }
        assert_eq!(udp::dropped(&sink).unwrap(), 0);
    }
}
