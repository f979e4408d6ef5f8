//! The arguments of `capture`.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::route::Cidr;

/// The arguments of the command `capture`. All may be missing: then every packet is captured, whole,
/// until the reader goes away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// Only packets to or from the host with this underlay address.
    pub peer: Option<Ipv4Addr>,
    /// Only inner packets to or from an address in each of these prefixes.
    pub hosts: Vec<Cidr>,
    /// Only inner packets to or from one of these ports.
    pub ports: Vec<u16>,
    /// Only inner packets of this protocol.
    pub protocol: Option<u8>,
    /// Only one direction.
    pub direction: Option<Way>,
    /// Only packets that were dropped.
    pub drops: Option<Drops>,
    /// Not as datagrams.
    pub inner_only: bool,
    /// Not at the TUN device.
    pub outer_only: bool,
    /// Bytes of each packet at most.
    pub snap_len: Option<u32>,
    /// End after so many packets.
    pub count: Option<u64>,
    /// End after so many milliseconds.
    pub milliseconds: Option<u64>,
    /// End once the capture has so many bytes.
    pub bytes: Option<u64>,
}

/// A direction, as seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// From the other hosts.
    In,
    /// To the other hosts.
    Out,
}

/// Which dropped packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Drops(
    /// Names of reasons; empty: all.
    pub Vec<String>,
);
