//! An IPv4 prefix in CIDR notation (RFC 4632, section 3.1).

use core::fmt;
use core::net::{IpAddr, Ipv4Addr};
use core::str::FromStr;

/// An IPv4 prefix with its host bits cleared, such as `10.0.7.0/24`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    network: u32,
    len: u8,
}

impl Cidr {
    /// The prefix of `len` bits (0 to 32) that holds `addr`; host bits are cleared.
    ///
    /// # Panics
    /// If `len` is over 32.
    pub const fn new(addr: Ipv4Addr, len: u8) -> Self {
        assert!(len <= 32, "an IPv4 prefix has at most 32 bits");
        Self { network: addr.to_bits() & mask(len), len }
    }

    /// First address of the prefix.
    pub const fn network(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network)
    }

    /// Last address of the prefix.
    pub const fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network | !mask(self.len))
    }

    /// Prefix length in bits.
    pub const fn len(self) -> u8 {
        self.len
    }

    /// Always false: a prefix holds at least one address.
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Whether `addr` lies in the prefix.
    pub const fn contains(self, addr: Ipv4Addr) -> bool {
        addr.to_bits() & mask(self.len) == self.network
    }

    /// Whether every address of `other` lies in this prefix.
    pub const fn covers(self, other: Self) -> bool {
        self.len <= other.len && other.network & mask(self.len) == self.network
    }

    /// Whether the two prefixes share an address.
    pub const fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

/// Network mask of `len` bits, as a host-order word.
const fn mask(len: u8) -> u32 {
    match len {
        0 => 0,
        _ => u32::MAX << (32 - len),
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.len)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `a.b.c.d/len`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseCidrError;

impl fmt::Display for ParseCidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an IPv4 prefix of the form a.b.c.d/len")
    }
}

impl core::error::Error for ParseCidrError {}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let (addr, len) = text.split_once('/').ok_or(ParseCidrError)?;
        let addr = addr.parse().map_err(|_| ParseCidrError)?;
        let digits = len.bytes().all(|byte| byte.is_ascii_digit());
        match len.parse() {
            // Rust's integers accept a plus sign, Go's prefix lengths do not.
            Ok(len @ 0..=32) if digits => Ok(Self::new(addr, len)),
            _ => Err(ParseCidrError),
        }
    }
}

/// Parses an IPv4 address, also in the form of an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2), as Go's
/// `net.ParseIP` does.
pub fn ipv4(text: &str) -> Option<Ipv4Addr> {
    match text.parse().ok()? {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(address) => address.to_ipv4_mapped(),
    }
}

/// Serializes as text, `a.b.c.d/len`.
impl serde::Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error| serde::de::Error::custom(format!("{text:?}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(cidr("10.0.5.7/16").to_string(), "10.0.0.0/16");
        assert_eq!(cidr("10.0.5.7/0").to_string(), "0.0.0.0/0");
        assert_eq!(cidr("10.0.5.7/32").to_string(), "10.0.5.7/32");
    }

    #[test]
    fn containment_and_overlap() {
        assert!(cidr("10.0.0.0/16").covers(cidr("10.0.7.0/24")));
        assert!(!cidr("10.0.7.0/24").covers(cidr("10.0.0.0/16")));
        assert!(cidr("10.0.7.0/24").overlaps(cidr("10.0.0.0/16")));
        assert!(!cidr("10.0.7.0/24").overlaps(cidr("10.0.8.0/24")));
        assert!(cidr("0.0.0.0/0").contains(Ipv4Addr::BROADCAST));
        assert_eq!(cidr("10.0.7.0/24").last(), Ipv4Addr::new(10, 0, 7, 255));
    }

    #[test]
    fn bad_text_is_refused() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/-0",
            "10.0.0.0/+16",
            "10.0.0.0/1_6",
            "10.0.0.0/0x10",
            "10.0.0.0/ 16",
            "10.0.0.0/16/16",
            "+10.0.0.0/16",
            "10.0.0.+0/16",
            "010.0.0.0/16",
            "10.0.0/8",
            "x/8",
            "10.0.0.0/8 ",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text:?}");
        }
        // As Go's net.ParseCIDR.
        assert_eq!(cidr("10.0.0.0/016"), cidr("10.0.0.0/16"));
    }

    #[test]
    fn addresses_as_go_reads_them() {
        let address = Some(Ipv4Addr::new(10, 0, 0, 1));
        for (text, expected) in [
            ("10.0.0.1", address),
            ("::ffff:10.0.0.1", address),
            ("::ffff:a00:1", address),
            ("::10.0.0.1", None),
            ("fd00::1", None),
            ("10.0.0.01", None),
            ("10.0.0.+1", None),
            ("10.0.1", None),
            ("", None),
        ] {
            assert_eq!(ipv4(text), expected, "{text:?}");
        }
    }
}
