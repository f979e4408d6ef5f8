//! The packets of one write.

use super::super::bytes::{put_u8, put_u16, u8_at, u16_at, u32_at};
use super::super::ipv4::field as ip;
use super::super::tcp::{self, Flags};
use super::super::vnet::{GsoType, VnetHeader};
use super::super::{checksum, protocol, udp};
use super::candidate::{Candidate, IP_HEADER};
use super::{MAX_TCP_SEGMENTS, MAX_TOTAL_LEN, MAX_UDP_SEGMENTS};

/// The packets of one write: several of one flow, or a single packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    first: u16,
    last: u16,
    count: u16,
    /// Length in bytes of the super-packet, its headers counted once.
    total_len: u16,
    /// Payload bytes of the first packet.
    size: u16,
    header_len: u8,
    protocol: u8,
    /// FIN and PSH of the last packet.
    ends: Flags,
}

impl Group {
    pub(super) const EMPTY: Self = Self::alone(0, 0);

    /// Number of its first packet, whose header is written.
    #[inline(always)]
    pub fn first(&self) -> usize {
        usize::from(self.first)
    }

    /// Number of packets in the group, at least 1.
    #[inline(always)]
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// Length in bytes of the header of each packet: the first packet's is written, the others' are left
    /// out. 0 for a packet that was pushed to be single.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.header_len)
    }

    /// Bytes to write, the `virtio_net_hdr` not counted.
    #[inline(always)]
    pub fn total_len(&self) -> usize {
        usize::from(self.total_len)
    }

    /// Makes the header of the first packet that of the whole group, and returns what must be
    /// written before it: [`VnetHeader::NONE`], and an untouched header, for a single packet.
    ///
    /// `header` is the first packet's first [`Group::header_len`] bytes, or more.
    #[inline]
    pub fn finish(&self, header: &mut [u8]) -> VnetHeader {
        if self.count <= 1 || header.len() < self.header_len() {
            return VnetHeader::NONE;
        }
        let old_len = u16_at(header, ip::TOTAL_LEN);
        let ip_checksum = checksum::update(u16_at(header, ip::CHECKSUM), old_len, self.total_len);
        put_u16(header, ip::TOTAL_LEN, self.total_len);
        put_u16(header, ip::CHECKSUM, ip_checksum);
        let len = self.total_len - IP_HEADER as u16;
        let pseudo = checksum::Sum::ZERO
            .add_u32(u32_at(header, ip::SOURCE))
            .add_u32(u32_at(header, ip::DESTINATION))
            .add_u16(u16::from(self.protocol))
            .add_u16(len);
        let csum_offset = if self.protocol == protocol::TCP {
            let at = IP_HEADER + tcp::field::FLAGS;
            put_u8(header, at, u8_at(header, at) | self.ends.0);
            tcp::field::CHECKSUM
        } else {
            put_u16(header, IP_HEADER + udp::field::LEN, len);
            udp::field::CHECKSUM
        };
        // The kernel adds the rest to the folded, not complemented, sum of the pseudo-header.
        put_u16(header, IP_HEADER + csum_offset, checksum::fold(pseudo));
        VnetHeader {
            needs_csum: true,
            gso: if self.protocol == protocol::TCP { GsoType::TcpV4 } else { GsoType::UdpL4 },
            hdr_len: u16::from(self.header_len),
            gso_size: self.size,
            csum_start: IP_HEADER as u16,
            csum_offset: csum_offset as u16,
            ..VnetHeader::NONE
        }
    }

    #[inline(always)]
    pub(super) const fn alone(number: usize, len: usize) -> Self {
        Self {
            first: number as u16,
            last: number as u16,
            count: 1,
            total_len: len as u16,
            size: 0,
            header_len: 0,
            protocol: 0,
            ends: Flags(0),
        }
    }

    #[inline(always)]
    pub(super) fn begin(number: usize, candidate: &Candidate) -> Self {
        Self {
            size: candidate.payload_len,
            header_len: candidate.header_len,
            protocol: candidate.protocol,
            ..Self::alone(number, usize::from(candidate.header_len) + candidate.payload())
        }
    }

    #[inline(always)]
    pub(super) fn last(&self) -> usize {
        usize::from(self.last)
    }

    /// Whether a payload of this length may be added.
    #[inline(always)]
    pub(super) fn has_room(&self, payload_len: u16) -> bool {
        payload_len <= self.size && self.total_len() + usize::from(payload_len) <= MAX_TOTAL_LEN
    }

    /// Adds a packet and returns whether it was the last that may be added.
    #[inline(always)]
    pub(super) fn add(&mut self, number: usize, candidate: &Candidate) -> bool {
        self.last = number as u16;
        self.count += 1;
        self.total_len += candidate.payload_len;
        self.ends = candidate.ends;
        let most = if self.protocol == protocol::TCP { MAX_TCP_SEGMENTS } else { MAX_UDP_SEGMENTS };
        candidate.closes() || candidate.payload_len < self.size || self.count() >= most
    }
}

/// Iterates over the numbers of a group's packets.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    next: &'a [u16],
    packet: u16,
    left: u16,
}

impl<'a> Members<'a> {
    #[inline(always)]
    pub(super) fn new(group: &Group, next: &'a [u16]) -> Self {
        Self { next, packet: group.first, left: group.count }
    }
}

impl Iterator for Members<'_> {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let packet = usize::from(self.packet);
        self.packet = self.next.get(packet).copied().unwrap_or(0);
        Some(packet)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Members<'_> {}
