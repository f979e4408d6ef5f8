//! Sends a capture from the rings of the data plane to the client.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::FINISH_TIMEOUT;
use super::frames::Frames;
use crate::dataplane::tap::{Capture, TapInterfaces};
use crate::humanize;
use crate::observe::pcapng::Statistics;

/// Limits that end a capture.
pub(super) struct Limits {
    /// Packets that are still to be sent.
    pub(super) packets: u64,
    /// Bytes that are still to be sent.
    pub(super) bytes: u64,
    /// Duration of the capture.
    pub(super) time: Option<Duration>,
}

/// Sends packets until a limit is reached, the client closes its side of the connection, or the daemon
/// stops; then the statistics, with the number of packets lost.
pub(super) async fn send(
    mut stream: UnixStream,
    capture: Capture,
    limits: Limits,
    interfaces: TapInterfaces,
    interface: String,
    mut stop: watch::Receiver<bool>,
) {
    let (reader, writer) = stream.split();
    let time = limits.time;
    let mut sender = CaptureStream::new(capture, limits, &interfaces, &interface, writer);
    let sent = tokio::select! {
        result = sender.run() => result,
        () = closed(reader) => Ok(()),
        // An error means that the sender is dropped, which happens when the daemon stops.
        _ = stop.wait_for(|stop| *stop) => Ok(()),
        () = elapsed(time) => Ok(()),
    };
    sender.capture.stop();
    if sent.is_ok() {
        // A client that does not read any more does not get the statistics.
        let _ = timeout(FINISH_TIMEOUT, sender.finish()).await;
    }
    let lost = sender.capture.lost().packets;
    let packets = sender.limits.packets;
    tracing::debug!(left = packets, lost, "a capture has ended");
}

/// Waits until the client has closed its side of the connection.
async fn closed(mut reader: ReadHalf<'_>) {
    let mut word = [0; 64];
    while reader.read(&mut word).await.is_ok_and(|len| len > 0) {}
}

async fn elapsed(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

struct CaptureStream<'a> {
    capture: Capture,
    /// What is left of the limits.
    limits: Limits,
    frames: Frames,
    writer: WriteHalf<'a>,
    /// Bytes that have not been written yet.
    out: BytesMut,
    started: u64,
}

impl<'a> CaptureStream<'a> {
    fn new(
        capture: Capture,
        limits: Limits,
        interfaces: &TapInterfaces,
        interface: &str,
        writer: WriteHalf<'a>,
    ) -> Self {
        let frames = Frames::new(capture.spec());
        let mut out = BytesMut::with_capacity(BATCH);
        frames.begin(&mut out, interfaces, interface);
        Self { capture, limits, frames, writer, out, started: now() }
    }

    /// Sends until a limit is reached. The future may be dropped at any await and [`Self::finish`] called
    /// afterwards.
    async fn run(&mut self) -> io::Result<()> {
        loop {
            self.flush().await?;
            if self.limits.packets == 0 || self.limits.bytes == 0 {
                return Ok(());
            }
            match self.fill() {
                0 => sleep(PAUSE).await,
                // Other tasks of the control thread must run as well.
                _ => yield_now().await,
            }
        }
    }

    /// Takes records of the workers, up to a batch; returns the number of packets.
    fn fill(&mut self) -> u64 {
        let before = self.limits.packets;
        self.limits.packets = self.frames.append(&mut self.out, self.capture.take(BATCH), before);
        self.limits.bytes = self.limits.bytes.saturating_sub(self.out.len() as u64);
        before - self.limits.packets
    }

    /// Writes `out`. If the future is dropped, `out` has the bytes that are not written yet.
    async fn flush(&mut self) -> io::Result<()> {
        self.writer.write_all_buf(&mut self.out).await
    }

    /// Writes the remaining records and the statistics, and closes the connection.
    async fn finish(&mut self) -> io::Result<()> {
        self.flush().await?;
        while self.limits.packets > 0 && self.limits.bytes > 0 && self.fill() > 0 {
            self.flush().await?;
        }
        let lost = self.capture.lost();
        let comment = match lost.packets {
            0 => "no packets are missing from the capture".to_owned(),
            lost => format!(
                "{lost} {} missing from the capture: its reader was too slow",
                humanize::agree(lost, "packet is", "packets are")
            ),
        };
        for (side, lost) in [lost.inner, lost.outer].into_iter().enumerate() {
            let Some(interface) = self.frames.interfaces()[side] else { continue };
            let delivered = self.frames.delivered[side];
            let statistics = Statistics {
                interface,
                start: self.started,
                end: now(),
                accepted: delivered + lost,
                lost,
                delivered,
                comment: &comment,
            };
            self.frames.writer().statistics(&mut self.out, &statistics);
        }
        self.flush().await?;
        self.writer.shutdown().await
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

/// Wait before empty rings are polled again.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes of packets per batch.
const BATCH: usize = 256 << 10;
