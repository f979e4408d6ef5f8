//! The subnet of a host, as `subnet.env` states it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use super::LabError;
use crate::route::Cidr;

/// The subnet that a host assigns to its containers, as `subnet.env` states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// The address of the host's bridge.
    pub gateway: Ipv4Addr,
    /// Prefix length of the subnet.
    pub prefix_len: u8,
    /// The largest packet a container may send, in bytes.
    pub mtu: u32,
}

impl Subnet {
    /// Reads `FLANNEL_SUBNET` and `FLANNEL_MTU` from a `subnet.env`.
    pub fn read(path: &Path) -> Result<Self, LabError> {
        let text = fs::read_to_string(path).map_err(|e| LabError::file(path, e))?;
        Self::parse(&text).ok_or_else(|| {
            LabError::Unusable(format!(
                "{}: FLANNEL_SUBNET or FLANNEL_MTU is missing",
                path.display()
            ))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        let (gateway, prefix_len) = value("FLANNEL_SUBNET")?.split_once('/')?;
        Some(Self {
            gateway: gateway.parse().ok()?,
            prefix_len: prefix_len.parse().ok().filter(|len| *len <= 32)?,
            mtu: value("FLANNEL_MTU")?.parse().ok()?,
        })
    }

    /// The subnet as a prefix.
    pub fn cidr(&self) -> Cidr {
        Cidr::new(self.gateway, self.prefix_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_subnet_file() {
        let text = "FLANNEL_NETWORK=10.0.0.0/16\nFLANNEL_SUBNET=10.0.13.1/24\nFLANNEL_MTU=1472\n";
        let subnet = Subnet::parse(text).unwrap();
        assert_eq!((subnet.gateway, subnet.mtu), (Ipv4Addr::new(10, 0, 13, 1), 1472));
        assert_eq!(subnet.cidr().to_string(), "10.0.13.0/24");
        assert_eq!(Subnet::parse("FLANNEL_MTU=1472\n"), None);
    }
}
