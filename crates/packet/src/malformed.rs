//! Why bytes are not a packet.

use core::fmt;

/// Why bytes are not the packet that they were parsed as.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Malformed {
    /// Fewer bytes than the shortest header.
    TooShort,
    /// The version field is of another protocol.
    BadVersion,
    /// The header length field is below the minimum or beyond the bytes.
    BadHeaderLength,
    /// The length field is below the header's length or beyond the bytes.
    BadTotalLength,
    /// An IPv6 extension header reaches beyond the packet.
    BadExtension,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "shorter than the header",
            Self::BadVersion => "wrong IP version",
            Self::BadHeaderLength => "header length out of bounds",
            Self::BadTotalLength => "packet length out of bounds",
            Self::BadExtension => "extension header out of bounds",
        })
    }
}

impl core::error::Error for Malformed {}
