//! What `explain` asks and what it is told: a packet's way, in both directions.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::route::Cidr;

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Where it comes from.
    pub source: Ipv4Addr,
    /// Where it goes to.
    pub destination: Ipv4Addr,
    /// Its IP protocol number.
    pub protocol: u8,
    /// Source and destination port, where the protocol has ports.
    pub ports: Option<[u16; 2]>,
    /// The time to live that it is sent with.
    pub ttl: u8,
    /// The host that a datagram with it comes from, if not the one that the source belongs to.
    pub from: Option<Ipv4Addr>,
}

/// The ways of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The packet.
    pub packet: Query,
    /// If it is sent from here, or through here.
    pub sent: Way,
    /// If it comes in here from another host.
    pub received: Way,
}

/// One way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// What becomes of it.
    pub outcome: Outcome,
    /// The same in words.
    pub verdict: String,
    /// The reason's name, if it is dropped.
    pub reason: Option<String>,
    /// The interface that the kernel sends it through: on its way out, or when it has come in.
    pub interface: Option<String>,
    /// The lease that decides: the destination's on the way out, the source's on the way in.
    pub lease: Option<Cidr>,
    /// Where the datagram goes to, or which host it comes from.
    pub peer: Option<String>,
    /// Greatest inner packet, in bytes.
    pub mtu: u16,
    /// Its time to live from hop to hop.
    pub ttl: Vec<Hop>,
    /// What the check of its source says.
    pub source_check: String,
    /// What the check of its destination says, where there is one.
    pub destination_check: Option<String>,
    /// The masquerading rule that it meets in this host's kernel.
    pub masquerade: Option<Masquerade>,
    /// The error that its sender gets.
    pub icmp: Option<String>,
}

/// What becomes of a packet.
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

/// The time to live at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The place.
    pub at: String,
    /// What is left when the packet leaves it.
    pub ttl: u8,
}

/// A masquerading rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masquerade {
    /// In iptables' words.
    pub rule: String,
    /// The source that it gives the packet; `None` if it leaves it.
    pub source: Option<String>,
}
