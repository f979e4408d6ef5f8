//! Settings of a network card: the `SIOCETHTOOL` requests of `include/uapi/linux/ethtool.h` that
//! answer with one number, and the list of its features by name.

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
    let mut value = EthtoolValue { command: switch.command(), data: 0 };
    // SAFETY: for these commands the kernel reads and writes one `ethtool_value`.
    unsafe { ask(name, (&raw mut value).cast()) }?;
    Ok(value.data != 0)
}

/// How a feature of a card stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feature {
    /// Whether it is in use.
    pub on: bool,
    /// Whether it can be switched.
    pub changeable: bool,
}

/// How the feature stands that `ethtool -k` calls `wanted`; `None` if this kernel has none of that
/// name.
///
/// # Errors
/// As [`is_on`].
pub fn feature(name: &str, wanted: &str) -> io::Result<Option<Feature>> {
    let names = feature_names(name)?;
    let Some(place) = names.iter().position(|feature| feature == wanted) else {
        return Ok(None);
    };
    // `struct ethtool_gfeatures`: a command and the number of the blocks that follow.
    let blocks = names.len().div_ceil(32);
    let mut words = vec![0u32; 2 + blocks * BLOCK_WORDS];
    words[..2].copy_from_slice(&[ETHTOOL_GFEATURES, blocks as u32]);
    // SAFETY: the kernel writes at most as many blocks of four words as the second word says.
    unsafe { ask(name, words.as_mut_ptr().cast()) }?;
    // `struct ethtool_get_features_block`: available, requested, active, never changed.
    let block = &words[2 + place / 32 * BLOCK_WORDS..][..BLOCK_WORDS];
    let is_set = |word: u32| word & 1 << (place % 32) != 0;
    Ok(Some(Feature { on: is_set(block[2]), changeable: is_set(block[0]) }))
}

/// The names of all features of this kernel, in the order of their bits.
fn feature_names(name: &str) -> io::Result<Vec<String>> {
    let mut info =
        SetInfo { command: ETHTOOL_GSSET_INFO, reserved: 0, mask: 1 << ETH_SS_FEATURES, count: 0 };
    // SAFETY: the mask has one bit, so the kernel writes one count behind it.
    unsafe { ask(name, (&raw mut info).cast()) }?;
    if info.mask == 0 {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    // `struct ethtool_gstrings`: command, set and number, then the strings.
    const HEAD: usize = 3;
    let mut words = vec![0u32; HEAD + info.count as usize * ETH_GSTRING_LEN / 4];
    words[..HEAD].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, info.count]);
    // SAFETY: the kernel writes all strings of the set, whose number it has just returned and which is
    // a constant of the kernel.
    unsafe { ask(name, words.as_mut_ptr().cast()) }?;
    let bytes: Vec<u8> = words[HEAD..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let text = |chars: &[u8]| {
        let end = chars.iter().position(|&byte| byte == 0).unwrap_or(chars.len());
        String::from_utf8_lossy(&chars[..end]).into_owned()
    };
    Ok(bytes.chunks_exact(ETH_GSTRING_LEN).map(text).collect())
}

/// Makes one `SIOCETHTOOL` request.
///
/// # Safety
/// `data` points at the structure of the command that it begins with, and at all that the kernel
/// writes for it.
unsafe fn ask(name: &str, data: *mut libc::c_char) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let mut request = ifreq(name)?;
    request.ifr_ifru.ifru_data = data;
    // SAFETY: SIOCETHTOOL reads the `ifreq`, which is alive for the call, and what its data member
    // points at, for which the caller answers.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    check(result as _)?;
    Ok(())
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `struct ethtool_sset_info`, with room for one set.
#[repr(C)]
struct SetInfo {
    command: u32,
    reserved: u32,
    mask: u64,
    count: u32,
}

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
/// The set of the features' names (`enum ethtool_stringset`).
const ETH_SS_FEATURES: u32 = 4;
/// Bytes of a string.
const ETH_GSTRING_LEN: usize = 32;
/// Words of `struct ethtool_get_features_block`.
const BLOCK_WORDS: usize = 4;

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

    #[test]
    fn features_are_found_by_name() {
        let loopback = feature("lo", "loopback").unwrap();
        assert_eq!(loopback, Some(Feature { on: true, changeable: false }));
        let names = feature_names("lo").unwrap();
        assert!(names.iter().any(|name| name == "tx-udp-segmentation"), "{names:?}");
        // One number and the name of the same switch agree.
        let gro = feature("lo", "rx-gro").unwrap().map(|feature| feature.on);
        assert_eq!(gro, Some(is_on("lo", Switch::Gro).unwrap()));
        assert_eq!(feature("lo", "no-such-feature").unwrap(), None);
        assert!(feature("no-such-card0", "rx-gro").is_err());
    }
}
