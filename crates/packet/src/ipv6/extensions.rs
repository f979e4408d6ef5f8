//! The chain of IPv6 extension headers.

use super::super::bytes::{u8_at, u16_at};
use super::super::{Malformed, protocol};

/// What lies behind the extension headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upper {
    pub(super) protocol: u8,
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
    pub(super) fn find(packet: &[u8], mut next: u8) -> Result<Self, Malformed> {
        let mut offset = super::Ipv6::<&[u8]>::HEADER_LEN;
        let (mut more_fragments, mut fragment_offset) = (false, 0);
        loop {
            let len = match next {
                protocol::HOP_BY_HOP
                | protocol::ROUTING
                | protocol::DESTINATION_OPTIONS
                | protocol::MOBILITY => 8 + usize::from(u8_at(packet, offset + 1)) * 8,
                protocol::AUTHENTICATION => 8 + usize::from(u8_at(packet, offset + 1)) * 4,
                protocol::FRAGMENT => 8,
                _ => break,
            };
            // The two bytes that were read above are inside, too, if this is.
            if offset + len > packet.len() {
                return Err(Malformed::BadExtension);
            }
            let is_fragment = next == protocol::FRAGMENT;
            next = u8_at(packet, offset);
            if is_fragment {
                let field = u16_at(packet, offset + 2);
                more_fragments = field & 1 != 0;
                fragment_offset = field & 0xfff8;
            }
            offset += len;
            if fragment_offset != 0 {
                break;
            }
        }
        // At most 40 + 65,535, reached by a packet that is nothing but headers.
        let offset = u16::try_from(offset).map_err(|_| Malformed::BadExtension)?;
        Ok(Self { protocol: next, more_fragments, fragment_offset, offset })
    }
}
