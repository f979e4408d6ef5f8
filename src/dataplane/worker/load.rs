//! How busy a packet thread is, and whether its work is enough for two threads.

use crate::dataplane::polling::Turn;

/// How busy a thread is, judged by its recent rounds.
#[derive(Default)]
pub(super) struct Load {
    /// Rounds with work minus rounds without, between 0 and [`BUSY`].
    busy: u32,
    /// Rounds with incoming packets since `busy` was last 0.
    incoming: u32,
}

impl Load {
    /// The load of a thread that has just taken over incoming packets because there are many.
    pub(super) fn busy() -> Self {
        Self { busy: BUSY, incoming: 0 }
    }

    /// Records a round: its `turn` over all sources, the `incoming` one among them, and whether the
    /// round served a single packet that woke the thread. Such a round counts as one without work: one
    /// packet now and then must not keep two threads awake.
    #[inline]
    pub(super) fn record(&mut self, turn: Turn, incoming: Turn, single_wakeup: bool) {
        if turn == Turn::Idle || single_wakeup {
            self.busy = self.busy.saturating_sub(1);
            if self.busy == 0 {
                self.incoming = 0;
            }
        } else {
            self.busy = (self.busy + 1).min(BUSY);
            self.incoming += u32::from(incoming != Turn::Idle);
        }
    }

    /// Whether incoming packets alone would keep a second thread busy.
    pub(super) fn needs_two_threads(&self) -> bool {
        self.busy == BUSY && self.incoming >= BUSY / 4
    }

    /// Whether the thread has been idle for as many rounds as it worked.
    pub(super) fn is_idle(&self) -> bool {
        self.busy == 0
    }
}

/// Rounds with work, minus those without, after which a thread counts as busy.
const BUSY: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(rounds: impl IntoIterator<Item = (Turn, Turn)>) -> Load {
        let mut load = Load::default();
        rounds
            .into_iter()
            .for_each(|(outgoing, incoming)| load.record(outgoing.max(incoming), incoming, false));
        load
    }

    #[test]
    fn a_thread_that_both_directions_keep_busy_needs_two_threads() {
        let both = (Turn::Bulk, Turn::Worked);
        assert!(after([both; BUSY as usize]).needs_two_threads());
        assert!(!after([both; BUSY as usize - 1]).needs_two_threads());
        // An occasional round without work does not matter.
        let mixed = [both, both, (Turn::Idle, Turn::Idle)];
        assert!(after(mixed.into_iter().cycle().take(62)).needs_two_threads());
    }

    #[test]
    fn one_direction_or_a_round_trip_needs_one_thread() {
        assert!(!after([(Turn::Bulk, Turn::Idle); 1_000]).needs_two_threads());
        let mut round_trip = vec![(Turn::Idle, Turn::Idle); 8];
        round_trip.extend([(Turn::Worked, Turn::Idle), (Turn::Idle, Turn::Worked)]);
        let load = after(round_trip.iter().copied().cycle().take(1_000));
        assert!(!load.needs_two_threads());
        assert!(after(round_trip.into_iter().cycle().take(1_008)).is_idle());
    }

    #[test]
    fn packets_that_each_wake_the_thread_are_no_load() {
        let mut load = after([(Turn::Bulk, Turn::Worked); BUSY as usize]);
        for _ in 0..BUSY {
            assert!(!load.is_idle());
            load.record(Turn::Single, Turn::Single, true);
        }
        assert!(load.is_idle());
    }

    #[test]
    fn a_thread_that_takes_over_stays_busy_for_as_many_rounds() {
        let mut load = Load::busy();
        for _ in 0..BUSY {
            assert!(!load.is_idle());
            load.record(Turn::Idle, Turn::Idle, false);
        }
        assert!(load.is_idle());
    }
}
