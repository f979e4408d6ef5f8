//! Joining packets of one flow into super-packets for a TUN device: the reverse of [`super::segment`].
//!
//! A **batch** is what is pushed between two [`Coalescer::clear`]s; packets are numbered in it. A
//! **flow** is addresses, protocol and ports. A **group** is what becomes one write: packets of one
//! flow whose payloads follow each other, or one packet alone. Groups are written in the order in
//! which they were opened, and a packet only ever joins the newest group of its flow, so no flow is
//! reordered.
//!
//! The rules are those of the kernel's own GRO (`net/ipv4/tcp_offload.c`,
//! `net/ipv4/udp_offload.c`, `inet_gro_receive`). A packet joins its group only if
//!
//! - it is IPv4 without options, no fragment, without the reserved ("evil") bit, and TOS, TTL and DF
//!   are the group's;
//! - its identification counts on from the group's, or is constant where DF is set;
//! - TCP: acknowledgment, window and options are the group's, the sequence number follows, all flags
//!   but FIN and PSH are the group's, reserved ones, ECE and AE included, none is SYN, RST, URG or
//!   CWR, there is a payload, and it is no longer than the first;
//! - UDP: there is a checksum and a payload no longer than the first;
//! - both its checksums are right, since the kernel does not verify those of a super-packet and would
//!   pass a damaged one on as sound; and neither IP's nor TCP's is the other zero, 0xffff.
//!
//! A FIN or PSH, a payload shorter than the first, or a limit closes the group. Any other packet of a flow
//! closes the flow's group and forms a group of its own; a fragment, whose ports are unknown, closes
//! all groups between its two addresses.
//!
//! Accurate ECN (RFC 9768) has a counter in AE, CWR and ECE, so all segments between two changes of it
//! are joined unless CWR is among its bits: a segment with CWR stands alone, because cutting it again
//! takes CWR from all segments but the first unless they are marked `SKB_GSO_TCP_ACCECN`, which
//! `virtio_net_hdr` cannot express.
//!
//! Two rules differ from GRO's. A checksum of 0xffff, which some senders write for 0, is not changed. A
//! group of constant identification is written like any other, since `virtio_net_hdr` cannot
//! express `SKB_GSO_TCP_FIXEDID`: if the kernel segments the group again, the identifications count
//! up, which RFC 6864 §4.1 declares meaningless for a packet with DF.

mod candidate;
mod flows;
mod group;

use core::fmt;

pub use group::{Group, Members};

use super::ipv4::Ipv4;
use candidate::{Candidate, Order};
use flows::Flows;

/// Most datagrams in a group: `UDP_MAX_SEGMENTS` of kernels before 6.9.
pub const MAX_UDP_SEGMENTS: usize = 64;

/// Most TCP segments in a group. The kernel has no such limit; this one keeps the scatter list of a
/// write far below `UIO_MAXIOV`, 1,024.
pub const MAX_TCP_SEGMENTS: usize = 128;

/// Length in bytes of the longest super-packet, by IPv4's total length. The kernel accepts a longer
/// one and truncates that field.
pub const MAX_TOTAL_LEN: usize = 65_535;

/// The protocols whose packets may be joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Protocols {
    /// TCP segments.
    pub tcp: bool,
    /// UDP datagrams. Connection tracking then counts a group as one packet.
    pub udp: bool,
}

/// Decides which packets of a batch are written together; holds none of their bytes.
///
/// `PACKETS` is the most packets in a batch, below 65,536. `FLOWS` is how many flows are remembered
/// in a batch, a power of two: further ones push others out, which costs joining, not order.
///
/// ```
/// use flannel_packet::coalesce::{Coalescer, Full};
/// use flannel_packet::ipv4::Ipv4;
/// # fn write(_: [u8; 10], _: &[&[u8]]) {}
/// # fn f(coalescer: &mut Coalescer, batch: &mut [Vec<u8>]) -> Result<(), Full> {
/// coalescer.clear();
/// for packet in batch.iter() {
///     if let Ok(packet) = Ipv4::parse(&packet[..]) {
///         coalescer.push(&packet)?;
///     }
/// }
/// for group in coalescer.groups() {
///     let header = &mut batch[group.first()][..group.header_len()];
///     let vnet = group.finish(header);
///     let mut pieces = vec![&batch[group.first()][..]];
///     for member in coalescer.members(group).skip(1) {
///         pieces.push(&batch[member][group.header_len()..]);
///     }
///     write(vnet.encode(), &pieces);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Coalescer<const PACKETS: usize = 1024, const FLOWS: usize = 128> {
    protocols: Protocols,
    packets: usize,
    open: usize,
    groups: [Group; PACKETS],
    /// Of each packet the next in its group.
    next: [u16; PACKETS],
    flows: Flows<FLOWS>,
}

/// The batch has as many packets as it can hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Full;

