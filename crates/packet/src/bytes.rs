//! Reading and writing fields without a way to panic.
//!
//! A field outside the slice reads as zero and is not written. Views check their length once, so
//! neither happens in them; it keeps an oversight from becoming a crash.

/// The byte at `at`.
#[inline(always)]
pub(super) fn u8_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// The big-endian 16-bit word at `at`.
#[inline(always)]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array_at(bytes, at))
}

/// The big-endian 32-bit word at `at`.
#[inline(always)]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array_at(bytes, at))
}

/// The `N` bytes at `at`.
#[inline(always)]
pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|tail| tail.first_chunk()).copied().unwrap_or([0; N])
}

/// The bytes from `at` on.
#[inline(always)]
pub(super) fn from(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).unwrap_or(&[])
}

/// The bytes from `start` up to `end`.
#[inline(always)]
pub(super) fn between(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    bytes.get(start..end).unwrap_or(&[])
}

/// The bytes from `start` up to `end`, or up to the last where fewer are there.
#[inline(always)]
pub(super) fn up_to(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    bytes.get(start..end).unwrap_or_else(|| from(bytes, start))
}

/// Writes `value` at `at`, big-endian.
#[inline(always)]
pub(super) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    put(bytes, at, value.to_be_bytes());
}

/// Writes `value` at `at`, big-endian.
#[inline(always)]
pub(super) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, value.to_be_bytes());
}

/// Writes the byte `value` at `at`.
#[inline(always)]
pub(super) fn put_u8(bytes: &mut [u8], at: usize, value: u8) {
    put(bytes, at, [value]);
}

/// Writes `value` at `at`.
#[inline(always)]
pub(super) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(field) = bytes.get_mut(at..).and_then(|tail| tail.first_chunk_mut()) {
        *field = value;
    }
}
