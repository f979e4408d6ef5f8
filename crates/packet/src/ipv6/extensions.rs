//! The chain of IPv6 extension headers.

use super::super::bytes::{u8_at, u16_at};
use super::super::{Malformed, protocol};

/// What lies behind the extension headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upper {
    pub(super) protocol: u8,
    /// Whether there is a fragment header.
    pub(super) is_fragment: bool,
    /// In any fragment header.
    pub(super) more_fragments: bool,
    /// In bytes.
    pub(super) fragment_offset: u16,
    /// Where it begins, bytes from the start of the packet.
    pub(super) offset: u16,
}

impl Upper {
    /// Walks the chain in `packet`, whose first header is `next`.
    ///
    /// Behind the fragment header of a fragment that is not the first there are no more headers,
    /// whatever the fields say.
    pub(super) fn find(packet: &[u8], next: u8) -> Result<Self, Malformed> {
        match Self::walk(packet, next) {
            (upper, true) => Ok(upper),
            (_, false) => Err(Malformed::BadExtension),
        }
    }

    /// As [`Self::find`], in a packet of which the end is missing: where an extension header is cut,
    /// the walk ends at it.
    pub(super) fn find_in_truncated(packet: &[u8], next: u8) -> Self {
        Self::walk(packet, next).0
    }

    /// Where the walk ended, and whether that is behind the last extension header.
    #[inline]
    fn walk(packet: &[u8], next: u8) -> (Self, bool) {
        let mut offset = super::Ipv6::<&[u8]>::HEADER_LEN;
        let mut upper = Self {
            protocol: next,
            is_fragment: false,
            more_fragments: false,
            fragment_offset: 0,
            offset: 0,
        };
        let is_complete = loop {
            let Some(len) = extension_len(upper.protocol, packet, offset) else { break true };
            // The two bytes that were read above are inside, too, if this is.
            if offset + len > packet.len() {
                break false;
            }
            if upper.protocol == protocol::FRAGMENT {
                let field = u16_at(packet, offset + 2);
                upper.is_fragment = true;
                upper.more_fragments |= field & 1 != 0;
                upper.fragment_offset = field & 0xfff8;
            }
            upper.protocol = u8_at(packet, offset);
            offset += len;
            if upper.fragment_offset != 0 {
                break true;
            }
        };
        // At most 40 + 65,535, reached by a packet that is nothing but headers.
        match u16::try_from(offset) {
            Ok(offset) => (Self { offset, ..upper }, is_complete),
            Err(_) => (Self { offset: u16::MAX, ..upper }, false),
        }
    }
}

/// Length in bytes of the extension header with this number at `offset`; `None` where the number is of
/// no extension header.
#[inline]
pub(crate) fn extension_len(protocol: u8, packet: &[u8], offset: usize) -> Option<usize> {
    let units = usize::from(u8_at(packet, offset + 1));
    match protocol {
        protocol::HOP_BY_HOP
        | protocol::ROUTING
        | protocol::DESTINATION_OPTIONS
        | protocol::MOBILITY => Some(8 + units * 8),
        protocol::AUTHENTICATION => Some(8 + units * 4),
        protocol::FRAGMENT => Some(8),
        _ => None,
    }
}
