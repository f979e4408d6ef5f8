//! The sum of whole blocks, in lanes of 16 bits side by side, for which SSE2 has all it takes.
//!
//! A lane is added up modulo 2^16, and its carries come from means. The mean of two words, rounded
//! up, is one instruction (`pavgw`). Of the eight words that a block has for a lane, three levels
//! of means leave one, `m`, with `0 <= 8 * m - sum <= 12`. Its upper byte is exact enough:
//! `sum <= 8 * 256 * (m / 256 + 1)`, and by at most 2060 too much. Over [`LIMIT`] blocks that is
//! less than 2^16, so that the bound and the sum modulo 2^16 together are the sum. A vector takes
//! three instructions (load, add, mean), where the plain way of adding up the halves of words, and
//! their carries, takes four.

/// Bytes in a block.
pub(super) const BLOCK: usize = ROWS * LANES * 2;

/// Words side by side: a vector of 128 bits.
const LANES: usize = 8;
/// Vectors in a block.
const ROWS: usize = 8;
/// Most blocks at once: the bound is too high by less than `LIMIT * 2060`, which is below 2^16.
pub(super) const LIMIT: usize = 31;

type Lanes = [u16; LANES];

/// The sum of at most [`LIMIT`] blocks.
///
/// Never inlined: amid other code the compiler was seen to leave it without vectors. `pavgw` in
/// what `objdump` prints of the benches says whether it has found them.
#[inline(never)]
pub(super) fn sum(blocks: &[[u8; BLOCK]]) -> u32 {
    // A sum for each row of a block: an addition of two rows overwrites one, which the mean needs.
    let mut low = [[0u16; LANES]; ROWS];
    let mut high = [LIMIT as u16; LANES];
    for block in blocks {
        let (words, _) = block.as_chunks::<2>();
        let (rows, _) = words.as_chunks::<LANES>();
        let [a, b, c, d, e, f, g, h] = rows else { continue };
        for (lane, high) in high.iter_mut().enumerate() {
            let words = [a, b, c, d, e, f, g, h]
                .map(|row| row.get(lane).map_or(0, |word| u16::from_ne_bytes(*word)));
            let [a, b, c, d, e, f, g, h] = words;
            let left = mean(mean(a, b), mean(c, d));
            let right = mean(mean(e, f), mean(g, h));
            *high = high.wrapping_add(mean(left, right) >> 8);
            for (low, word) in low.iter_mut().zip(words) {
                if let Some(low) = low.get_mut(lane) {
                    *low = low.wrapping_add(word);
                }
            }
        }
    }
    let low = low.into_iter().fold([0; LANES], add);
    // The bound, `high << 11`, counts LIMIT blocks even where there are fewer: 2048 more for each.
    let mut over = [0u16; LANES];
    for ((over, low), high) in over.iter_mut().zip(low).zip(high) {
        *over = (high << 11).wrapping_sub(low);
    }
    let over: u32 = over.into_iter().map(u32::from).sum();
    let high = high.into_iter().fold(0u16, u16::wrapping_add);
    (u32::from(high) << 11).wrapping_sub(over)
}

/// The mean, rounded up.
#[inline(always)]
fn mean(a: u16, b: u16) -> u16 {
    (a | b).wrapping_sub((a ^ b) >> 1)
}

#[inline(always)]
fn add(mut a: Lanes, b: Lanes) -> Lanes {
    for (a, b) in a.iter_mut().zip(b) {
        *a = a.wrapping_add(b);
    }
    a
}
