//! What packet threads report to the control thread.

use std::io;

use tokio::sync::mpsc;

/// Something that the control thread must act on.
#[derive(Debug)]
pub enum Event {
    /// The TUN device was deleted: a new data plane is needed.
    TunLost,
    /// A packet thread cannot go on.
    Failed(io::Error),
}

/// The sending half of the channel on which packet threads report [`Event`]s.
#[derive(Clone)]
pub(super) struct EventSender(mpsc::UnboundedSender<Event>);

/// A channel from packet threads to the control thread.
pub(super) fn channel() -> (EventSender, mpsc::UnboundedReceiver<Event>) {
    let (sender, events) = mpsc::unbounded_channel();
    (EventSender(sender), events)
}

impl EventSender {
    /// Reports `event`, unless the data plane is being dropped.
    pub(super) fn send(&self, event: Event) {
        // The channel is closed once the data plane is being dropped.
        let _ = self.0.send(event);
    }
}
