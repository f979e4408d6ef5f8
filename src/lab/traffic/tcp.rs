//! Bulk TCP: streams that send as fast as they may, or a given amount that the sink verifies.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use super::content::{Content, FNV_OFFSET, fnv1a};

/// What to send.
#[derive(Debug, Clone, clap::Args)]
pub struct TcpOptions {
    /// The sink's address and port
    #[arg(long)]
    pub to: SocketAddrV4,
    /// Streams at once
    #[arg(long, default_value_t = 1)]
    pub streams: usize,
    /// Congestion control, set on every socket
    #[arg(long, default_value = CONGESTION)]
    pub congestion: String,
    /// Send this many bytes on each stream and have them verified; otherwise send without end
    #[arg(long)]
    pub bytes: Option<u64>,
}

/// What a TCP source has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpReport {
    /// Its clock, in nanoseconds.
    pub at_ns: u64,
    /// Bytes handed to the kernel.
    pub sent: u64,
    /// Checksum of what was sent, for each stream that has sent everything.
    pub checksums: Vec<u64>,
    /// What the sink found on each stream that has sent everything.
    pub verified: Vec<Verified>,
    /// Time from connecting to the sink's word on the last verified stream, in nanoseconds.
    pub took_ns: u64,
    /// Streams that failed, and why.
    pub errors: Vec<String>,
}

/// What a sink found in a verified stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Bytes received.
    pub bytes: u64,
    /// Their checksum: FNV-1a, 64 bits.
    pub checksum: u64,
    /// Position of the first byte that was not what was sent.
    pub first_wrong: Option<u64>,
}

/// The first bytes of every stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Greeting {
    /// The stream's content, if the sink shall verify it.
    pub(super) seed: Option<u64>,
}

/// A source that runs in this process.
#[derive(Debug, Clone)]
pub(super) struct TcpSource {
    started: Instant,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    sent: AtomicU64,
    stop: AtomicBool,
    finished: Mutex<TcpReport>,
}

impl TcpSource {
    /// Connects and starts to send.
    pub(super) fn start(options: &TcpOptions) -> io::Result<Self> {
        let source = Self { started: Instant::now(), shared: Arc::default() };
        for number in 0..options.streams {
            let (options, source) = (options.clone(), source.clone());
            thread::Builder::new().name(format!("tcp{number}")).spawn(move || {
                let outcome = source.send(&options, number as u64 + 1);
                let mut finished = source.shared.finished.lock().unwrap_or_else(|e| e.into_inner());
                match outcome {
                    Ok(Some((checksum, verified))) => {
                        finished.checksums.push(checksum);
                        finished.verified.push(verified);
                        finished.took_ns = source.started.elapsed().as_nanos() as u64;
                    }
                    Ok(None) => {}
                    Err(e) => finished.errors.push(format!("stream {number}: {e}")),
                }
            })?;
        }
        Ok(source)
    }

    /// The counters now.
    pub(super) fn report(&self) -> TcpReport {
        let finished = self.shared.finished.lock().unwrap_or_else(|e| e.into_inner()).clone();
        TcpReport {
            at_ns: self.started.elapsed().as_nanos() as u64,
            sent: self.shared.sent.load(Relaxed),
            ..finished
        }
    }

    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Relaxed);
    }

    /// One stream, to its end.
    fn send(&self, options: &TcpOptions, seed: u64) -> io::Result<Option<(u64, Verified)>> {
        let mut stream = connect(options)?;
        stream.write_all(&Greeting { seed: options.bytes.map(|_| seed) }.encode())?;
        let mut buffer = vec![0; BUFFER];
        let mut content = Content::new(seed);
        content.fill(&mut buffer);
        let Some(mut left) = options.bytes else {
            while !self.shared.stop.load(Relaxed) {
                let len = stream.write(&buffer)?;
                self.shared.sent.fetch_add(len as u64, Relaxed);
            }
            return Ok(None);
        };
        let mut content = Content::new(seed);
        let mut checksum = FNV_OFFSET;
        while left > 0 && !self.shared.stop.load(Relaxed) {
            let len = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            content.fill(&mut buffer[..len]);
            checksum = fnv1a(checksum, &buffer[..len]);
            stream.write_all(&buffer[..len])?;
            self.shared.sent.fetch_add(len as u64, Relaxed);
            left -= len as u64;
        }
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(Some((checksum, serde_json::from_str(&answer)?)))
    }
}

/// A connection that has had its congestion control from the start: BBR, where it is the default,
/// has the kernel pace a connection when it is made, and the pacing stays when another one takes over.
fn connect(options: &TcpOptions) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_congestion(options.congestion.as_bytes())?;
    socket.connect_timeout(&options.to.into(), CONNECT_WITHIN)?;
    Ok(socket.into())
}

impl Verified {
    /// Whether the sink got exactly `bytes` bytes with this checksum.
    pub fn is(&self, bytes: u64, checksum: u64) -> bool {
        self.bytes == bytes && self.checksum == checksum && self.first_wrong.is_none()
    }
}

impl Greeting {
    pub(super) const LEN: usize = 24;

    fn encode(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = u8::from(self.seed.is_some());
        bytes[16..].copy_from_slice(&self.seed.unwrap_or(0).to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let seed = u64::from_le_bytes(*rest.last_chunk::<8>()?);
        (magic == MAGIC).then_some(Self { seed: (rest[0] == 1).then_some(seed) })
    }
}

/// The congestion control of all measured streams: some systems default to BBR, whose pacing
/// hides what a tunnel can do.
pub(super) const CONGESTION: &str = "cubic";

const MAGIC: &[u8; 8] = b"fu-bulk1";
const BUFFER: usize = 128 * 1024;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_survives_the_wire() {
        for seed in [None, Some(0), Some(u64::MAX)] {
            let greeting = Greeting { seed };
            assert_eq!(Greeting::decode(&greeting.encode()), Some(greeting));
        }
        assert_eq!(Greeting::decode(&[0; Greeting::LEN]), None);
    }
}
