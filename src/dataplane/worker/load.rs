//! How busy a thread is.

use crate::dataplane::polling::Turn;

/// How busy a thread is, by its rounds.
#[derive(Default)]
pub(super) struct Load {
    /// Rounds with work less rounds without, between 0 and [`BUSY`]. A packet alone is no work: two
    /// threads that one packet wakes up now and then are one too many.
    pub(super) busy: u32,
    /// Of those with work since it was 0: how many brought something in.
    pub(super) incoming: u32,
}

impl Load {
    #[inline]
    pub(super) fn note(&mut self, turn: Turn, incoming: Turn, alone: bool) {
        if turn == Turn::Idle || alone {
            self.busy = self.busy.saturating_sub(1);
            if self.busy == 0 {
                self.incoming = 0;
            }
        } else {
            self.busy = (self.busy + 1).min(BUSY);
            self.incoming += u32::from(incoming != Turn::Idle);
        }
    }

    /// Whether another thread would find enough to do with what comes in.
    pub(super) fn is_for_two(&self) -> bool {
        self.busy == BUSY && self.incoming >= BUSY / 4
    }

    pub(super) fn is_none(&self) -> bool {
        self.busy == 0
    }
}

/// Rounds with work, those without taken off, after which a thread counts as busy.
pub(super) const BUSY: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(rounds: impl IntoIterator<Item = (Turn, Turn)>) -> Load {
        let mut load = Load::default();
        rounds.into_iter().for_each(|(out, r#in)| load.note(out.max(r#in), r#in, false));
        load
    }

    #[test]
    fn a_thread_that_both_directions_keep_busy_is_two_threads_work() {
        let both = (Turn::Bulk, Turn::Worked);
        assert!(after([both; BUSY as usize]).is_for_two());
        assert!(!after([both; BUSY as usize - 1]).is_for_two());
        // Now and then a round without work does not matter.
        let mixed = [both, both, (Turn::Idle, Turn::Idle)];
        assert!(after(mixed.into_iter().cycle().take(62)).is_for_two());
    }

    #[test]
    fn one_direction_or_a_round_trip_is_not() {
        assert!(!after([(Turn::Bulk, Turn::Idle); 1_000]).is_for_two());
        let mut round_trip = vec![(Turn::Idle, Turn::Idle); 8];
        round_trip.extend([(Turn::Worked, Turn::Idle), (Turn::Idle, Turn::Worked)]);
        let load = after(round_trip.iter().copied().cycle().take(1_000));
        assert!(!load.is_for_two());
        assert!(after(round_trip.into_iter().cycle().take(1_008)).is_none());
    }

    #[test]
    fn packets_that_wake_a_thread_one_at_a_time_are_no_load() {
        let mut load = after([(Turn::Bulk, Turn::Worked); BUSY as usize]);
        for _ in 0..BUSY {
            assert!(!load.is_none());
            load.note(Turn::Lone, Turn::Lone, true);
        }
        assert!(load.is_none());
    }
}
