//! Carries a capture from the rings of the data plane to the one who asked for it.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::LAST_WORDS;
use super::frames::Frames;
use crate::dataplane::tap::{Capture, Place};
use crate::observe::pcapng::Statistics;

/// When a capture ends of itself.
pub(super) struct Limits {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) time: Option<Duration>,
}

/// Carries until a limit is reached, the reader has closed its side, or the daemon stops; then says
/// what was lost.
pub(super) async fn carry(
    mut stream: UnixStream,
    capture: Capture,
    limits: Limits,
    place: Place,
    interface: String,
    mut stop: watch::Receiver<bool>,
) {
    let (reader, writer) = stream.split();
    let time = limits.time;
    let mut carrier = Carrier::new(capture, limits, &place, &interface, writer);
    let carried = tokio::select! {
        result = carrier.run() => result,
        () = closed(reader) => Ok(()),
        // A sender that is gone is a daemon that stops.
        _ = stop.wait_for(|stop| *stop) => Ok(()),
        () = over(time) => Ok(()),
    };
    carrier.capture.stop();
    if carried.is_ok() {
        // One who has stopped reading, or is gone, does without.
        let _ = timeout(LAST_WORDS, carrier.finish()).await;
    }
    let lost = carrier.capture.lost().packets;
    let packets = carrier.limits.packets;
    tracing::debug!(left = packets, lost, "a capture has ended");
}

/// The reader says nothing more, by closing its side or all of it.
async fn closed(mut reader: ReadHalf<'_>) {
    let mut word = [0; 64];
    while reader.read(&mut word).await.is_ok_and(|len| len > 0) {}
}

async fn over(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

struct Carrier<'a> {
    capture: Capture,
    /// What is left of them.
    limits: Limits,
    frames: Frames,
    writer: WriteHalf<'a>,
    /// What has not been written yet.
    out: BytesMut,
    started: u64,
}

impl<'a> Carrier<'a> {
    fn new(
        capture: Capture,
        limits: Limits,
        place: &Place,
        interface: &str,
        writer: WriteHalf<'a>,
    ) -> Self {
        let frames = Frames::new(capture.wanted());
        let mut out = BytesMut::with_capacity(BATCH);
        frames.begin(&mut out, place, interface);
        Self { capture, limits, frames, writer, out, started: now() }
    }

    /// Carries until a limit is reached. May be given up at any await and finished then.
    async fn run(&mut self) -> io::Result<()> {
        loop {
            self.flush().await?;
            if self.limits.packets == 0 || self.limits.bytes == 0 {
                return Ok(());
            }
            match self.fill() {
                0 => sleep(PAUSE).await,
                // The control loop has other things to do as well.
                _ => yield_now().await,
            }
        }
    }

    /// Takes what the workers have shown, up to a batch; returns how many packets those were.
    fn fill(&mut self) -> u64 {
        let before = self.limits.packets;
        self.limits.packets = self.frames.append(&mut self.out, self.capture.take(BATCH), before);
        self.limits.bytes = self.limits.bytes.saturating_sub(self.out.len() as u64);
        before - self.limits.packets
    }

    /// Writes what there is. If the future is dropped before its end, `out` is what is left.
    async fn flush(&mut self) -> io::Result<()> {
        self.writer.write_all_buf(&mut self.out).await
    }

    /// The rest of what was taken, and what was lost.
    async fn finish(&mut self) -> io::Result<()> {
        self.flush().await?;
        while self.limits.packets > 0 && self.limits.bytes > 0 && self.fill() > 0 {
            self.flush().await?;
        }
        let lost = self.capture.lost();
        let comment = match lost.packets {
            0 => "nothing was lost to the capture".to_owned(),
            lost => format!("{lost} packets were lost to the capture: its reader was too slow"),
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

/// Time between two looks at rings that were empty.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes of packets that are taken at a time.
const BATCH: usize = 256 << 10;
