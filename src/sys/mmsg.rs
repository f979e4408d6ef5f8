//! Many datagrams in one system call: `sendmmsg(2)` and `recvmmsg(2)`, with the control messages
//! `UDP_SEGMENT` and `UDP_GRO` of `udp(7)`.
//!
//! All storage is allocated and wired once; a call rewrites lengths, addresses and segment sizes.

mod cmsg;
mod recv;
mod send;

pub use cmsg::gro_segment;
pub use recv::{Received, RecvBatch};
pub use send::{Filling, SendBatch};

/// Longest UDP payload over IPv4: 65,535 less 20 and 8 (`ip(7)`; `EMSGSIZE` above).
pub const MAX_DATAGRAM: usize = 65_507;

/// Segments that one `UDP_SEGMENT` send may have: `UDP_MAX_SEGMENTS` of `include/linux/udp.h`
/// before Linux 6.9; newer kernels take 128.
pub const MAX_SEGMENTS: usize = 64;

#[cfg(test)]
mod tests;
