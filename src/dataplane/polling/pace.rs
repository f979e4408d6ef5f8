//! Whether packets of one direction come one at a time.

use super::waker::Ready;

/// How packets came last.
#[derive(Default)]
pub(in crate::dataplane) struct Pace {
    /// The last batch was one packet.
    lone: bool,
    /// The last look found nothing.
    looking: bool,
}

impl Pace {
    /// Whether the next look is to take one packet and no more, so that it is passed on before
    /// another is looked for: somebody may wait for it.
    #[inline]
    pub(in crate::dataplane) fn is_single(&self, ready: Ready) -> bool {
        self.lone && (self.looking || ready.is_known())
    }

    /// A look found nothing.
    #[inline]
    pub(in crate::dataplane) fn nothing(&mut self) {
        self.looking = true;
    }

    /// A batch came; whether it was one packet.
    #[inline]
    pub(in crate::dataplane) fn came(&mut self, lone: bool) {
        *self = Self { lone, looking: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_packet_and_a_silence_make_the_next_look_one_for_a_single_packet() {
        let mut pace = Pace::default();
        pace.nothing();
        assert!(!pace.is_single(Ready::ANY), "nothing has come yet");
        pace.came(true);
        assert!(!pace.is_single(Ready::ANY), "more may be there");
        pace.nothing();
        assert!(pace.is_single(Ready::ANY));
        pace.came(false);
        pace.nothing();
        assert!(!pace.is_single(Ready::ANY), "they came together");
    }
}
