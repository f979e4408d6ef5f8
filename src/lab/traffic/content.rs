//! The content of a verified transfer: a stream of bytes that both ends generate from a seed.

use bytes::{Bytes, BytesMut};

/// An endless pseudo-random stream, the same for the same seed.
#[derive(Debug, Clone)]
pub struct Content {
    state: u64,
    word: [u8; 8],
    used: usize,
}

/// Compares received bytes with the stream of a seed, and computes their checksum.
#[derive(Debug, Clone)]
pub struct Checker {
    expected: Content,
    scratch: Vec<u8>,
    received: u64,
    first_wrong: Option<u64>,
    sum: u64,
}

impl Content {
    /// The stream of `seed`, from its beginning.
    pub fn new(seed: u64) -> Self {
        Self { state: seed, word: [0; 8], used: 8 }
    }

    /// Fills `buffer` with the next bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        let left = (8 - self.used).min(buffer.len());
        let (head, rest) = buffer.split_at_mut(left);
        head.copy_from_slice(&self.word[self.used..self.used + left]);
        self.used += left;
        let mut words = rest.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&self.next_word());
        }
        let tail = words.into_remainder();
        if !tail.is_empty() {
            self.word = self.next_word();
            self.used = tail.len();
            tail.copy_from_slice(&self.word[..tail.len()]);
        }
    }

    /// The next `len` bytes, to be shared by several senders.
    pub fn take(&mut self, len: usize) -> Bytes {
        let mut bytes = BytesMut::zeroed(len);
        self.fill(&mut bytes);
        bytes.freeze()
    }

    /// SplitMix64.
    fn next_word(&mut self) -> [u8; 8] {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    }
}

impl Checker {
    /// Expects the stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            expected: Content::new(seed),
            scratch: Vec::new(),
            received: 0,
            first_wrong: None,
            sum: FNV_OFFSET,
        }
    }

    /// Checks the next received bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        self.scratch.resize(bytes.len(), 0);
        self.expected.fill(&mut self.scratch);
        if self.first_wrong.is_none() && self.scratch != bytes {
            let at = self.scratch.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(0);
            self.first_wrong = Some(self.received + at as u64);
        }
        self.received += bytes.len() as u64;
        self.sum = fnv1a(self.sum, bytes);
    }

    /// Bytes checked so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Position of the first byte that differs from the stream.
    pub fn first_wrong(&self) -> Option<u64> {
        self.first_wrong
    }

    /// Checksum of the bytes checked so far: FNV-1a, 64 bits.
    pub fn checksum(&self) -> u64 {
        self.sum
    }
}

/// Continues the FNV-1a checksum `sum` over `bytes`.
pub(super) fn fnv1a(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// The initial value of an FNV-1a checksum, 64 bits.
pub(super) const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_sizes_do_not_change_the_stream() {
        let mut whole = vec![0; 1000];
        Content::new(7).fill(&mut whole);
        let mut content = Content::new(7);
        let mut pieces = Vec::new();
        for len in [0, 1, 3, 8, 9, 100, 7, 1].iter().cycle() {
            let mut piece = vec![0; *len];
            content.fill(&mut piece);
            pieces.extend(piece);
            if pieces.len() >= 1000 {
                break;
            }
        }
        assert_eq!(pieces[..1000], whole);
    }

    #[test]
    fn one_wrong_byte_is_found() {
        let mut bytes = vec![0; 5000];
        Content::new(1).fill(&mut bytes);
        let mut good = Checker::new(1);
        bytes.chunks(333).for_each(|c| good.take(c));
        assert_eq!((good.received(), good.first_wrong()), (5000, None));
        bytes[4321] ^= 1;
        let mut bad = Checker::new(1);
        bytes.chunks(333).for_each(|c| bad.take(c));
        assert_eq!(bad.first_wrong(), Some(4321));
        assert_ne!(bad.checksum(), good.checksum());
    }

    #[test]
    fn fnv_is_fnv() {
        assert_eq!(fnv1a(FNV_OFFSET, b"foobar"), 0x8594_4171_f739_67e8);
    }
}
