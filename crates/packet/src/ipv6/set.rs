//! Changing the header of a packet in place.

use core::net::Ipv6Addr;

use super::super::Expired;
use super::super::bytes::{put, put_u8, put_u32, u32_at};
use super::header::FLOW_LABEL;
use super::{Ipv6, field};

/// IPv6 has no header checksum. The checksum of the protocol above is left alone; where it covers
/// what changes, which is the addresses, adjust it with the pseudo-headers before and after, as by
/// [`Udp::adjust_checksum`](crate::udp::Udp::adjust_checksum).
impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv6<T> {
    /// Sets the traffic class: differentiated services and ECN bits.
    pub fn set_traffic_class(&mut self, traffic_class: u8) {
        let others = u32_at(self.raw(), field::VERSION) & !(0xff << 20);
        put_u32(self.bytes.as_mut(), field::VERSION, others | u32::from(traffic_class) << 20);
    }

    /// Sets the flow label, of which the low 20 bits count.
    pub fn set_flow_label(&mut self, flow_label: u32) {
        let others = u32_at(self.raw(), field::VERSION) & !FLOW_LABEL;
        put_u32(self.bytes.as_mut(), field::VERSION, others | flow_label & FLOW_LABEL);
    }

    /// Sets the hop limit.
    pub fn set_hop_limit(&mut self, hop_limit: u8) {
        put_u8(self.bytes.as_mut(), field::HOP_LIMIT, hop_limit);
    }

    /// Takes one hop off the hop limit and returns what is left, at least 1.
    ///
    /// # Errors
    /// [`Expired`] where the hop limit was 1 or 0; the packet is then unchanged.
    pub fn decrement_hop_limit(&mut self) -> Result<u8, Expired> {
        match self.hop_limit() {
            0 | 1 => Err(Expired),
            limit => {
                self.set_hop_limit(limit - 1);
                Ok(limit - 1)
            }
        }
    }

    /// Sets the source address.
    pub fn set_source(&mut self, source: Ipv6Addr) {
        put(self.bytes.as_mut(), field::SOURCE, source.octets());
    }

    /// Sets the destination address.
    pub fn set_destination(&mut self, destination: Ipv6Addr) {
        put(self.bytes.as_mut(), field::DESTINATION, destination.octets());
    }

    /// What follows all headers of IPv6, to be changed.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.header_len(), self.total_len());
        let raw = self.bytes.as_mut();
        let end = end.min(raw.len());
        raw.get_mut(start..end).unwrap_or_default()
    }
}
