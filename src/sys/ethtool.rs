//! Settings of a network card: the `SIOCETHTOOL` requests of `include/uapi/linux/ethtool.h` that
//! answer with one number.

use std::io;
use std::os::fd::AsRawFd;

use super::check;
use super::tun::ifreq;

/// A switch of a card.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switch {
    /// Receive checksums verified by the card (`ETHTOOL_GRXCSUM`).
    RxChecksum,
    /// Transmit checksums made by the card (`ETHTOOL_GTXCSUM`).
    TxChecksum,
    /// Scattered packets sent without a copy (`ETHTOOL_GSG`).
    ScatterGather,
    /// Long packets cut as late as possible (`ETHTOOL_GGSO`).
    Gso,
    /// Packets of a flow joined on arrival (`ETHTOOL_GGRO`).
    Gro,
}

impl Switch {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::RxChecksum, Self::TxChecksum, Self::ScatterGather, Self::Gso, Self::Gro];

    /// What `ethtool -K` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RxChecksum => "rx",
            Self::TxChecksum => "tx",
            Self::ScatterGather => "sg",
            Self::Gso => "gso",
            Self::Gro => "gro",
        }
    }

    fn command(self) -> u32 {
        match self {
            Self::RxChecksum => 0x14,
            Self::TxChecksum => 0x16,
            Self::ScatterGather => 0x18,
            Self::Gso => 0x23,
            Self::Gro => 0x2b,
        }
    }
}

/// Whether a switch of the card `name` is on.
///
/// # Errors
/// `ENODEV` for an unknown card, `EOPNOTSUPP` where it has no such switch.
pub fn is_on(name: &str, switch: Switch) -> io::Result<bool> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let mut value = EthtoolValue { command: switch.command(), data: 0 };
    let mut request = ifreq(name)?;
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL reads the `ifreq` and, for these commands, writes the `ethtool_value` that
    // its data member points at; both are alive for the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    check(result as _)?;
    Ok(value.data != 0)
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `include/uapi/linux/sockios.h`.
const SIOCETHTOOL: u32 = 0x8946;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_answers() {
        assert!(is_on("lo", Switch::TxChecksum).unwrap());
        assert!(is_on("no-such-card0", Switch::Gro).is_err());
    }
}
