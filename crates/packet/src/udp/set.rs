//! Changing a datagram in place.

use super::super::bytes::{put_u16, u16_at};
use super::super::checksum::{self, Sum};
use super::{Udp, field};

/// Setting a port keeps the checksum in step (RFC 1624): a right one stays right, a wrong one stays
/// wrong, and an absent one stays absent.
impl<T: AsRef<[u8]> + AsMut<[u8]>> Udp<T> {
    /// Sets the source port.
    pub fn set_source_port(&mut self, port: u16) {
        self.replace(field::SOURCE, port);
    }

    /// Sets the destination port.
    pub fn set_destination_port(&mut self, port: u16) {
        self.replace(field::DESTINATION, port);
    }

    /// Adjusts the checksum to a pseudo-header that changed from `old` to `new`, as by a change of
    /// an address.
    pub fn adjust_checksum(&mut self, old: Sum, new: Sum) {
        self.update(checksum::fold(old), checksum::fold(new));
    }

    /// Computes the checksum anew for this pseudo-header.
    pub fn fill_checksum(&mut self, pseudo_header: Sum) {
        put_u16(self.bytes.as_mut(), field::CHECKSUM, 0);
        let checksum = checksum::finish_udp(checksum::sum(self.as_bytes(), pseudo_header));
        put_u16(self.bytes.as_mut(), field::CHECKSUM, checksum);
    }

    /// What follows the header, to be changed; the checksum is not adjusted.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let end = self.total_len();
        let raw = self.bytes.as_mut();
        let end = end.min(raw.len());
        raw.get_mut(Self::HEADER_LEN..end).unwrap_or_default()
    }

    fn replace(&mut self, at: usize, new: u16) {
        let old = u16_at(self.bytes.as_ref(), at);
        put_u16(self.bytes.as_mut(), at, new);
        self.update(old, new);
    }

    fn update(&mut self, old: u16, new: u16) {
        if self.checksum() != 0 {
            let checksum = match checksum::update(self.checksum(), old, new) {
                0 => 0xffff,
                checksum => checksum,
            };
            put_u16(self.bytes.as_mut(), field::CHECKSUM, checksum);
        }
    }
}
