//! What one turn over a TUN queue or socket found.

/// What one turn over a TUN queue or socket found; a later variant outweighs an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::dataplane) enum Turn {
    /// The source was empty.
    Idle,
    /// The source held a single packet.
    Single,
    /// The source held packets, and may hold more.
    Worked,
    /// The source held bulk traffic.
    Bulk,
    /// The TUN device is gone.
    DeviceLost,
}

impl Turn {
    /// Classifies a batch by its number of packets and bytes.
    pub(in crate::dataplane) fn of_batch(packets: u64, bytes: usize) -> Self {
        match packets {
            _ if bytes >= BULK_BYTES => Self::Bulk,
            1 => Self::Single,
            _ => Self::Worked,
        }
    }
}

/// A batch of this many bytes is bulk: as a rule more than an interactive message.
const BULK_BYTES: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_classified_by_packets_and_bytes() {
        assert_eq!(Turn::of_batch(1, 84), Turn::Single);
        assert_eq!(Turn::of_batch(2, 168), Turn::Worked);
        assert_eq!(Turn::of_batch(0, 0), Turn::Worked, "everything was dropped");
        assert_eq!(Turn::of_batch(22, BULK_BYTES - 1), Turn::Worked);
        assert_eq!(Turn::of_batch(1, BULK_BYTES), Turn::Bulk, "a super-packet");
    }

    #[test]
    fn the_weightier_of_two_turns_is_the_greater() {
        let order = [Turn::Idle, Turn::Single, Turn::Worked, Turn::Bulk, Turn::DeviceLost];
        assert!(order.is_sorted());
    }
}
