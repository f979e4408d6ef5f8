//! Cutting a super-packet, as a TUN device with segmentation offload delivers it, into packets for the
//! wire.
//!
//! No payload is copied: [`Segments`] writes one header for each packet and returns which bytes of
//! the super-packet follow it, ready for a scatter list. The rules are the kernel's
//! (`net/ipv4/tcp_offload.c`, `net/ipv4/udp_offload.c`, `inet_gso_segment`):
//!
//! - IPv4 identification counts up from the super-packet's;
//! - TCP sequence numbers continue; FIN and PSH are on the last only, CWR on the first only;
//! - every length and checksum is that of the packet; a UDP checksum is never 0.

mod error;

use core::ops::Range;

pub use error::SegmentError;

use super::bytes::{between, from, put_u16, put_u32, u8_at, u16_at, u32_at};
use super::checksum::{self, Sum};
use super::tcp::{self, Flags, Tcp};
use super::vnet::{GsoType, VnetHeader};
use super::{ipv4, ipv4::Ipv4, ipv6, ipv6::Ipv6, protocol, udp, udp::Udp};

/// Length in bytes of the longest header that [`Segments::write_header`] writes.
pub const MAX_HEADER_LEN: usize = 128;

/// How one packet off a TUN is cut; holds no bytes of it.
///
/// ```
/// # use flannel_packet::{segment::{MAX_HEADER_LEN, SegmentError, Segments}, vnet::VnetHeader};
/// # fn send(_: &[u8], _: &[u8]) {}
/// # fn f(vnet: &VnetHeader, packet: &[u8]) -> Result<(), SegmentError> {
/// let segments = Segments::new(vnet, packet)?;
/// for index in 0..segments.count() {
///     let mut header = [0; MAX_HEADER_LEN];
///     let payload = segments.write_header(packet, index, &mut header);
///     send(&header[..segments.header_len()], &packet[payload]);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Segments {
    layout: Layout,
    header_len: usize,
    /// Payload bytes in each packet but the last.
    size: usize,
    payload_len: usize,
    count: usize,
    /// Where TCP or UDP begins.
    transport: usize,
    is_v6: bool,
    /// Folded sum of the IPv4 header without total length, identification and checksum.
    ip_sum: u16,
    /// Folded sum of pseudo-header and transport header without what differs from packet to packet.
    transport_sum: u16,
    /// Of the first packet.
    id: u16,
    /// Of the first packet.
    sequence: u32,
    /// TCP's header length and flags.
    offset_flags: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layout {
    /// One packet as it is.
    Whole,
    /// One packet whose checksum, at the end of what is copied as header, is to be completed.
    Partial {
        never_zero: bool,
    },
    Tcp,
    Udp,
}

impl Segments {
    /// Checks every field of `vnet` that is used against `packet`, and `packet` itself.
    ///
    /// `hdr_len` is not used: it is wrong on packets that the kernel forwards.
    ///
    /// # Errors
    /// [`SegmentError`] says why the packet cannot be sent.
    #[inline]
    pub fn new(vnet: &VnetHeader, packet: &[u8]) -> Result<Self, SegmentError> {
        match vnet.gso {
            GsoType::None if !vnet.needs_csum => Ok(Self::whole(packet)),
            GsoType::None => Self::partial(vnet, packet),
            GsoType::TcpV4 => Self::v4(vnet, packet, protocol::TCP),
            GsoType::TcpV6 => Self::v6(vnet, packet, protocol::TCP),
            GsoType::UdpL4 if u8_at(packet, 0) >> 4 == 6 => Self::v6(vnet, packet, protocol::UDP),
            GsoType::UdpL4 => Self::v4(vnet, packet, protocol::UDP),
            GsoType::UdpFragments => Err(SegmentError::UnsupportedType),
        }
    }

