//! What the headers that are written have in common.

use core::fmt;

/// Why a header was not written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EmitError {
    /// The buffer is shorter than the header.
    BufferTooShort,
    /// The options are longer than a header can hold: 40 bytes.
    OptionsTooLong,
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BufferTooShort => "the buffer is shorter than the header",
            Self::OptionsTooLong => "the options are longer than the header can hold",
        })
    }
}

impl core::error::Error for EmitError {}

/// Copies `header` to the start of `out` and returns what follows it there.
pub(super) fn emit<'a>(header: &[u8], out: &'a mut [u8]) -> Result<&'a mut [u8], EmitError> {
    let (start, rest) = out.split_at_mut_checked(header.len()).ok_or(EmitError::BufferTooShort)?;
    start.copy_from_slice(header);
    Ok(rest)
}
