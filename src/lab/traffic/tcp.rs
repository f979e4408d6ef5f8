//! Bulk TCP: streams that send as fast as possible, or a given number of bytes that the sink verifies.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use super::content::{Content, FNV_OFFSET, fnv1a};

/// Options of a TCP source.
#[derive(Debug, Clone, clap::Args)]
pub struct TcpOptions {
    /// The sink's address and port
    #[arg(long)]
    pub to: SocketAddrV4,
    /// Parallel streams
    #[arg(long, default_value_t = 1)]
    pub streams: usize,
    /// Congestion control, set on every socket
    #[arg(long, default_value = CONGESTION)]
    pub congestion: String,
    /// Send this many bytes on each stream, to be verified; without this, send until stopped
    #[arg(long)]
    pub bytes: Option<u64>,
}

/// State of a TCP source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpReport {
    /// Nanoseconds since the start.
    pub at_ns: u64,
    /// Bytes that the kernel accepted.
    pub sent: u64,
    /// Checksum of the bytes sent, for each stream that has sent all.
    pub checksums: Vec<u64>,
    /// The sink's result for each stream that has sent all.
    pub verified: Vec<Verified>,
    /// Nanoseconds from connecting to the sink's result for the last verified stream.
    pub took_ns: u64,
    /// An error message for each stream that failed.
    pub errors: Vec<String>,
}

/// The sink's result for a verified stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Bytes received.
    pub bytes: u64,
    /// Their checksum: FNV-1a, 64 bits.
    pub checksum: u64,
    /// Position of the first byte that differs from the byte sent.
    pub first_wrong: Option<u64>,
}

/// The first bytes of every stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Greeting {
    /// The seed of the stream's content, if the sink is to verify it.
    pub(super) seed: Option<u64>,
}

/// A source that runs in this process.
#[derive(Debug, Clone)]
pub(super) struct TcpSource {
    started: Instant,
    state: Arc<TcpSourceState>,
}

#[derive(Debug, Default)]
struct TcpSourceState {
    sent: AtomicU64,
    stop: AtomicBool,
    finished: Mutex<TcpReport>,
}

impl TcpSource {
    /// Connects and starts to send.
    pub(super) fn start(options: &TcpOptions) -> io::Result<Self> {
        let source = Self { started: Instant::now(), state: Arc::default() };
        // Endless streams are not verified, so all of them send the same block again and again.
        let block = Content::new(0).take(BUFFER);
        for number in 0..options.streams {
            let (options, source, block) = (options.clone(), source.clone(), block.clone());
            thread::Builder::new().name(format!("tcp{number}")).spawn(move || {
                let outcome = match options.bytes {
                    Some(bytes) => {
                        source.send_verified(&options, number as u64 + 1, bytes).map(Some)
                    }
                    None => source.send_endlessly(&options, &block).map(|()| None),
                };
                let mut finished = source.state.finished.lock().unwrap_or_else(|e| e.into_inner());
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
        let finished = self.state.finished.lock().unwrap_or_else(|e| e.into_inner()).clone();
        TcpReport {
            at_ns: self.started.elapsed().as_nanos() as u64,
            sent: self.state.sent.load(Relaxed),
            ..finished
        }
    }

    pub(super) fn stop(&self) {
        self.state.stop.store(true, Relaxed);
    }

    /// Sends `block` again and again until the source is stopped.
    fn send_endlessly(&self, options: &TcpOptions, block: &Bytes) -> io::Result<()> {
        let mut stream = connect(options)?;
        stream.write_all(&Greeting { seed: None }.encode())?;
        while !self.state.stop.load(Relaxed) {
            let len = stream.write(block)?;
            self.state.sent.fetch_add(len as u64, Relaxed);
        }
        Ok(())
    }

    /// Sends `bytes` bytes of the content of `seed`. Returns their checksum and the sink's result.
    fn send_verified(
        &self,
        options: &TcpOptions,
        seed: u64,
        bytes: u64,
    ) -> io::Result<(u64, Verified)> {
        let mut stream = connect(options)?;
        stream.write_all(&Greeting { seed: Some(seed) }.encode())?;
        let mut content = Content::new(seed);
        let mut buffer = vec![0; BUFFER];
        let (mut left, mut checksum) = (bytes, FNV_OFFSET);
        while left > 0 && !self.state.stop.load(Relaxed) {
            let len = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            content.fill(&mut buffer[..len]);
            checksum = fnv1a(checksum, &buffer[..len]);
            stream.write_all(&buffer[..len])?;
            self.state.sent.fetch_add(len as u64, Relaxed);
            left -= len as u64;
        }
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok((checksum, serde_json::from_str(&answer)?))
    }
}

/// Connects with the congestion control set beforehand. Where BBR is the default, it makes the kernel
/// pace a new connection, and the pacing stays when the congestion control changes later.
fn connect(options: &TcpOptions) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_congestion(options.congestion.as_bytes())?;
    socket.connect_timeout(&options.to.into(), CONNECT_WITHIN)?;
    Ok(socket.into())
}

impl Verified {
    /// Whether the sink received exactly `bytes` bytes with this checksum.
    pub fn is(&self, bytes: u64, checksum: u64) -> bool {
        self.bytes == bytes && self.checksum == checksum && self.first_wrong.is_none()
    }
}

impl Greeting {
    pub(super) const LEN: usize = 24;

    /// Magic, whether the stream is verified (one byte), seven bytes of zeros, the seed.
    fn encode(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let mut buffer = &mut bytes[..];
        buffer.put_slice(MAGIC);
        buffer.put_u8(self.seed.is_some().into());
        buffer.put_bytes(0, 7);
        buffer.put_u64_le(self.seed.unwrap_or(0));
        bytes
    }

    /// The greeting in `bytes`; `None` if they do not begin with the magic.
    pub(super) fn decode(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let is_verified = rest.get_u8() == 1;
        rest.advance(7);
        let seed = rest.get_u64_le();
        Some(Self { seed: is_verified.then_some(seed) })
    }
}

/// The congestion control of all measured streams. Some systems default to BBR, whose pacing hides the
/// speed of a tunnel.
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
