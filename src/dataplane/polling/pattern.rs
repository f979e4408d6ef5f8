//! Whether the packets of one direction arrive one at a time.

use super::waker::Ready;

/// How the last packets of one direction arrived.
#[derive(Default)]
pub(in crate::dataplane) struct ArrivalPattern {
    /// The last batch was a single packet.
    last_was_single: bool,
    /// The last turn found the source empty.
    was_empty: bool,
}

impl ArrivalPattern {
    /// Whether the next turn should ask for one packet only. A lone packet is then forwarded before the
    /// source is read again: an application may be waiting for that packet, as in a request and its
    /// response.
    #[inline]
    pub(in crate::dataplane) fn is_single(&self, ready: Ready) -> bool {
        self.last_was_single && (self.was_empty || ready.is_known())
    }

    /// Records a turn that found the source empty.
    #[inline]
    pub(in crate::dataplane) fn record_empty(&mut self) {
        self.was_empty = true;
    }

    /// Records a batch, and whether the batch was a single packet.
    #[inline]
    pub(in crate::dataplane) fn record_batch(&mut self, single: bool) {
        *self = Self { last_was_single: single, was_empty: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_packet_and_an_empty_source_make_the_next_turn_ask_for_one() {
        let mut pattern = ArrivalPattern::default();
        pattern.record_empty();
        assert!(!pattern.is_single(Ready::ANY), "no packet has arrived yet");
        pattern.record_batch(true);
        assert!(!pattern.is_single(Ready::ANY), "more packets may be waiting");
        pattern.record_empty();
        assert!(pattern.is_single(Ready::ANY));
        pattern.record_batch(false);
        pattern.record_empty();
        assert!(!pattern.is_single(Ready::ANY), "the packets arrived together");
    }

    #[test]
    fn a_wake_up_counts_as_an_empty_source() {
        let woken = Ready::of(&[1]);
        let mut pattern = ArrivalPattern::default();
        assert!(!pattern.is_single(woken), "no packet has arrived yet");
        pattern.record_batch(true);
        assert!(pattern.is_single(woken));
        pattern.record_batch(false);
        assert!(!pattern.is_single(woken), "the packets arrived together");
    }
}