impl<const PACKETS: usize, const FLOWS: usize> Coalescer<PACKETS, FLOWS> {
    /// An empty batch.
    pub const fn new(protocols: Protocols) -> Self {
        const { assert!(PACKETS < NO_GROUP as usize && FLOWS.is_power_of_two()) }
        Self {
            protocols,
            packets: 0,
            open: 0,
            groups: [Group::EMPTY; PACKETS],
            next: [0; PACKETS],
            flows: Flows::new(),
        }
    }

    /// Says what may be joined from here on.
    pub fn set_protocols(&mut self, protocols: Protocols) {
        self.protocols = protocols;
    }

    /// Begins the next batch.
    #[inline]
    pub fn clear(&mut self) {
        self.packets = 0;
        self.open = 0;
        self.flows.clear();
    }

    /// Number of packets in the batch.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.packets
    }

    /// Whether nothing was pushed since the last [`Coalescer::clear`].
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// Whether the next push would fail.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.packets == PACKETS
    }

    /// Adds a packet to the batch and returns its number: 0 for the first, and so on.
    ///
    /// What is written for it later must be these bytes, [`Ipv4::as_bytes`], so the time to live
    /// must have been decremented before.
    ///
    /// # Errors
    /// [`Full`] after `PACKETS` packets.
    #[inline]
    pub fn push(&mut self, packet: &Ipv4<&[u8]>) -> Result<usize, Full> {
        let number = self.take_number()?;
        match Order::of(packet) {
            Order::Free => {
                self.stand_alone(number, packet.total_len());
            }
            Order::Fragment(addresses) => {
                self.flows.close_between(addresses);
                self.stand_alone(number, packet.total_len());
            }
            Order::Flow(key) => {
                let slot = self.flows.find(key);
                match Candidate::read(packet, self.protocols) {
                    Some(candidate) => self.place(number, slot, packet, &candidate),
                    None => {
                        self.flows.close(slot);
                        self.stand_alone(number, packet.total_len());
                    }
                }
            }
        }
        Ok(number)
    }

    /// Adds `len` bytes that are not IPv4, or that must not be looked at, as a packet that stands
    /// alone; returns its number.
    ///
    /// # Errors
    /// [`Full`] after `PACKETS` packets.
    pub fn push_alone(&mut self, len: usize) -> Result<usize, Full> {
        let number = self.take_number()?;
        self.stand_alone(number, len);
        Ok(number)
    }

    /// What is to be written, in this order.
    #[inline]
    pub fn groups(&self) -> core::slice::Iter<'_, Group> {
        self.groups.get(..self.open).unwrap_or(&[]).iter()
    }

    /// The numbers of a group's packets, in order.
    #[inline]
    pub fn members(&self, group: &Group) -> Members<'_> {
        Members::new(group, &self.next)
    }

    #[inline(always)]
    fn take_number(&mut self) -> Result<usize, Full> {
        let number = self.packets;
        if number == PACKETS {
            return Err(Full);
        }
        self.packets = number + 1;
        Ok(number)
    }

    /// Puts a packet that is fit to be joined into its flow's group, or opens one.
    #[inline]
    fn place(&mut self, number: usize, slot: usize, packet: &Ipv4<&[u8]>, candidate: &Candidate) {
        let flow = self.flows.get_mut(slot);
        if let Some(group) = self.groups.get_mut(usize::from(flow.group))
            && group.has_room(candidate.payload_len)
            && flow.shape.is_followed_by(group.count(), candidate, packet)
        {
            if !candidate.is_intact(packet) {
                flow.group = NO_GROUP;
                self.stand_alone(number, packet.total_len());
                return;
            }
            if let Some(next) = self.next.get_mut(group.last()) {
                *next = number as u16;
            }
            flow.shape.advance(group.count(), candidate);
            if group.add(number, candidate) {
                flow.group = NO_GROUP;
            }
            return;
        }
        // A group that would be closed at once is a packet alone: the kernel checks that one.
        if candidate.closes() || !candidate.is_intact(packet) {
            flow.group = NO_GROUP;
            self.stand_alone(number, packet.total_len());
            return;
        }
        flow.group = self.open as u16;
        flow.shape.begin(candidate, packet);
        self.append(Group::begin(number, candidate));
    }

    #[inline(always)]
    fn stand_alone(&mut self, number: usize, len: usize) {
        self.append(Group::alone(number, len));
    }

    #[inline(always)]
    fn append(&mut self, group: Group) {
        // There are never more groups than packets.
        if let Some(place) = self.groups.get_mut(self.open) {
            *place = group;
            self.open += 1;
        }
    }
}

impl Default for Protocols {
    /// Both.
    fn default() -> Self {
        Self { tcp: true, udp: true }
    }
}

impl<const PACKETS: usize, const FLOWS: usize> Default for Coalescer<PACKETS, FLOWS> {
    fn default() -> Self {
        Self::new(Protocols::default())
    }
}

impl<const PACKETS: usize, const FLOWS: usize> fmt::Debug for Coalescer<PACKETS, FLOWS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.groups()).finish()
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the batch is full")
    }
}

impl core::error::Error for Full {}

/// In a flow: it has no open group. Also beyond every index of a group.
const NO_GROUP: u16 = u16::MAX;

#[cfg(test)]
mod tests;
