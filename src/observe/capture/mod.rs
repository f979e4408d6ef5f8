//! Captures for the status socket: packets as the data plane handles them, as a pcapng stream.
//!
//! A packet that is carried appears twice: at the TUN device (the *inner* interface) and as a datagram
//! (the *outer* interface). A packet that is dropped appears only at the interface that it arrived at.

mod frames;
mod request;
mod stream;

use std::time::Duration;

use serde_json::json;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::protocol::Answer;
use super::protocol::capture::CaptureRequest;
use crate::dataplane::tap::{Capture, Tap, TapInterfaces};

/// The captures of one daemon, of which one runs at a time.
pub struct Captures {
    tap: Tap,
    /// True when the daemon stops; each running capture holds a receiver.
    stop: watch::Sender<bool>,
}

impl Default for Captures {
    fn default() -> Self {
        Self { tap: Tap::default(), stop: watch::Sender::new(false) }
    }
}

impl Captures {
    /// The tap through which the data plane records packets.
    pub fn tap(&self) -> Tap {
        self.tap.clone()
    }

    /// Begins a capture. `interface` is the name of the interface between hosts.
    pub fn begin(&self, request: &CaptureRequest, interface: &str) -> Answer {
        let begun = request.spec().and_then(|wanted| {
            let interfaces =
                self.tap.interfaces().ok_or("the data plane is not running yet; try again")?;
            Ok((self.tap.capture(wanted).map_err(|busy| busy.to_string())?, interfaces))
        });
        match begun {
            Ok((capture, interfaces)) => self.answer(capture, request, interfaces, interface),
            Err(error) => Answer::Error(error),
        }
    }

    fn answer(
        &self,
        capture: Capture,
        request: &CaptureRequest,
        interfaces: TapInterfaces,
        interface: &str,
    ) -> Answer {
        let first = json!({ "inner": interfaces.tun, "outer": interface });
        let (limits, stop) = (request.limits(), self.stop.subscribe());
        let interface = interface.to_owned();
        let send = move |stream: UnixStream| -> futures::future::BoxFuture<'static, ()> {
            Box::pin(stream::send(stream, capture, limits, interfaces, interface, stop))
        };
        Answer::Stream { first, send: Box::new(send) }
    }

    /// Ends the running capture and waits until its statistics are written.
    pub async fn end(&self) {
        self.stop.send_replace(true);
        // A client that does not read does not get the statistics.
        let _ = timeout(FINISH_TIMEOUT, self.stop.closed()).await;
    }
}

/// Longest time that the end of a capture waits for a slow client.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);
