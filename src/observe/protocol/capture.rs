//! The arguments of `capture`.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::route::Cidr;

/// The arguments of the command `capture`. All may be missing: then every packet is captured, whole,
/// until the client closes the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaptureRequest {
    /// Only packets to or from the host with this underlay address.
    pub peer: Option<Ipv4Addr>,
    /// Only inner packets to or from an address in each of these prefixes.
    pub hosts: Vec<Cidr>,
    /// Only inner packets to or from one of these ports.
    pub ports: Vec<u16>,
    /// Only inner packets of this protocol.
    pub protocol: Option<u8>,
    /// Only one direction.
    pub direction: Option<DirectionFilter>,
    /// Only packets that were dropped.
    pub drops: Option<DropFilter>,
    /// Only as seen at the TUN device, not as datagrams.
    pub inner_only: bool,
    /// Only as datagrams, not as seen at the TUN device.
    pub outer_only: bool,
    /// Bytes that are kept of each packet at most.
    pub snap_len: Option<u32>,
    /// Number of packets after which the capture ends.
    pub count: Option<u64>,
    /// Milliseconds after which the capture ends.
    pub milliseconds: Option<u64>,
    /// Bytes of the stream after which the capture ends.
    pub bytes: Option<u64>,
}

/// A direction of packets, as seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DirectionFilter {
    /// From the other hosts.
    In,
    /// To the other hosts.
    Out,
}

/// Drop reasons of the packets that are captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DropFilter(
    /// Names of reasons; empty means every reason.
    pub Vec<String>,
);
