//! A ring of records from one thread to another: bounded, allocated once, wait-free on both ends.
//!
//! A channel does not do here: a worker must not allocate per packet, and records of any length up to
//! 64 KiB must share a fixed amount of memory per worker, which a channel of records cannot bound.
//!
//! The storage is an array of atomic words, so that a bug in the writer garbles a record but causes no
//! undefined behaviour. The reader sees a record once the count of written words includes it; the
//! writer reuses its place once the count of read words does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Length of the fixed part of a record, in words of eight bytes.
pub(super) const HEADER: usize = 5;

/// One ring.
pub(super) struct Ring {
    words: Box<[AtomicU64]>,
    /// Number of words written since the start.
    written: PaddedCounter,
    /// Number of words read since the start.
    read: PaddedCounter,
    claimed: AtomicBool,
}

/// A counter on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct PaddedCounter(AtomicU64);

impl Ring {
    /// A ring of at least `bytes` bytes.
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        let words = (bytes / 8).next_power_of_two();
        Arc::new(Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            written: PaddedCounter::default(),
            read: PaddedCounter::default(),
            claimed: AtomicBool::new(false),
        })
    }

    /// The writing end; `None` while another thread has it.
    pub(super) fn claim(self: &Arc<Self>) -> Option<RingWriter> {
        // Acquire: synchronizes with the release of the previous writer, which has written before.
        self.claimed
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then(|| RingWriter {
                at: self.written.0.load(Ordering::Relaxed),
                read: self.read.0.load(Ordering::Acquire),
                ring: Arc::clone(self),
            })
    }

    #[inline]
    fn word(&self, at: u64) -> &AtomicU64 {
        &self.words[at as usize & (self.words.len() - 1)]
    }
}

/// The only writing end of a ring. Dropping it allows the next [`Ring::claim`].
pub(super) struct RingWriter {
    ring: Arc<Ring>,
    at: u64,
    /// Number of words that are known to be read.
    read: u64,
}

impl RingWriter {
    /// Appends a record with the concatenated `parts`. Returns false, and appends nothing, if the ring is
    /// full.
    pub(super) fn push(&mut self, header: [u64; HEADER], parts: [&[u8]; 2]) -> bool {
        let len = parts[0].len() + parts[1].len();
        let end = self.at + (1 + HEADER + len.div_ceil(8)) as u64;
        let capacity = self.ring.words.len() as u64;
        if end - self.read > capacity {
            self.read = self.ring.read.0.load(Ordering::Acquire);
            if end - self.read > capacity {
                return false;
            }
        }
        self.store(len as u64);
        header.into_iter().for_each(|word| self.store(word));
        let mut word = [0; 8];
        let mut filled = 0;
        for mut part in parts {
            if filled > 0 {
                let taken = part.len().min(8 - filled);
                word[filled..filled + taken].copy_from_slice(&part[..taken]);
                filled += taken;
                part = &part[taken..];
                if filled < 8 {
                    continue;
                }
                self.store(u64::from_ne_bytes(word));
            }
            let (words, rest) = part.as_chunks::<8>();
            words.iter().for_each(|word| self.store(u64::from_ne_bytes(*word)));
            word[..rest.len()].copy_from_slice(rest);
            filled = rest.len();
        }
        if filled > 0 {
            self.store(u64::from_ne_bytes(word));
        }
        self.ring.written.0.store(self.at, Ordering::Release);
        true
    }

    #[inline]
    fn store(&mut self, word: u64) {
        self.ring.word(self.at).store(word, Ordering::Relaxed);
        self.at += 1;
    }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        self.ring.claimed.store(false, Ordering::Release);
    }
}

/// The only reading end of a ring.
pub(super) struct RingReader {
    ring: Arc<Ring>,
    at: u64,
}

impl RingReader {
    /// The reading end of a new ring.
    pub(super) fn new(ring: Arc<Ring>) -> Self {
        Self { ring, at: 0 }
    }

    /// Takes the oldest record out of the ring and appends its bytes to `bytes`.
    pub(super) fn pop(&mut self, bytes: &mut Vec<u8>) -> Option<[u64; HEADER]> {
        if self.at == self.ring.written.0.load(Ordering::Acquire) {
            return None;
        }
        let len = self.load() as usize;
        let mut header = [0; HEADER];
        header.fill_with(|| self.load());
        let start = bytes.len();
        for _ in 0..len.div_ceil(8) {
            bytes.extend_from_slice(&self.load().to_ne_bytes());
        }
        bytes.truncate(start + len);
        self.ring.read.0.store(self.at, Ordering::Release);
        Some(header)
    }

    fn load(&mut self) -> u64 {
        let word = self.ring.word(self.at).load(Ordering::Relaxed);
        self.at += 1;
        word
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the lengths of the two parts, a record comes out as it went in.
        #[test]
        fn records_come_out_as_they_went_in(
            records in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 0..40)),
                1..40,
            ),
        ) {
            let ring = Ring::new(1 << 10);
            let mut writer = ring.claim().unwrap();
            let mut reader = RingReader::new(ring);
            for (index, (one, other)) in records.iter().enumerate() {
                prop_assert!(writer.push([index as u64; HEADER], [one, other]));
                let mut bytes = b"before".to_vec();
                prop_assert_eq!(reader.pop(&mut bytes), Some([index as u64; HEADER]));
                prop_assert_eq!(bytes, [b"before".as_slice(), one, other].concat());
                prop_assert_eq!(reader.pop(&mut vec![]), None);
            }
        }
    }

    #[test]
    fn a_full_ring_refuses_and_goes_on_once_read() {
        let ring = Ring::new(256);
        let mut writer = ring.claim().unwrap();
        let mut reader = RingReader::new(Arc::clone(&ring));
        assert!(ring.claim().is_none(), "one writer at a time");
        let mut pushed = 0;
        while writer.push([pushed; HEADER], [&[7; 16], &[]]) {
            pushed += 1;
        }
        assert_eq!(pushed, 4, "of eight words each");
        assert!(reader.pop(&mut vec![]).is_some());
        assert!(writer.push([pushed; HEADER], [&[7; 16], &[]]));
        drop(writer);
        let mut next = ring.claim().expect("free again");
        assert!(!next.push([9; HEADER], [&[7; 16], &[]]));
        for expected in 1..=pushed {
            assert_eq!(reader.pop(&mut vec![]), Some([expected; HEADER]));
        }
        assert!(next.push([9; HEADER], [&[], &[]]));
    }

    #[test]
    fn two_threads_lose_nothing_that_was_taken() {
        let ring = Ring::new(4 << 10);
        let mut writer = ring.claim().unwrap();
        let mut reader = RingReader::new(ring);
        let rounds = if cfg!(miri) { 200 } else { 200_000 };
        let writing = thread::spawn(move || {
            let mut taken = 0u64;
            for round in 0..rounds {
                let byte = taken as u8;
                let body = [byte; 61];
                let cut = round % 62;
                taken += u64::from(writer.push([taken; HEADER], [&body[..cut], &body[cut..]]));
            }
            taken
        });
        let mut bytes = vec![];
        let mut seen = 0;
        let taken = loop {
            let done = writing.is_finished();
            bytes.clear();
            while let Some(header) = reader.pop(&mut bytes) {
                assert_eq!(header, [seen; HEADER]);
                assert_eq!(bytes, [seen as u8; 61]);
                seen += 1;
                bytes.clear();
            }
            if done {
                break writing.join().unwrap();
            }
        };
        assert_eq!(seen, taken);
        assert!(taken > 0);
    }
}
