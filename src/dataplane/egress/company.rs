//! Bulk that gives way while somebody waits beside it.
//!
//! Where TCP has a queue of its own, what comes through the other one is mostly what somebody waits
//! for. A bulk flow must then not keep the processor to itself: on a host whose processors are all
//! busy, the thread at the other end, or the one that gets the answer, would wait for it
//! milliseconds. So while such packets come, bulk leaves in smaller batches and lets others run
//! after each. Alone, it does neither: both cost throughput (`docs/benchmarks.md`).

use crate::dataplane::worker::Turn;

/// Whether what somebody may wait for has come lately.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// Batches of TCP for which it still counts.
    batches: u32,
}

impl Company {
    /// Bytes of a batch after which no further packet is read.
    #[inline]
    pub(super) fn batch_bytes(&self) -> usize {
        if self.batches > 0 { BATCH_BYTES / 2 } else { BATCH_BYTES }
    }

    /// A batch has left, of TCP or of everything else. Says whether others are to run now.
    #[inline]
    pub(super) fn left(&mut self, tcp: bool, turn: Turn) -> bool {
        match turn {
            Turn::Idle | Turn::Lost => false,
            // Bulk beside bulk: nobody waits.
            _ if !tcp => {
                self.batches = if turn == Turn::Bulk { 0 } else { LASTS };
                false
            }
            _ => {
                let gives_way = turn == Turn::Bulk && self.batches > 0;
                self.batches = self.batches.saturating_sub(1);
                gives_way
            }
        }
    }
}

/// Bytes of one batch after which no further packet is read: two or three super-packets, so that
/// a batch stays in the second-level cache and the other end does not wait for it.
pub(super) const BATCH_BYTES: usize = 192 << 10;

/// Batches of TCP that a packet beside them counts for: about a millisecond.
const LASTS: u32 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_alone_is_left_alone() {
        let mut company = Company::default();
        for _ in 0..100 {
            assert_eq!(company.batch_bytes(), BATCH_BYTES);
            assert!(!company.left(true, Turn::Bulk));
        }
    }

    #[test]
    fn bulk_gives_way_while_something_else_comes_and_not_much_longer() {
        let mut company = Company::default();
        for _ in 0..3 {
            assert!(!company.left(false, Turn::Worked));
            for _ in 0..LASTS {
                assert!(company.batch_bytes() < BATCH_BYTES);
                assert!(company.left(true, Turn::Bulk));
            }
            assert!(!company.left(true, Turn::Bulk));
            assert_eq!(company.batch_bytes(), BATCH_BYTES);
        }
    }

    #[test]
    fn nobody_gives_way_but_bulk_and_to_no_other_bulk() {
        let mut company = Company::default();
        assert!(!company.left(false, Turn::Worked));
        assert!(!company.left(true, Turn::Worked), "little leaves no place to others");
        assert!(!company.left(false, Turn::Bulk));
        assert!(!company.left(true, Turn::Bulk));
        assert!(!company.left(true, Turn::Idle) && !company.left(false, Turn::Lost));
    }
}
