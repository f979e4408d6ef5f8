//! The configuration of a data plane.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::mtu::Mtu;
use super::offload::Offloads;
use super::outer_tos::OuterTos;
use super::tap::Tap;
use crate::route::Cidr;

/// Everything a data plane needs to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the TUN device; `%d` is replaced by the first free number.
    pub tun_name: String,
    /// Address of the TUN device, a `/32`: the network address of the own subnet.
    pub address: Ipv4Addr,
    /// The overlay network.
    pub network: Cidr,
    /// The subnet leased to this host.
    pub subnet: Cidr,
    /// Length of the longest inner packet.
    pub mtu: Mtu,
    /// Address and port of the UDP sockets: the underlay address and the backend's port.
    pub bind: SocketAddrV4,
    /// The type of service of the datagrams to other hosts.
    pub outer_tos: OuterTos,
    /// Number of workers, each with a TUN queue and a UDP socket of its own.
    pub workers: usize,
    /// The threads of each worker.
    pub threads: Threads,
    /// The features of the kernel that may be used.
    pub offloads: Offloads,
    /// How long an idle thread polls for packets before it sleeps.
    pub spin: Duration,
    /// Whether the inner source must belong to the lease of the outer sender.
    pub source_check: CheckMode,
    /// Whether the inner destination must lie in the own subnet.
    pub destination_check: CheckMode,
    /// The attachment point of captures.
    pub tap: Tap,
    /// What each packet thread runs before its first packet.
    pub on_thread_start: ThreadInit,
}

/// A function that each packet thread runs before its first packet, for example to drop privileges. An
/// error stops the start of the data plane.
#[derive(Clone, Default)]
pub struct ThreadInit(Option<Arc<dyn Fn() -> io::Result<()> + Send + Sync>>);

impl ThreadInit {
    /// Has each thread call `init`.
    pub fn new(init: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(init)))
    }

    pub(super) fn run(&self) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |init| init())
    }
}

impl fmt::Debug for ThreadInit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ThreadInit").field(&self.0.is_some()).finish()
    }
}

/// The threads of a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Threads {
    /// One for both directions while traffic is light, one for each direction while it is heavy.
    #[default]
    Auto,
    /// One for both directions.
    One,
    /// One for each direction.
    Two,
}

impl FromStr for Threads {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "1" => Ok(Self::One),
            "2" => Ok(Self::Two),
            _ => Err(format!("unknown value {text:?}: use auto, 1 or 2")),
        }
    }
}

/// What to do with a packet that fails a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CheckMode {
    /// The check is not made.
    Off,
    /// Count it, report it, and deliver it.
    #[default]
    Log,
    /// For sources only: count it, report it, and deliver it if it comes from the daemon of a host that has a
    /// lease; else drop it.
    Peers,
    /// Count it, report it, and drop it.
    Enforce,
}

impl FromStr for CheckMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "log" => Ok(Self::Log),
            "peers" => Ok(Self::Peers),
            "enforce" => Ok(Self::Enforce),
            _ => Err(format!("unknown value {text:?}: use off, log, peers or enforce")),
        }
    }
}

impl fmt::Display for CheckMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Log => "log",
            Self::Peers => "peers",
            Self::Enforce => "enforce",
        })
    }
}
