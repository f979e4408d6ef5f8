//! Captures for the status socket: packets as the data plane sees them, as a pcapng stream.
//!
//! A packet that is carried is seen twice: at the TUN device (the *inner* interface) and as a
//! datagram (the *outer* interface). One that is dropped is seen where it came from alone.

mod carry;
mod frames;
mod request;

use std::time::Duration;

use serde_json::json;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::protocol::Answer;
use super::protocol::capture::Request;
use crate::dataplane::tap::{Capture, Place, Tap};

/// The captures of one daemon: one at a time.
pub struct Captures {
    tap: Tap,
    /// True when the daemon stops; those who carry a capture hold a receiver.
    stop: watch::Sender<bool>,
}

impl Default for Captures {
    fn default() -> Self {
        Self { tap: Tap::default(), stop: watch::Sender::new(false) }
    }
}

impl Captures {
    /// Where the data plane shows its packets.
    pub fn tap(&self) -> Tap {
        self.tap.clone()
    }

    /// Begins a capture. `interface` is the name of the interface between hosts.
    pub fn begin(&self, request: &Request, interface: &str) -> Answer {
        let begun = request.wanted().and_then(|wanted| {
            let place = self.tap.place().ok_or("the data plane is not there yet; try again")?;
            Ok((self.tap.capture(wanted).map_err(|busy| busy.to_string())?, place))
        });
        match begun {
            Ok((capture, place)) => self.answer(capture, request, place, interface),
            Err(error) => Answer::Error(error),
        }
    }

    fn answer(&self, capture: Capture, request: &Request, place: Place, interface: &str) -> Answer {
        let first = json!({ "inner": place.tun, "outer": interface });
        let (limits, stop) = (request.limits(), self.stop.subscribe());
        let interface = interface.to_owned();
        let carry = move |stream: UnixStream| -> futures::future::BoxFuture<'static, ()> {
            Box::pin(carry::carry(stream, capture, limits, place, interface, stop))
        };
        Answer::Stream { first, carry: Box::new(carry) }
    }

    /// Ends what is running, with the last words of its file.
    pub async fn end(&self) {
        self.stop.send_replace(true);
        // A reader that does not read goes without.
        let _ = timeout(LAST_WORDS, self.stop.closed()).await;
    }
}

/// How long the end of a capture waits for a slow reader.
const LAST_WORDS: Duration = Duration::from_secs(2);
