//! The Internet checksum (RFC 1071): whole, in pieces, over pseudo-headers, incremental (RFC 1624).
//!
//! A [`Sum`] is added up in the machine's own byte order: the one's complement sum does not care,
//! as long as all of it is added in one order and the result is read in the same (RFC 1071 §2B).
//! Words of 64 bits are added with carry, one chain of additions for each 128 bytes; the longest
//! in lanes that leave the carries to the end.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::bytes::array_at;

/// A one's complement sum that is not folded to 16 bits yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// Adds a 16-bit word.
    #[inline(always)]
    #[must_use]
    pub const fn add_u16(self, word: u16) -> Self {
        self.carrying(word.to_be() as u64)
    }

    /// Adds a 32-bit word.
    #[inline(always)]
    #[must_use]
    pub const fn add_u32(self, word: u32) -> Self {
        self.carrying(word.to_be() as u64)
    }

    /// Adds another sum.
    #[inline(always)]
    #[must_use]
    pub const fn join(self, other: Self) -> Self {
        self.carrying(other.0)
    }

    /// Adds bytes that begin at an even offset of what is summed; an odd last byte is padded
    /// with zero, so only the last piece may be of odd length.
    #[inline(always)]
    #[must_use]
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        sum(bytes, self)
    }

    #[inline(always)]
    const fn carrying(self, value: u64) -> Self {
        let (sum, carry) = self.0.overflowing_add(value);
        Self(sum + carry as u64)
    }
}

/// `initial` and the one's complement sum of `bytes`; an odd last byte is padded with zero.
#[inline]
pub fn sum(bytes: &[u8], initial: Sum) -> Sum {
    match bytes.len() {
        0..CHAIN => tail(bytes, initial),
        CHAIN..VECTORS => chains(bytes, initial),
        _ => vectors(bytes, initial),
    }
}

/// Chains that do not wait for each other, so that the processor adds up several at once.
#[inline(never)]
fn chains(bytes: &[u8], initial: Sum) -> Sum {
    let (chains, rest) = bytes.as_chunks::<CHAIN>();
    let mut total = u128::from(tail(rest, initial).0);
    for bytes in chains {
        total += u128::from(words(bytes, Sum::ZERO).0);
    }
    Sum(total as u64).carrying((total >> 64) as u64)
}

#[inline(never)]
fn vectors(bytes: &[u8], initial: Sum) -> Sum {
    let (blocks, rest) = bytes.as_chunks();
    tail(rest, initial).join(whole(blocks))
}

/// The sum of an IPv4 header without options, without a loop.
#[inline(always)]
pub(super) fn sum_of_20(header: &[u8; 20]) -> Sum {
    let [a, b] = [0, 8].map(|at| u64::from_ne_bytes(array_at(header, at)));
    let c = u64::from(u32::from_ne_bytes(array_at(header, 16)));
    Sum(a).carrying(b).carrying(c)
}

/// Folds a sum to the 16 bits that, complemented, are the checksum.
///
/// A sum and itself turned by half its width: the high half of that is both halves added, with the
/// carry that comes round the end.
#[inline(always)]
pub const fn fold(sum: Sum) -> u16 {
    let sum = (sum.0.wrapping_add(sum.0.rotate_left(32)) >> 32) as u32;
    let sum = (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16;
    u16::from_be(sum)
}

/// The checksum field for a sum: the complement of its fold.
#[inline(always)]
pub const fn finish(sum: Sum) -> u16 {
    !fold(sum)
}

/// As [`finish`], but 0xffff for 0, which in UDP means that there is no checksum (RFC 768).
#[inline(always)]
pub const fn finish_udp(sum: Sum) -> u16 {
    match finish(sum) {
        0 => 0xffff,
        checksum => checksum,
    }
}

/// Whether a sum over data *and* its checksum field shows that the data are intact.
#[inline(always)]
pub const fn is_valid(sum: Sum) -> bool {
    fold(sum) == 0xffff
}

/// The pseudo-header of TCP and UDP over IPv4 (RFC 9293 §3.1); `len` counts header and payload.
#[inline(always)]
pub const fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: u16) -> Sum {
    Sum::ZERO
        .add_u32(source.to_bits())
        .add_u32(destination.to_bits())
        .add_u16(protocol as u16)
        .add_u16(len)
}

