//! Packet views, checksums, segmenting, coalescing and the wire rules: pure, `no_std`, no allocation.
//!
//! Bytes are checked once, by a `parse` that returns [`Malformed`] or a view; every accessor of a
//! view is infallible. Nothing here knows sockets, clocks or threads, nothing allocates, and no
//! input makes anything panic.
//!
//! # A tour
//!
//! A packet is parsed layer by layer, each view handing its payload to the next:
//!
//! ```
//! use flannel_packet::{ipv4::Ipv4, protocol, udp::Udp};
//!
//! let bytes = [
//!     0x45, 0x00, 0x00, 0x1e, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xf3, 0xc0, // IPv4
//!     0x0a, 0x05, 0x14, 0x02, 0x0a, 0x05, 0x1f, 0x03, // 10.5.20.2 > 10.5.31.3
//!     0x14, 0xe9, 0x00, 0x35, 0x00, 0x0a, 0x00, 0x00, 0x68, 0x69, // UDP, "hi"
//! ];
//! let packet = Ipv4::parse(&bytes[..])?;
//! assert!(packet.verify_checksum());
//! assert_eq!(packet.protocol(), protocol::UDP);
//! let datagram = Udp::parse(packet.payload())?;
//! assert_eq!((datagram.destination_port(), datagram.payload()), (53, &b"hi"[..]));
//! assert_eq!(packet.to_string(), "IP 10.5.20.2.5353 > 10.5.31.3.53: UDP, length 2");
//! # Ok::<(), flannel_packet::Malformed>(())
//! ```
//!
//! What comes off a TUN with offloads is up to 64 KiB long. [`segment`] says how to cut it and
//! writes a header for each piece; the payloads stay where they are:
//!
//! ```
//! use flannel_packet::segment::{MAX_HEADER_LEN, Segments};
//! use flannel_packet::vnet::{GsoType, VnetHeader};
//!
//! # let mut packet = vec![0x45, 0, 0x0b, 0xd4, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 5, 20, 2, 10, 5, 31, 3];
//! # packet.extend([0x0f, 0xa0, 0, 53, 0x0b, 0xc0, 0, 0]);
//! # packet.resize(3_028, 7);
//! // As TUN hands it over: a UDP super-packet of 3,000 bytes, to be cut every 1,400.
//! let vnet = VnetHeader {
//!     needs_csum: true,
//!     gso: GsoType::UdpL4,
//!     gso_size: 1_400,
//!     csum_start: 20,
//!     csum_offset: 6,
//!     ..VnetHeader::NONE
//! };
//! let segments = Segments::new(&vnet, &packet)?;
//! assert_eq!((segments.count(), segments.full_len(), segments.last_len()), (3, 1_428, 228));
//! let mut header = [0; MAX_HEADER_LEN];
//! assert_eq!(segments.write_header(&packet, 2, &mut header), 2_828..3_028);
//! # Ok::<(), flannel_packet::segment::SegmentError>(())
//! ```
//!
//! The other way, [`coalesce`] finds out which packets of a batch the kernel may be given as one.
//! In between a router decrements the time to live ([`forward`]) and answers with an ICMP error
//! where it cannot go on ([`icmp`]), and [`wire`] holds what flannel's `udp` backend lets through.
//!
//! Everything prints: a packet as tcpdump would print it, an error as a sentence.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod checksum;
pub mod coalesce;
pub mod forward;
pub mod icmp;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod protocol;
pub mod segment;
pub mod tcp;
pub mod udp;
pub mod vnet;
pub mod wire;

mod bytes;
mod emit;
mod malformed;
mod print;
#[cfg(test)]
pub(crate) mod samples;

pub use emit::EmitError;
pub use malformed::Malformed;
