//! Why a packet cannot be cut.

use core::fmt;

use super::super::Malformed;

/// Why a packet off a TUN cannot be cut or completed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SegmentError {
    /// It is not the packet that the segmentation type says.
    Malformed(Malformed),
    /// The length in its IP header is not its own.
    BadLength,
    /// It is a fragment.
    Fragment,
    /// It is not of the protocol that the segmentation type says.
    WrongProtocol,
    /// A segmentation type that was never asked for.
    UnsupportedType,
    /// Segments of no payload.
    ZeroSize,
    /// The checksum field is not where the protocol has it, or not in the packet.
    BadChecksumField,
    /// Headers longer than [`super::MAX_HEADER_LEN`].
    HeaderTooLong,
}

impl From<Malformed> for SegmentError {
    #[inline]
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(error) => return error.fmt(f),
            Self::BadLength => "length in the IP header is not the packet's",
            Self::Fragment => "fragment marked for segmentation",
            Self::WrongProtocol => "protocol does not match the segmentation type",
            Self::UnsupportedType => "segmentation type that was not asked for",
            Self::ZeroSize => "segment size is zero",
            Self::BadChecksumField => "checksum field outside its place",
            Self::HeaderTooLong => "headers too long to segment",
        })
    }
}

impl core::error::Error for SegmentError {}
