//! `virtio_net_hdr`: the header that precedes each packet read from or written to a TUN device with
//! `IFF_VNET_HDR`.
//!
//! The layout is that of `<linux/virtio_net.h>`, in the machine's byte order, as TUN has it unless
//! `TUNSETVNETLE` or `TUNSETVNETBE` was used.

use core::fmt;

use super::bytes::array_at;

/// How a packet must be segmented.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum GsoType {
    /// Not at all.
    #[default]
    None,
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP into IP fragments ("UFO"), which kernels since 4.14 no longer produce.
    UdpFragments,
    /// UDP into datagrams, over IPv4 or IPv6 ("USO").
    UdpL4,
}

/// The header. Its fields are unverified until [`super::segment`] has checked them against a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct VnetHeader {
    /// The checksum field holds the pseudo-header's sum only; the sender must complete it.
    pub needs_csum: bool,
    /// The checksum has been verified.
    pub data_valid: bool,
    /// How to segment the packet.
    pub gso: GsoType,
    /// The TCP segments carry ECN's congestion window reduced.
    pub ecn: bool,
    /// Length of the headers in bytes: a hint, which is wrong on packets that the kernel forwards.
    pub hdr_len: u16,
    /// Payload bytes in each segment.
    pub gso_size: u16,
    /// Where the checksummed part begins, bytes from the start of the packet.
    pub csum_start: u16,
    /// Where the checksum field is, bytes from `csum_start`.
    pub csum_offset: u16,
}

/// The segmentation type of a header is not one that is known here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UnknownGsoType(
    /// The raw type.
    pub u8,
);

impl VnetHeader {
    /// Length of the encoded header in bytes.
    pub const LEN: usize = 10;

    /// Nothing to segment, nothing to complete: the kernel checks the packet as one from the wire.
    pub const NONE: Self = Self {
        needs_csum: false,
        data_valid: false,
        gso: GsoType::None,
        ecn: false,
        hdr_len: 0,
        gso_size: 0,
        csum_start: 0,
        csum_offset: 0,
    };

    /// Reads the header that a TUN puts before a packet.
    ///
    /// # Errors
    /// [`UnknownGsoType`] for a type that is not in [`GsoType`], tunnel types included.
    #[inline]
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, UnknownGsoType> {
        let [flags, gso_type, ..] = *bytes;
        let gso = match gso_type & !GSO_ECN {
            GSO_NONE => GsoType::None,
            GSO_TCPV4 => GsoType::TcpV4,
            GSO_TCPV6 => GsoType::TcpV6,
            GSO_UDP => GsoType::UdpFragments,
            GSO_UDP_L4 => GsoType::UdpL4,
            _ => return Err(UnknownGsoType(gso_type)),
        };
        let field = |at| u16::from_ne_bytes(array_at(bytes, at));
        Ok(Self {
            needs_csum: flags & NEEDS_CSUM != 0,
            data_valid: flags & DATA_VALID != 0,
            gso,
            ecn: gso_type & GSO_ECN != 0,
            hdr_len: field(2),
            gso_size: field(4),
            csum_start: field(6),
            csum_offset: field(8),
        })
    }

    /// The header as a TUN reads it.
    #[inline]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let flags =
            (u8::from(self.needs_csum) * NEEDS_CSUM) | (u8::from(self.data_valid) * DATA_VALID);
        let gso = match self.gso {
            GsoType::None => GSO_NONE,
            GsoType::TcpV4 => GSO_TCPV4,
            GsoType::TcpV6 => GSO_TCPV6,
            GsoType::UdpFragments => GSO_UDP,
            GsoType::UdpL4 => GSO_UDP_L4,
        };
        let [a, b] = self.hdr_len.to_ne_bytes();
        let [c, d] = self.gso_size.to_ne_bytes();
        let [e, f] = self.csum_start.to_ne_bytes();
        let [g, h] = self.csum_offset.to_ne_bytes();
        [flags, gso | (u8::from(self.ecn) * GSO_ECN), a, b, c, d, e, f, g, h]
    }
}

impl fmt::Display for VnetHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vnet gso {:?}", self.gso)?;
        if self.ecn {
            f.write_str(" ecn")?;
        }
        write!(f, ", size {}, header {}", self.gso_size, self.hdr_len)?;
        if self.needs_csum {
            write!(f, ", csum from {} at +{}", self.csum_start, self.csum_offset)?;
        }
        f.write_str(if self.data_valid { ", data valid" } else { "" })
    }
}

impl fmt::Display for UnknownGsoType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown segmentation type {:#04x} in the virtio_net_hdr", self.0)
    }
}

impl core::error::Error for UnknownGsoType {}

// <linux/virtio_net.h>
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_UDP: u8 = 3;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_header_survives_the_round_trip() {
        for gso_type in 0..=255u8 {
            for flags in 0..4u8 {
                let mut bytes = [flags, gso_type, 1, 2, 3, 4, 5, 6, 7, 8];
                match VnetHeader::decode(&bytes) {
                    Ok(header) => assert_eq!(header.encode(), bytes),
                    Err(UnknownGsoType(raw)) => {
                        assert_eq!(raw, gso_type);
                        assert!(!matches!(gso_type & 0x7f, 0 | 1 | 3 | 4 | 5));
                    }
                }
                // Flags that carry no information for a TUN device (RSC_INFO) are not kept.
                bytes[0] |= 0xfc;
                if let Ok(header) = VnetHeader::decode(&bytes) {
                    assert_eq!(header.encode()[0], flags);
                }
            }
        }
    }

    #[test]
    fn prints() {
        let header = VnetHeader {
            needs_csum: true,
            gso: GsoType::TcpV4,
            ecn: true,
            hdr_len: 52,
            gso_size: 1420,
            csum_start: 20,
            csum_offset: 16,
            ..VnetHeader::NONE
        };
        assert_eq!(
            header.to_string(),
            "vnet gso TcpV4 ecn, size 1420, header 52, csum from 20 at +16"
        );
        assert!(UnknownGsoType(0x21).to_string().contains("0x21"));
    }
}
