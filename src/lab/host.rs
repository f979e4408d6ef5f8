//! One host of the lab: a network namespace with an underlay address, a bridge for its containers,
//! and whatever carries packets to the other hosts.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::daemon::Daemon;
use super::{LabError, tool};
use crate::route::Cidr;
use crate::sys::netns::Netns;

/// A host of the lab.
#[derive(Debug)]
pub struct Host {
    // Dropped in this order: the daemon stops before its network goes.
    pub(super) daemon: Option<Daemon>,
    pub(super) containers: Vec<Container>,
    pub(super) netns: Netns,
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    pub(super) directory: PathBuf,
}

/// A container's network: a namespace behind its host's bridge.
#[derive(Debug)]
pub struct Container {
    pub(super) netns: Netns,
    pub(super) address: Ipv4Addr,
}

/// What a host hands to its containers, as `subnet.env` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// The host's own address in its subnet: the bridge's.
    pub gateway: Ipv4Addr,
    /// Prefix length of the subnet.
    pub prefix_len: u8,
    /// The largest packet a container may send, in bytes.
    pub mtu: u32,
}

impl Host {
    pub(super) fn create(
        prefix: &str,
        number: usize,
        address: Ipv4Addr,
        scratch: &Path,
    ) -> Result<Self, LabError> {
        let name = format!("node{}", number + 1);
        let netns = create_netns(&format!("{prefix}{name}"))?;
        set(&netns, "net/ipv4/ip_forward", "1")?;
        let directory = scratch.join(&name);
        fs::create_dir(&directory).map_err(|e| LabError::file(&directory, e))?;
        Ok(Self { daemon: None, containers: Vec::new(), netns, name, address, directory })
    }

    /// `node1`, `node2`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the underlay.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The name of its namespace, for `ip -n`.
    pub fn netns_name(&self) -> &str {
        self.netns.name().unwrap_or_default()
    }

    /// A directory of its own for files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its daemon, if one was started.
    pub fn daemon(&self) -> Option<&Daemon> {
        self.daemon.as_ref()
    }

    /// Its daemon, if one was started.
    pub fn daemon_mut(&mut self) -> Option<&mut Daemon> {
        self.daemon.as_mut()
    }

    /// Its containers, in the order they were added.
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    /// The first container; a lab without containers is a programmer's error.
    pub fn container(&self) -> &Container {
        self.containers.first().expect("a container was added to this host")
    }

    /// Adds a container behind the bridge, which is made for the first one.
    pub fn add_container(&mut self, subnet: Subnet) -> Result<&Container, LabError> {
        let Subnet { gateway, prefix_len, mtu } = subnet;
        let host = self.netns_name().to_owned();
        let number = self.containers.len() as u32;
        if number == 0 {
            tool::ip_in(&host, &format!("link add {BRIDGE} mtu {mtu} type bridge"))?;
            tool::ip_in(&host, &format!("addr add {gateway}/{prefix_len} dev {BRIDGE}"))?;
            tool::ip_in(&host, &format!("link set {BRIDGE} up"))?;
        }
        let netns = create_netns(&format!("{host}-c{}", number + 1))?;
        let inside = netns.name().unwrap_or_default().to_owned();
        let port = format!("veth{number}");
        let address = Ipv4Addr::from(u32::from(gateway) + 1 + number);
        tool::ip_in(
            &host,
            &format!("link add {port} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {inside}"),
        )?;
        tool::ip_in(&host, &format!("link set {port} master {BRIDGE} up"))?;
        tool::ip_in(&inside, &format!("addr add {address}/{prefix_len} dev eth0"))?;
        tool::ip_in(&inside, "link set eth0 up")?;
        tool::ip_in(&inside, &format!("route add default via {gateway}"))?;
        self.containers.push(Container { netns, address });
        Ok(&self.containers[number as usize])
    }

    /// Sets `net.…` in this host's namespace, `key` with slashes (`net/ipv4/ip_forward`).
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        set(&self.netns, key, value)
    }

    pub(super) fn keep(&mut self) {
        self.netns.keep();
        self.containers.iter_mut().for_each(|c| c.netns.keep());
        if let Some(daemon) = &mut self.daemon {
            daemon.keep();
        }
    }
}

impl Container {
    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The name of its namespace, for `ip -n`.
    pub fn netns_name(&self) -> &str {
        self.netns.name().unwrap_or_default()
    }
}

impl Subnet {
    /// Reads `FLANNEL_SUBNET` and `FLANNEL_MTU` from a `subnet.env`.
    pub fn read(path: &Path) -> Result<Self, LabError> {
        let text = fs::read_to_string(path).map_err(|e| LabError::file(path, e))?;
        Self::parse(&text).ok_or_else(|| {
            LabError::Unusable(format!(
                "{}: no FLANNEL_SUBNET and FLANNEL_MTU in it",
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

pub(super) fn create_netns(name: &str) -> Result<Netns, LabError> {
    Netns::create(name).map_err(|source| LabError::Netns { name: name.to_owned(), source })
}

fn set(netns: &Netns, key: &str, value: &str) -> Result<(), LabError> {
    let path = Path::new("/proc/sys").join(key);
    let written = netns.enter(|| fs::write(&path, value)).and_then(|r| r);
    written.map_err(|e| LabError::file(path, e))
}

/// The containers' bridge, called as Docker calls its own.
pub const BRIDGE: &str = "docker0";

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