    /// Number of packets, at least 1.
    #[inline(always)]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes that [`Segments::write_header`] writes for each packet, at most [`MAX_HEADER_LEN`];
    /// 0 for a packet that goes out as it is.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// Length in bytes of each packet but the last; of the only one if there is one.
    #[inline(always)]
    pub fn full_len(&self) -> usize {
        self.header_len + self.size.min(self.payload_len)
    }

    /// Length in bytes of the last packet.
    #[inline(always)]
    pub fn last_len(&self) -> usize {
        self.header_len + self.payload_len - self.size * (self.count - 1)
    }

    /// Bytes of all packets together, headers included.
    #[inline(always)]
    pub fn total_len(&self) -> usize {
        self.full_len() * (self.count - 1) + self.last_len()
    }

    /// Writes the header of packet `index` to the start of `out`, checksums complete, and returns
    /// where in the super-packet its payload lies.
    ///
    /// `packet` is the one that [`Segments::new`] saw. Where it is not, where `index` is not below
    /// [`Segments::count`], or where `out` is shorter than the header, the result is useless: an
    /// empty range, or wrong checksums, but never a panic.
    #[inline]
    pub fn write_header(&self, packet: &[u8], index: usize, out: &mut [u8]) -> Range<usize> {
        if index >= self.count {
            return 0..0;
        }
        let (Some((header, payload)), Some(out)) =
            (packet.split_at_checked(self.header_len), out.get_mut(..self.header_len))
        else {
            return 0..0;
        };
        out.copy_from_slice(header);
        let start = index * self.size;
        let payload = from(payload, start);
        let payload = payload.get(..self.size).unwrap_or(payload);
        match self.layout {
            Layout::Whole => {}
            Layout::Partial { never_zero } => {
                put_u16(out, self.header_len - 2, self.completed(packet, never_zero));
            }
            Layout::Tcp => {
                self.stamp_ip(index, payload.len(), out);
                self.stamp_tcp(index, payload, out);
            }
            Layout::Udp => {
                self.stamp_ip(index, payload.len(), out);
                self.stamp_udp(payload, out);
            }
        }
        self.header_len + start..self.header_len + start + payload.len()
    }

    fn whole(packet: &[u8]) -> Self {
        Self {
            layout: Layout::Whole,
            header_len: 0,
            size: packet.len(),
            payload_len: packet.len(),
            count: 1,
            transport: 0,
            is_v6: false,
            ip_sum: 0,
            transport_sum: 0,
            id: 0,
            sequence: 0,
            offset_flags: 0,
        }
    }

    fn partial(vnet: &VnetHeader, packet: &[u8]) -> Result<Self, SegmentError> {
        let (headers, protocol) = match u8_at(packet, 0) >> 4 {
            6 => {
                let ip = Ipv6::parse(packet)?;
                (ip.header_len(), ip.protocol())
            }
            _ => {
                let ip = Ipv4::parse(packet)?;
                (ip.header_len(), ip.protocol())
            }
        };
        let start = usize::from(vnet.csum_start);
        let header_len = start + usize::from(vnet.csum_offset) + 2;
        if start < headers || header_len > packet.len() {
            return Err(SegmentError::BadChecksumField);
        }
        if header_len > MAX_HEADER_LEN {
            return Err(SegmentError::HeaderTooLong);
        }
        let never_zero = protocol == protocol::UDP;
        let payload_len = packet.len() - header_len;
        Ok(Self {
            layout: Layout::Partial { never_zero },
            header_len,
            size: payload_len,
            payload_len,
            transport: start,
            ..Self::whole(packet)
        })
    }