/// The pseudo-header of the protocols over IPv6 (RFC 8200 §8.1); `len` counts header and payload.
#[inline]
pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, len: u32) -> Sum {
    Sum::ZERO
        .add_bytes(&source.octets())
        .add_bytes(&destination.octets())
        .add_u16(u16::from(protocol))
        .add_u32(len)
}

/// The checksum after a word that it covers changed from `old` to `new`: `~(~HC + ~m + m')`,
/// equation 3 of RFC 1624.
#[inline(always)]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    finish(Sum::ZERO.add_u16(!checksum).add_u16(!old).add_u16(new))
}

/// As [`update`], for two words that stand together.
#[inline(always)]
pub const fn update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    finish(Sum::ZERO.add_u16(!checksum).add_u32(!old).add_u32(new))
}

/// The sum of whole blocks, in a form that vectorizes to three instructions a vector.
///
/// A word `w` stands for `(w & 0xffff_ffff) + (w >> 32)`. Adding up all `w`, modulo 2^64, and
/// apart from that all `w >> 32` leaves the low halves as the difference, which cannot have
/// overflowed below 2^32 words, that is 32 GiB.
///
/// Never inlined: amid other code the compiler was seen to vectorize a quarter of it.
#[inline(never)]
fn whole(blocks: &[[u8; BLOCK]]) -> Sum {
    let (mut all, mut high) = ([0u64; LANES], [0u64; LANES]);
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for ((all, high), word) in all.iter_mut().zip(&mut high).zip(words) {
            let word = u64::from_ne_bytes(*word);
            *all = all.wrapping_add(word);
            *high = high.wrapping_add(word >> 32);
        }
    }
    let [all, high] = [all, high].map(|lanes| lanes.into_iter().fold(0, u64::wrapping_add));
    Sum(all.wrapping_sub(high << 32)).carrying(high)
}

/// The sum of less than a chain, by halving.
#[inline(always)]
fn tail(mut rest: &[u8], mut total: Sum) -> Sum {
    if let Some((bytes, after)) = rest.split_first_chunk::<64>() {
        (rest, total) = (after, words(bytes, total));
    }
    if let Some((bytes, after)) = rest.split_first_chunk::<32>() {
        (rest, total) = (after, words(bytes, total));
    }
    if let Some((bytes, after)) = rest.split_first_chunk::<16>() {
        (rest, total) = (after, words(bytes, total));
    }
    if let Some((bytes, after)) = rest.split_first_chunk::<8>() {
        (rest, total) = (after, words(bytes, total));
    }
    let mut last = 0;
    if let Some((bytes, after)) = rest.split_first_chunk::<4>() {
        (rest, last) = (after, u64::from(u32::from_ne_bytes(*bytes)));
    }
    if let Some((bytes, after)) = rest.split_first_chunk::<2>() {
        (rest, last) = (after, last + u64::from(u16::from_ne_bytes(*bytes)));
    }
    if let [byte] = *rest {
        last += u64::from(u16::from_ne_bytes([byte, 0]));
    }
    total.carrying(last)
}

/// `total` and the words of `bytes`, whose length is a multiple of 8, as one chain of additions
/// with carry: an instruction a word where the processor has one (`adc`, `adcs`, `alcg`).
#[inline(always)]
fn words(bytes: &[u8], total: Sum) -> Sum {
    let (words, _) = bytes.as_chunks::<8>();
    let (mut total, mut carry) = (total.0, false);
    for word in words {
        let (sum, over) = total.overflowing_add(u64::from_ne_bytes(*word));
        let (sum, again) = sum.overflowing_add(u64::from(carry));
        (total, carry) = (sum, over | again);
    }
    // Does not wrap: a carry out leaves the greatest total only if that was there, with a carry,
    // before.
    Sum(total.wrapping_add(u64::from(carry)))
}

/// Bytes in a chain.
const CHAIN: usize = 128;
/// Bytes from which on vectors pay: what is beyond the first cache is better read 16 bytes at once.
const VECTORS: usize = 16_384;
/// Bytes in a block of vectors.
const BLOCK: usize = 64;
/// Words that are added up side by side.
const LANES: usize = BLOCK / 8;

#[cfg(test)]
mod tests;
