//! A host of the lab: a node with a daemon, and a bridge with containers behind it.

use std::net::Ipv4Addr;
use std::path::Path;

use super::daemon::Daemon;
use super::node::{Node, create_netns};
use super::subnet::Subnet;
use super::{LabError, tool};
use crate::sys::netns::Netns;

/// A host of the lab.
#[derive(Debug)]
pub struct LabHost {
    // Fields are dropped in this order: the daemon must stop before its namespace is removed.
    pub(super) daemon: Option<Daemon>,
    pub(super) containers: Vec<Container>,
    pub(super) node: Node,
}

/// A container's network: a namespace behind its host's bridge.
#[derive(Debug)]
pub struct Container {
    pub(super) netns: Netns,
    pub(super) address: Ipv4Addr,
}

impl LabHost {
    /// A host without daemon and containers on `node`.
    pub(super) fn new(node: Node) -> Self {
        Self { daemon: None, containers: Vec::new(), node }
    }

    /// `node1`, `node2`, …
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// Its address on the underlay.
    pub fn address(&self) -> Ipv4Addr {
        self.node.address
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.node.netns
    }

    /// The name of its namespace, for `ip -n`.
    pub fn netns_name(&self) -> &str {
        self.node.netns_name()
    }

    /// The directory for its files.
    pub fn directory(&self) -> &Path {
        &self.node.directory
    }

    /// Its daemon, if one was started.
    pub fn daemon(&self) -> Option<&Daemon> {
        self.daemon.as_ref()
    }

    /// Its daemon, if one was started.
    pub fn daemon_mut(&mut self) -> Option<&mut Daemon> {
        self.daemon.as_mut()
    }

    /// Its containers, in the order in which they were added.
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    /// Its first container.
    ///
    /// # Panics
    /// The host has no container.
    pub fn container(&self) -> &Container {
        self.containers.first().expect("a container was added to this host")
    }

    /// Adds a container behind the bridge, which is created with the first one.
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

    /// Sets a sysctl in the host's namespace; `key` with slashes (`net/ipv4/ip_forward`).
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        self.node.sysctl(key, value)
    }

    pub(super) fn keep(&mut self) {
        self.node.netns.keep();
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

/// Name of the bridge, the same as Docker's.
pub const BRIDGE: &str = "docker0";
