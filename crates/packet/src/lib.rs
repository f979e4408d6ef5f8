#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod checksum;
pub mod coalesce;
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
mod expired;
mod malformed;
mod print;
#[cfg(test)]
pub(crate) mod samples;

pub use emit::EmitError;
pub use expired::Expired;
pub use malformed::Malformed;
