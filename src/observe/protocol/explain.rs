//! The arguments of `explain` and its answer: a packet's path, in both directions.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::route::Cidr;

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Its IP protocol number.
    pub protocol: u8,
    /// Source and destination port, where the protocol has ports.
    pub ports: Option<[u16; 2]>,
    /// Time to live with which the source sends it.
    pub ttl: u8,
    /// The host that sends the datagram with this packet, if it is not the host whose lease has the
    /// source.
    pub from: Option<Ipv4Addr>,
}

/// What happens to a packet in each direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The packet.
    pub packet: Query,
    /// If this host or one of its containers sends it.
    pub sent: PacketPath,
    /// If it arrives here from another host.
    pub received: PacketPath,
}

/// What happens to a packet in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketPath {
    /// The outcome.
    pub outcome: Outcome,
    /// The outcome as a sentence.
    pub verdict: String,
    /// Why this direction cannot apply to the packet, as a clause; `None` if it can.
    pub not_applicable: Option<String>,
    /// Name of the drop reason, if the daemon drops the packet.
    pub reason: Option<String>,
    /// The interface through which the kernel sends the packet.
    pub interface: Option<String>,
    /// The interface through which the packet arrives in this host's kernel; `None` if a process of this
    /// host sends it, or if the kernel has no route to its source.
    pub input: Option<String>,
    /// Whether the kernel forwards packets that arrive through that interface; `None` if it need not.
    pub forwarding: Option<String>,
    /// Result of the reverse path filter of that interface.
    pub rp_filter: Option<String>,
    /// Where the kernel sends the datagram with the packet.
    pub datagram: Option<String>,
    /// What to do if the kernel drops the packet or diverts it, with commands in backquotes.
    pub remedy: Option<String>,
    /// The lease that decides: the destination's on the way out, the source's on the way in.
    pub lease: Option<Cidr>,
    /// The host that the datagram is sent to or comes from.
    pub peer: Option<String>,
    /// Greatest inner packet, in bytes.
    pub mtu: u16,
    /// The time to live after each hop.
    pub ttl: Vec<Hop>,
    /// Result of the source check, as a sentence.
    pub source_check: String,
    /// Result of the destination check, as a sentence; `None` where no daemon of this host checks.
    pub destination_check: Option<String>,
    /// The masquerading rule of this host's kernel that matches the packet.
    pub masquerade: Option<Masquerade>,
    /// The ICMP error that its sender receives.
    pub icmp: Option<String>,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It arrives, as far as this host knows.
    Carried,
    /// It is dropped.
    Dropped,
    /// The daemon never sees it.
    NotHere,
}

/// The time to live after one hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// Where the hop is.
    pub at: String,
    /// Time to live with which the packet leaves.
    pub ttl: u8,
}

/// A masquerading rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masquerade {
    /// The rule, in the syntax of iptables.
    pub rule: String,
    /// The source address that the rule sets; `None` if the rule leaves the source as it is.
    pub source: Option<String>,
}
