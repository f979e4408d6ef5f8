//! Packet views, checksums, segmenting, coalescing and the wire rules: pure, `no_std`, no allocation.
//!
//! Bytes are checked once, by a `parse` that returns [`Malformed`] or a view; every accessor of a
//! view is infallible. Nothing here knows sockets, clocks or threads, nothing allocates, and no
//! input makes anything panic.
//!
//! ```
//! use flannel_udp::packet::{ipv4::Ipv4, protocol, udp::Udp};
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
//! # Ok::<(), flannel_udp::packet::Malformed>(())
//! ```
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
mod malformed;
#[cfg(test)]
pub(crate) mod samples;

pub use malformed::Malformed;