    fn v4(vnet: &VnetHeader, packet: &[u8], protocol: u8) -> Result<Self, SegmentError> {
        let ip = Ipv4::parse(packet)?;
        let whole = ip.total_len() == packet.len();
        expect(whole, ip.is_fragment(), ip.protocol() == protocol)?;
        let pseudo = checksum::pseudo_v4(ip.source(), ip.destination(), protocol, 0);
        let mut ip_sum = Sum::ZERO
            .add_u16(u16_at(packet, ipv4::field::VERSION_IHL))
            .add_u16(u16_at(packet, ipv4::field::FLAGS_OFFSET))
            .add_u16(u16_at(packet, ipv4::field::TTL))
            .add_bytes(between(packet, ipv4::field::SOURCE, ipv4::field::SOURCE + 8));
        if !ip.options().is_empty() {
            ip_sum = ip_sum.add_bytes(ip.options());
        }
        let segments = Self { ip_sum: checksum::fold(ip_sum), id: ip.id(), ..Self::whole(packet) };
        segments.transport(vnet, packet, ip.header_len(), protocol, pseudo)
    }

    fn v6(vnet: &VnetHeader, packet: &[u8], protocol: u8) -> Result<Self, SegmentError> {
        let ip = Ipv6::parse(packet)?;
        let whole = ip.total_len() == packet.len();
        expect(whole, ip.is_fragment(), ip.protocol() == protocol)?;
        let pseudo = checksum::pseudo_v6(ip.source(), ip.destination(), protocol, 0);
        let segments = Self { is_v6: true, ..Self::whole(packet) };
        segments.transport(vnet, packet, ip.header_len(), protocol, pseudo)
    }

    /// Adds what is TCP's or UDP's to a cut whose IP part is known.
    #[inline]
    fn transport(
        self,
        vnet: &VnetHeader,
        packet: &[u8],
        transport: usize,
        protocol: u8,
        pseudo: Sum,
    ) -> Result<Self, SegmentError> {
        let head = from(packet, transport);
        let (layout, len, field, sequence, offset_flags, sum);
        if protocol == protocol::TCP {
            len = Tcp::parse(head)?.header_len();
            (layout, field) = (Layout::Tcp, tcp::field::CHECKSUM);
            sequence = u32_at(head, tcp::field::SEQUENCE);
            offset_flags = u16_at(head, tcp::field::DATA_OFFSET);
            sum = pseudo
                .add_u32(u32_at(head, tcp::field::SOURCE))
                .add_u32(u32_at(head, tcp::field::ACKNOWLEDGMENT))
                .add_u16(u16_at(head, tcp::field::WINDOW))
                .add_bytes(between(head, tcp::field::URGENT_POINTER, len));
        } else {
            len = Udp::<&[u8]>::HEADER_LEN;
            if head.len() < len {
                return Err(super::Malformed::TooShort.into());
            }
            (layout, field, sequence, offset_flags) = (Layout::Udp, udp::field::CHECKSUM, 0, 0);
            sum = pseudo.add_u32(u32_at(head, udp::field::SOURCE));
        }
        let (start, offset) = (usize::from(vnet.csum_start), usize::from(vnet.csum_offset));
        if vnet.needs_csum && (start, offset) != (transport, field) {
            return Err(SegmentError::BadChecksumField);
        }
        if vnet.gso_size == 0 {
            return Err(SegmentError::ZeroSize);
        }
        let (header_len, size) = (transport + len, usize::from(vnet.gso_size));
        if header_len > MAX_HEADER_LEN {
            return Err(SegmentError::HeaderTooLong);
        }
        let payload_len = packet.len() - header_len;
        Ok(Self {
            layout,
            header_len,
            size,
            payload_len,
            count: payload_len.div_ceil(size).max(1),
            transport,
            transport_sum: checksum::fold(sum),
            sequence,
            offset_flags,
            ..self
        })
    }

    /// The checksum where the field for it holds the pseudo-header's sum.
    fn completed(&self, packet: &[u8], never_zero: bool) -> u16 {
        let sum = checksum::sum(from(packet, self.transport), Sum::ZERO);
        if never_zero { checksum::finish_udp(sum) } else { checksum::finish(sum) }
    }

