//! Writing the groups of packets that the coalescer made of a batch.

use std::io;

use super::{Ingress, Packet};
use crate::dataplane::counters::DropReason;
use crate::dataplane::offload::{Feature, coalesce};
use crate::dataplane::polling::Turn;
use crate::dataplane::syscalls::PacketQueue;
use crate::dataplane::tap::Ttl;
use crate::packet::coalesce::Group;
use crate::packet::segment::MAX_HEADER_LEN;
use crate::packet::vnet::{GsoType, VnetHeader};

impl<Q: PacketQueue> Ingress<Q> {
    /// Writes all groups in their order and empties the coalescer.
    pub(super) fn write_groups(&mut self) -> Turn {
        let mut turn = Turn::Idle;
        for index in 0..self.coalescer.groups().len() {
            let group = self.coalescer.groups().as_slice()[index];
            let result = if group.count() > 1 {
                self.write_joined(&group)
            } else {
                self.write_plain(&group)
            };
            if result.is_err_and(|error| error.raw_os_error() == Some(libc::EBADFD)) {
                turn = Turn::DeviceLost;
            }
        }
        self.coalescer.clear();
        self.packets.clear();
        turn
    }

    /// Writes a group as one super-packet, or packet by packet if the kernel does not accept that.
    fn write_joined(&mut self, group: &Group) -> io::Result<()> {
        let Packet { span, peer } = self.packets[group.first()];
        let first = span.range();
        let header_len = group.header_len();
        let mut original = [0; MAX_HEADER_LEN];
        let header = &mut self.batch.bytes_mut()[first.clone()][..header_len];
        original[..header_len].copy_from_slice(header);
        let vnet = group.finish(header);
        let prefix = vnet.encode();
        let mut parts = self.parts.begin();
        parts.push(&prefix[..self.prefix]);
        parts.push(&self.batch.bytes()[first.clone()]);
        let mut bytes = first.len();
        for number in self.coalescer.members(group).skip(1) {
            let payload = &self.batch.bytes()[self.packets[number].span.range()][header_len..];
            parts.push(payload);
            bytes += payload.len() + header_len;
        }
        let counters = &self.counters.ingress;
        counters.out_calls.add(1);
        match self.queue.write(&parts) {
            Ok(_) => {
                // All packets of a flow come from one host.
                counters.carry(peer, group.count() as u64, bytes as u64);
                counters.out_units.add(1);
                counters.out_unit_packets.record(group.count() as u64);
                self.show_joined(group, &original[..header_len], None);
                Ok(())
            }
            Err(error) if coalesce::is_refusal(&error) => {
                let feature = match vnet.gso {
                    GsoType::UdpL4 => Feature::UdpCoalesce,
                    _ => Feature::TcpCoalesce,
                };
                self.offloads.disable(
                    feature,
                    format!("writing {} coalesced packets: {error}", group.count()),
                );
                self.batch.bytes_mut()[first][..header_len]
                    .copy_from_slice(&original[..header_len]);
                self.write_plain(group)
            }
            Err(error) => {
                counters.drop(reason(&error), group.count() as u64);
                self.show_joined(group, &original[..header_len], Some(reason(&error)));
                Err(error)
            }
        }
    }

    /// Writes the packets of a group one by one, as they were received but for the TTL.
    fn write_plain(&mut self, group: &Group) -> io::Result<()> {
        let prefix = VnetHeader::NONE.encode();
        let counters = &self.counters.ingress;
        let mut result = Ok(());
        for number in self.coalescer.members(group) {
            let Packet { span, peer } = self.packets[number];
            let packet = &self.batch.bytes()[span.range()];
            let mut parts = self.parts.begin();
            parts.push(&prefix[..self.prefix]);
            parts.push(packet);
            counters.out_calls.add(1);
            match self.queue.write(&parts) {
                Ok(_) => {
                    counters.carry(peer, 1, packet.len() as u64);
                    counters.out_units.add(1);
                    counters.out_unit_packets.record(1);
                    if self.probe.is_on() {
                        self.probe.batch_sent();
                        self.probe.carried(self.batch.sender(span.range().start), [packet, &[]]);
                    }
                }
                Err(error) => {
                    counters.drop(reason(&error), 1);
                    if self.probe.is_on() {
                        let from = Some(self.batch.sender(span.range().start));
                        self.probe.dropped(reason(&error), from, Ttl::Decremented, [packet, &[]]);
                    }
                    result = Err(error);
                }
            }
        }
        result
    }

    /// Shows a capture the packets of a coalesced group, the first with the header that it was received
    /// with, and the reason if they were dropped.
    #[inline]
    fn show_joined(&mut self, group: &Group, header: &[u8], dropped: Option<DropReason>) {
        if !self.probe.is_on() {
            return;
        }
        self.probe.batch_sent();
        for (index, number) in self.coalescer.members(group).enumerate() {
            let range = self.packets[number].span.range();
            let from = self.batch.sender(range.start);
            let packet = &self.batch.bytes()[range];
            let parts = match index {
                0 => [header, &packet[header.len()..]],
                _ => [packet, &[]],
            };
            match dropped {
                None => self.probe.carried(from, parts),
                Some(reason) => self.probe.dropped(reason, Some(from), Ttl::Decremented, parts),
            }
        }
    }
}

/// The reason for which the packets of a refused write are dropped.
fn reason(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EIO) => DropReason::TunDown,
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => DropReason::TunFull,
        _ => DropReason::TunRefused,
    }
}
