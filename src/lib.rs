//! flannel's `udp` backend, done again.
//!
//! The crate is two things: the daemon `flannel-udp`, and [`packet`], a packet library that is
//! `no_std`, allocates nothing and can be used alone with `default-features = false`.
//! `docs/architecture.md` draws the rooms and the way of a packet through them.
#![cfg_attr(not(any(feature = "daemon", test, loom)), no_std)]

pub mod packet;

#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod confine;
#[cfg(feature = "daemon")]
pub mod dataplane;
#[cfg(feature = "daemon")]
pub mod host;
#[cfg(feature = "daemon")]
pub mod lab;
#[cfg(feature = "daemon")]
pub mod observe;
#[cfg(any(feature = "daemon", loom))]
pub mod route;
#[cfg(feature = "daemon")]
pub mod subnet;
#[cfg(feature = "daemon")]
#[allow(unsafe_code)]
pub mod sys;
