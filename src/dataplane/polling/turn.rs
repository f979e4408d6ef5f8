//! What one look at a queue or socket brought.

/// What one look at a queue or socket brought.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::dataplane) enum Turn {
    /// Nothing was there.
    Idle,
    /// One packet was there.
    Lone,
    /// There was work, and there may be more.
    Worked,
    /// There was bulk.
    Bulk,
    /// The TUN device is gone.
    Lost,
}

impl Turn {
    /// What a batch of so many packets and bytes was.
    pub(in crate::dataplane) fn of_batch(packets: u64, bytes: usize) -> Self {
        match packets {
            _ if bytes >= BULK_BYTES => Self::Bulk,
            1 => Self::Lone,
            _ => Self::Worked,
        }
    }
}

/// A batch of so many bytes is bulk: more than a message that somebody waits for, as a rule.
const BULK_BYTES: usize = 32 << 10;
