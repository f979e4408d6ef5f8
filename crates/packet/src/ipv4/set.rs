//! Changing the header of a packet in place.

use core::net::Ipv4Addr;

use super::super::Expired;
use super::super::bytes::{array_at, put, put_u16, put_u32, u16_at, u32_at};
use super::super::checksum::{self, Sum};
use super::{Ipv4, field};

/// Each of these keeps the header checksum in step (RFC 1624): a right one stays right, and a wrong
/// one stays wrong. The checksum of the protocol above is left alone; where it covers what changes,
/// which is the addresses, adjust it with the pseudo-headers before and after, as by
/// [`Udp::adjust_checksum`](crate::udp::Udp::adjust_checksum).
impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv4<T> {
    /// Sets differentiated services and ECN bits.
    pub fn set_tos(&mut self, tos: u8) {
        let version_ihl = u16_at(self.raw(), field::VERSION_IHL) & 0xff00;
        self.replace(field::VERSION_IHL, version_ihl | u16::from(tos));
    }

    /// Sets the identification.
    pub fn set_id(&mut self, id: u16) {
        self.replace(field::ID, id);
    }

    /// Sets the don't-fragment bit.
    pub fn set_dont_fragment(&mut self, dont_fragment: bool) {
        let others = self.flags_offset() & !0x4000;
        self.replace(field::FLAGS_OFFSET, others | u16::from(dont_fragment) << 14);
    }

    /// Sets the time to live.
    pub fn set_ttl(&mut self, ttl: u8) {
        let protocol = u16::from(self.protocol());
        self.replace(field::TTL, u16::from(ttl) << 8 | protocol);
    }

    /// Takes one hop off the time to live, as a router does, and returns what is left, at least 1.
    ///
    /// # Errors
    /// [`Expired`] where the time to live was 1 or 0; the packet is then unchanged.
    #[inline(always)]
    pub fn decrement_ttl(&mut self) -> Result<u8, Expired> {
        let raw = self.bytes.as_mut();
        let [ttl, protocol, c, d, e, f, g, h] = array_at::<8>(raw, field::TTL);
        if ttl <= 1 {
            return Err(Expired);
        }
        let old = u16::from_be_bytes([ttl, protocol]);
        let [c, d] = checksum::update(u16::from_be_bytes([c, d]), old, old - 0x0100).to_be_bytes();
        // One store of the width that sums load: a narrower one would stall the next load of the
        // header until it has reached the cache.
        put(raw, field::TTL, [ttl - 1, protocol, c, d, e, f, g, h]);
        Ok(ttl - 1)
    }

    /// Sets the source address.
    pub fn set_source(&mut self, source: Ipv4Addr) {
        self.replace_address(field::SOURCE, source);
    }

    /// Sets the destination address.
    pub fn set_destination(&mut self, destination: Ipv4Addr) {
        self.replace_address(field::DESTINATION, destination);
    }

    /// Computes the header checksum anew.
    pub fn fill_checksum(&mut self) {
        put_u16(self.bytes.as_mut(), field::CHECKSUM, 0);
        let checksum = checksum::finish(checksum::sum(self.header(), Sum::ZERO));
        put_u16(self.bytes.as_mut(), field::CHECKSUM, checksum);
    }

    /// What follows the header, to be changed.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.header_len(), self.total_len());
        let raw = self.bytes.as_mut();
        let end = end.min(raw.len());
        raw.get_mut(start..end).unwrap_or_default()
    }

    /// Puts `new` in the place of the word at `at`.
    fn replace(&mut self, at: usize, new: u16) {
        let (old, checksum) = (u16_at(self.raw(), at), self.checksum());
        let raw = self.bytes.as_mut();
        put_u16(raw, at, new);
        put_u16(raw, field::CHECKSUM, checksum::update(checksum, old, new));
    }

    fn replace_address(&mut self, at: usize, new: Ipv4Addr) {
        let (old, new) = (u32_at(self.raw(), at), new.to_bits());
        let checksum = checksum::update_u32(self.checksum(), old, new);
        let raw = self.bytes.as_mut();
        put_u32(raw, at, new);
        put_u16(raw, field::CHECKSUM, checksum);
    }
}
impl<'a> Ipv4<&'a mut [u8]> {
    /// The same packet, no longer to be changed.
    #[inline(always)]
    pub fn into_shared(self) -> Ipv4<&'a [u8]> {
        Ipv4 { bytes: self.bytes, header_len: self.header_len, total_len: self.total_len }
    }
}
