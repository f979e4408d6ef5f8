//! flannel's `udp` backend in Rust: the library behind the program `flannel-udp`.
//!
//! Packets are parsed and made by a crate of their own, `flannel-packet`, here as [`packet`].
//! `docs/architecture.md` describes the modules and the path of a packet through them.

pub use flannel_packet as packet;

#[cfg(not(loom))]
pub mod args;
#[cfg(not(loom))]
pub mod cli;
#[cfg(not(loom))]
pub mod confine;
#[cfg(not(loom))]
pub mod daemon;
#[cfg(not(loom))]
pub mod dataplane;
#[cfg(not(loom))]
pub mod doctor;
#[cfg(not(loom))]
pub mod exit;
#[cfg(not(loom))]
pub mod host;
#[cfg(not(loom))]
pub mod humanize;
#[cfg(not(loom))]
pub mod lab;
#[cfg(not(loom))]
mod names;
#[cfg(not(loom))]
pub mod observe;
#[cfg(not(loom))]
pub mod output_file;
#[cfg(not(loom))]
mod probe;
pub mod route;
#[cfg(not(loom))]
pub mod runtime;
#[cfg(all(test, not(loom)))]
mod samples;
#[cfg(not(loom))]
pub mod subnet;
#[cfg(not(loom))]
#[allow(unsafe_code)]
pub mod sys;
