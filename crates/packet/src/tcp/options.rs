//! TCP options.

use core::fmt;

use super::super::bytes::{u8_at, u16_at, u32_at};

/// One option.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TcpOption<'a> {
    /// End of the list (kind 0).
    End,
    /// Padding between options (kind 1).
    Nop,
    /// Maximum segment size (kind 2).
    MaximumSegmentSize(u16),
    /// Window scale, as a shift (kind 3, RFC 7323).
    WindowScale(u8),
    /// Selective acknowledgments are permitted (kind 4, RFC 2018).
    SackPermitted,
    /// Selective acknowledgments: blocks of two 32-bit sequence numbers (kind 5, RFC 2018).
    Sack(&'a [u8]),
    /// Timestamps (kind 8, RFC 7323).
    Timestamps {
        /// The sender's clock.
        value: u32,
        /// The receiver's, echoed.
        echo: u32,
    },
    /// Any other, or one of a length that its kind does not have.
    Other {
        /// Its kind.
        kind: u8,
        /// What follows its length byte.
        data: &'a [u8],
    },
    /// The rest of the list cannot be read: an option reaches beyond it.
    Truncated,
}

/// Iterates over options; ends after the end-of-list option or a truncated one.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    /// The options in these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = TcpOption<'a>;

    fn next(&mut self) -> Option<TcpOption<'a>> {
        let (&kind, rest) = self.rest.split_first()?;
        match kind {
            kind::END => {
                self.rest = &[];
                return Some(TcpOption::End);
            }
            kind::NOP => {
                self.rest = rest;
                return Some(TcpOption::Nop);
            }
            _ => {}
        }
        let len = usize::from(u8_at(rest, 0));
        let Some((data, after)) = option_data(self.rest, len) else {
            self.rest = &[];
            return Some(TcpOption::Truncated);
        };
        self.rest = after;
        Some(match (kind, data.len()) {
            (kind::MSS, 2) => TcpOption::MaximumSegmentSize(u16_at(data, 0)),
            (kind::WINDOW_SCALE, 1) => TcpOption::WindowScale(u8_at(data, 0)),
            (kind::SACK_PERMITTED, 0) => TcpOption::SackPermitted,
            (kind::SACK, 8 | 16 | 24 | 32) => TcpOption::Sack(data),
            (kind::TIMESTAMPS, 8) => {
                TcpOption::Timestamps { value: u32_at(data, 0), echo: u32_at(data, 4) }
            }
            _ => TcpOption::Other { kind, data },
        })
    }
}

/// As tcpdump lists them.
impl fmt::Display for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, option) in self.clone().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            write!(f, "{option}")?;
        }
        Ok(())
    }
}

/// As tcpdump prints it.
impl fmt::Display for TcpOption<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("eol"),
            Self::Nop => f.write_str("nop"),
            Self::MaximumSegmentSize(size) => write!(f, "mss {size}"),
            Self::WindowScale(shift) => write!(f, "wscale {shift}"),
            Self::SackPermitted => f.write_str("sackOK"),
            Self::Sack(blocks) => {
                write!(f, "sack {} ", blocks.len() / 8)?;
                for block in blocks.as_chunks::<8>().0 {
                    write!(f, "{{{}:{}}}", u32_at(block, 0), u32_at(block, 4))?;
                }
                Ok(())
            }
            Self::Timestamps { value, echo } => write!(f, "TS val {value} ecr {echo}"),
            Self::Other { kind, data } => {
                write!(f, "unknown-{kind}")?;
                for (index, byte) in data.iter().enumerate() {
                    write!(f, "{}{byte:02x}", if index == 0 { " 0x" } else { "" })?;
                }
                Ok(())
            }
            Self::Truncated => f.write_str("[bad opt]"),
        }
    }
}

/// The data of an option of `len` bytes at the head of `list`, and what follows it.
fn option_data(list: &[u8], len: usize) -> Option<(&[u8], &[u8])> {
    let (option, after) = list.split_at_checked(len)?;
    Some((option.get(2..)?, after))
}

mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const NOP: u8 = 1;
    pub(super) const MSS: u8 = 2;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const SACK: u8 = 5;
    pub(super) const TIMESTAMPS: u8 = 8;
}
