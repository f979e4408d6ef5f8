//! What the data plane is asked to do.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::offload::Feature;
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
    /// Greatest inner packet, in bytes: the underlay's MTU less 28.
    pub mtu: u16,
    /// Where the UDP sockets are bound: the underlay address and the backend's port.
    pub bind: SocketAddrV4,
    /// Number of workers, each with a TUN queue and a UDP socket of its own.
    pub workers: usize,
    /// How a worker is made of threads.
    pub threads: Threads,
    /// Which features of the kernel may be used.
    pub offloads: Offloads,
    /// How long an idle thread polls for packets before it sleeps.
    pub spin: Duration,
    /// Whether the inner source must belong to the lease of the outer sender.
    pub source_check: CheckMode,
    /// Whether the inner destination must lie in the own subnet.
    pub destination_check: CheckMode,
    /// Where captures listen.
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

/// How a worker is made of threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Threads {
    /// One for both directions while traffic is light, and one for each while there is much.
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
            _ => Err(format!("{text:?} is none of auto, 1, 2")),
        }
    }
}

/// What to do with a packet that fails a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CheckMode {
    /// Nothing: do not look.
    Off,
    /// Count it and carry it.
    #[default]
    Log,
    /// Count it and drop it.
    Enforce,
}

impl FromStr for CheckMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "log" => Ok(Self::Log),
            "enforce" => Ok(Self::Enforce),
            _ => Err(format!("{text:?} is none of off, log, enforce")),
        }
    }
}

impl fmt::Display for CheckMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Log => "log",
            Self::Enforce => "enforce",
        })
    }
}

/// Which features of the kernel may be used; each is still asked for before it is.
///
/// Text form: `auto` (all), `off` (none: one packet a system call), or a list of feature names.
/// A list that begins with `auto` and goes on with `-name` takes features away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offloads(u8);

impl Offloads {
    /// Every feature.
    pub const AUTO: Self = Self((1 << Feature::ALL.len()) - 1);
    /// No feature.
    pub const OFF: Self = Self(0);

    /// Whether `feature` may be used.
    pub fn allows(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u8 != 0
    }

    /// The same with `feature` allowed or not.
    #[must_use]
    pub fn with(self, feature: Feature, allowed: bool) -> Self {
        match allowed {
            true => Self(self.0 | 1 << feature as u8),
            false => Self(self.0 & !(1 << feature as u8)),
        }
    }
}

/// The text names no set of offloads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseOffloadError(String);

impl fmt::Display for ParseOffloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no offload: give auto, off, or some of", self.0)?;
        Feature::ALL.iter().try_for_each(|feature| write!(f, " {}", feature.name()))?;
        f.write_str(" coalesce (each after auto with - before it to take it away), with commas")
    }
}

impl std::error::Error for ParseOffloadError {}

impl FromStr for Offloads {
    type Err = ParseOffloadError;

    fn from_str(text: &str) -> Result<Self, ParseOffloadError> {
        let mut offloads = Self::OFF;
        for (index, word) in text.split(',').map(str::trim).enumerate() {
            match word {
                "auto" if index == 0 => offloads = Self::AUTO,
                "off" if text == "off" => {}
                _ => {
                    let (name, allowed) = match word.strip_prefix('-') {
                        Some(name) => (name, false),
                        None => (word, true),
                    };
                    let mut known = false;
                    for feature in Feature::ALL {
                        if feature.name() == name
                            || (name == "coalesce" && feature.name().ends_with("-coalesce"))
                        {
                            offloads = offloads.with(feature, allowed);
                            known = true;
                        }
                    }
                    if !known {
                        return Err(ParseOffloadError(word.to_owned()));
                    }
                }
            }
        }
        Ok(offloads)
    }
}

impl fmt::Display for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AUTO => return f.write_str("auto"),
            Self::OFF => return f.write_str("off"),
            _ => {}
        }
        let mut comma = "";
        for feature in Feature::ALL.into_iter().filter(|&feature| self.allows(feature)) {
            write!(f, "{comma}{}", feature.name())?;
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offloads_round_trip() {
        for text in ["auto", "off", "vnet", "vnet,gso", "gso,gro,batch"] {
            assert_eq!(text.parse::<Offloads>().unwrap().to_string(), text);
        }
        for bits in 0..=Offloads::AUTO.0 {
            assert_eq!(Offloads(bits).to_string().parse(), Ok(Offloads(bits)));
        }
    }

    #[test]
    fn features_are_taken_away() {
        let offloads: Offloads = "auto,-udp-coalesce".parse().unwrap();
        assert_eq!(offloads, Offloads::AUTO.with(Feature::UdpCoalesce, false));
        let offloads: Offloads = "auto, -coalesce".parse().unwrap();
        assert!(!offloads.allows(Feature::TcpCoalesce) && !offloads.allows(Feature::UdpCoalesce));
        assert!(offloads.allows(Feature::Gso));
    }

    #[test]
    fn unknown_words_are_named() {
        for text in ["", "fast", "gso,off", "gso,auto", "auto,,gso"] {
            assert!(text.parse::<Offloads>().is_err(), "{text:?}");
        }
        assert!("gso,fast".parse::<Offloads>().unwrap_err().to_string().contains("\"fast\""));
    }
}
