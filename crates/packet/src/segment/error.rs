//! Why a packet cannot be segmented.

use core::fmt;

use super::super::Malformed;

/// Why a packet from a TUN device cannot be segmented or its checksum completed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SegmentError {
    /// The packet is not of the IP version that the segmentation type names.
    Malformed(Malformed),
    /// The length in the IP header is not that of the packet.
    BadLength,
    /// The packet is a fragment.
    Fragment,
    /// The packet is not of the protocol that the segmentation type names.
    WrongProtocol,
    /// The segmentation type is UDP fragmentation (UFO), which no TUN device is asked for.
    UnsupportedType,
    /// The segment size is zero.
    ZeroSize,
    /// The checksum field is not at the protocol's offset, or not inside the packet.
    BadChecksumField,
    /// The headers are longer than [`super::MAX_HEADER_LEN`].
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
