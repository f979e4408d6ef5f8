//! Bulk TCP transfers whose receiver compares every byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use super::net;
use super::pattern::Pattern;
use super::test_lab::Endpoint;

/// Transfers `bytes` bytes over one connection and compares each.
#[track_caller]
pub fn transfer(from: Endpoint<'_>, to: Endpoint<'_>, bytes: u64, seed: u64) {
    let (sender, receiver) = connection(from, to);
    thread::scope(|scope| {
        let sent = scope.spawn(move || send(sender, bytes, seed, &AtomicBool::new(false)));
        assert_eq!(receive(receiver, seed, &AtomicU64::new(0)), bytes, "bytes received");
        assert_eq!(sent.join().expect("the sender"), bytes, "bytes sent");
    });
}

/// A transfer that runs until [`Self::finish`].
pub struct Endless {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<u64>,
}

impl Endless {
    /// Starts a transfer.
    pub fn start(from: Endpoint<'_>, to: Endpoint<'_>, seed: u64) -> Self {
        let (sender, receiver) = connection(from, to);
        let (stop, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        Self {
            sender: thread::spawn({
                let stop = stop.clone();
                move || send(sender, u64::MAX, seed, &stop)
            }),
            receiver: thread::spawn({
                let received = received.clone();
                move || receive(receiver, seed, &received)
            }),
            stop,
            received,
        }
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Ends the transfer and checks that all bytes arrived unchanged. Returns how many.
    #[track_caller]
    pub fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("the sender");
        let received = self.receiver.join().expect("the receiver");
        assert_eq!(received, sent, "bytes received");
        received
    }
}

fn connection(from: Endpoint<'_>, to: Endpoint<'_>) -> (TcpStream, TcpStream) {
    let listener: TcpListener = net::listener(to.netns, to.address);
    let address = listener.local_addr().expect("its address");
    let sender = net::connect(from.netns, address, net::TIMEOUT).expect("a connection");
    // Pacing, as with BBR, would leave the tunnel half idle.
    let _ = SockRef::from(&sender).set_tcp_congestion(b"cubic");
    let (receiver, _) = listener.accept().expect("the accepted connection");
    receiver.set_read_timeout(Some(net::TIMEOUT)).expect("a read timeout");
    (sender, receiver)
}

fn send(mut stream: TcpStream, bytes: u64, seed: u64, stop: &AtomicBool) -> u64 {
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 && !stop.load(Ordering::Relaxed) {
        let len = left.min(CHUNK as u64) as usize;
        pattern.fill(&mut buffer[..len]);
        stream.write_all(&buffer[..len]).expect("sending");
        left -= len as u64;
    }
    stream.shutdown(Shutdown::Write).expect("the end of the stream");
    bytes - left
}

fn receive(mut stream: TcpStream, seed: u64, count: &AtomicU64) -> u64 {
    let mut pattern = Pattern::new(seed);
    let (mut got, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut total = 0u64;
    loop {
        let mut len = 0;
        while len < CHUNK {
            match stream.read(&mut got[len..]) {
                Ok(0) => break,
                Ok(more) => {
                    len += more;
                    count.fetch_add(more as u64, Ordering::Relaxed);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => panic!("receiving, after {} bytes: {e}", total + len as u64),
            }
        }
        pattern.fill(&mut expected[..len]);
        assert!(got[..len] == expected[..len], "wrong bytes after {total}");
        total += len as u64;
        if len < CHUNK {
            return total;
        }
    }
}

/// Bytes after which a test takes a transfer as running.
pub const STARTED: u64 = 1 << 20;

/// Time limit for [`STARTED`] bytes.
pub const STARTS_WITHIN: Duration = Duration::from_secs(10);

const CHUNK: usize = 64 * 1024;
