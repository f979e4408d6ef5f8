//! Changing a segment in place.

use super::super::bytes::{put_u16, put_u32, u16_at, u32_at};
use super::super::checksum::{self, Sum};
use super::{Flags, Tcp, field};

/// Each of these keeps the checksum in step (RFC 1624): a right one stays right, and a wrong one
/// stays wrong.
impl<T: AsRef<[u8]> + AsMut<[u8]>> Tcp<T> {
    /// Sets the source port.
    pub fn set_source_port(&mut self, port: u16) {
        self.replace(field::SOURCE, port);
    }

    /// Sets the destination port.
    pub fn set_destination_port(&mut self, port: u16) {
        self.replace(field::DESTINATION, port);
    }

    /// Sets the sequence number.
    pub fn set_sequence(&mut self, sequence: u32) {
        self.replace_u32(field::SEQUENCE, sequence);
    }

    /// Sets the acknowledgment number.
    pub fn set_acknowledgment(&mut self, acknowledgment: u32) {
        self.replace_u32(field::ACKNOWLEDGMENT, acknowledgment);
    }

    /// Sets the control bits.
    pub fn set_flags(&mut self, flags: Flags) {
        let offset = u16_at(self.bytes.as_ref(), field::DATA_OFFSET) & 0xff00;
        self.replace(field::DATA_OFFSET, offset | u16::from(flags.0));
    }

    /// Sets the window, not scaled.
    pub fn set_window(&mut self, window: u16) {
        self.replace(field::WINDOW, window);
    }

    /// Adjusts the checksum to a pseudo-header that changed from `old` to `new`, as by a change of
    /// an address.
    pub fn adjust_checksum(&mut self, old: Sum, new: Sum) {
        let (old, new) = (checksum::fold(old), checksum::fold(new));
        let checksum = checksum::update(self.checksum(), old, new);
        put_u16(self.bytes.as_mut(), field::CHECKSUM, checksum);
    }

    /// Computes the checksum anew for this pseudo-header.
    pub fn fill_checksum(&mut self, pseudo_header: Sum) {
        put_u16(self.bytes.as_mut(), field::CHECKSUM, 0);
        let checksum = checksum::finish(checksum::sum(self.bytes.as_ref(), pseudo_header));
        put_u16(self.bytes.as_mut(), field::CHECKSUM, checksum);
    }

    /// What follows the header, to be changed; the checksum is not adjusted.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let start = self.header_len();
        self.bytes.as_mut().get_mut(start..).unwrap_or_default()
    }

    fn replace(&mut self, at: usize, new: u16) {
        let (old, checksum) = (u16_at(self.bytes.as_ref(), at), self.checksum());
        put_u16(self.bytes.as_mut(), at, new);
        put_u16(self.bytes.as_mut(), field::CHECKSUM, checksum::update(checksum, old, new));
    }

    fn replace_u32(&mut self, at: usize, new: u32) {
        let (old, checksum) = (u32_at(self.bytes.as_ref(), at), self.checksum());
        put_u32(self.bytes.as_mut(), at, new);
        put_u16(self.bytes.as_mut(), field::CHECKSUM, checksum::update_u32(checksum, old, new));
    }
}