    #[inline(always)]
    fn stamp_ip(&self, index: usize, payload_len: usize, out: &mut [u8]) {
        let len = (self.header_len + payload_len) as u16;
        if self.is_v6 {
            let len = len.wrapping_sub(Ipv6::<&[u8]>::HEADER_LEN as u16);
            put_u16(out, ipv6::field::PAYLOAD_LEN, len);
            return;
        }
        let Some(out) = out.first_chunk_mut::<{ Ipv4::<&[u8]>::MIN_HEADER_LEN }>() else { return };
        let id = self.id.wrapping_add(index as u16);
        put_u16(out, ipv4::field::TOTAL_LEN, len);
        put_u16(out, ipv4::field::ID, id);
        let sum = Sum::ZERO.add_u16(self.ip_sum).add_u16(len).add_u16(id);
        put_u16(out, ipv4::field::CHECKSUM, checksum::finish(sum));
    }

    #[inline(always)]
    fn stamp_tcp(&self, index: usize, payload: &[u8], out: &mut [u8]) {
        let Some(out) = out.get_mut(self.transport..) else { return };
        let Some(out) = out.first_chunk_mut::<{ Tcp::<&[u8]>::MIN_HEADER_LEN }>() else { return };
        let sequence = self.sequence.wrapping_add((index * self.size) as u32);
        let mut flags = self.offset_flags;
        if index + 1 < self.count {
            flags &= !u16::from((Flags::FIN | Flags::PSH).0);
        }
        if index > 0 {
            flags &= !u16::from(Flags::CWR.0);
        }
        put_u32(out, tcp::field::SEQUENCE, sequence);
        put_u16(out, tcp::field::DATA_OFFSET, flags);
        let len = (self.header_len - self.transport + payload.len()) as u16;
        let header =
            Sum::ZERO.add_u16(self.transport_sum).add_u32(sequence).add_u16(flags).add_u16(len);
        let sum = checksum::sum(payload, header);
        put_u16(out, tcp::field::CHECKSUM, checksum::finish(sum));
    }

    #[inline(always)]
    fn stamp_udp(&self, payload: &[u8], out: &mut [u8]) {
        let Some(out) = out.get_mut(self.transport..) else { return };
        let Some(out) = out.first_chunk_mut::<{ Udp::<&[u8]>::HEADER_LEN }>() else { return };
        let len = (self.header_len - self.transport + payload.len()) as u16;
        put_u16(out, udp::field::LEN, len);
        // Once for the pseudo-header, once for the header.
        let header = Sum::ZERO.add_u16(self.transport_sum).add_u16(len).add_u16(len);
        let sum = checksum::sum(payload, header);
        put_u16(out, udp::field::CHECKSUM, checksum::finish_udp(sum));
    }
}

/// What either IP's part of a super-packet must be: all of the bytes, no fragment, and of the
/// protocol that the header before it names.
fn expect(whole: bool, fragment: bool, right_protocol: bool) -> Result<(), SegmentError> {
    match (whole, fragment, right_protocol) {
        (false, _, _) => Err(SegmentError::BadLength),
        (_, true, _) => Err(SegmentError::Fragment),
        (_, _, false) => Err(SegmentError::WrongProtocol),
        _ => Ok(()),
    }
}

/// Completes in place the checksum of a packet that is not to be cut; nothing to do where the
/// kernel has not asked for it.
///
/// # Errors
/// [`SegmentError`], as for [`Segments::new`]; [`SegmentError::UnsupportedType`] if the packet is
/// to be cut.
#[inline]
pub fn complete_checksum(vnet: &VnetHeader, packet: &mut [u8]) -> Result<(), SegmentError> {
    if vnet.gso != GsoType::None {
        return Err(SegmentError::UnsupportedType);
    }
    if !vnet.needs_csum {
        return Ok(());
    }
    let segments = Segments::partial(vnet, packet)?;
    let Layout::Partial { never_zero } = segments.layout else { return Ok(()) };
    let checksum = segments.completed(packet, never_zero);
    put_u16(packet, segments.header_len - 2, checksum);
    Ok(())
}

#[cfg(test)]
mod tests;
