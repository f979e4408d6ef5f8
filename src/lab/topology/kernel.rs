//! Connections between hosts without a daemon: plain routes, and kernel VXLAN as flannel configures it.

use std::net::Ipv4Addr;

use super::Lab;
use crate::lab::subnet::Subnet;
use crate::lab::{LabError, tool};

impl Lab {
    /// Plain routing: each host has a route to each other host's containers over the underlay. Adds
    /// one container to each host.
    pub fn route_plainly(&mut self) -> Result<(), LabError> {
        for from in 0..self.hosts().len() {
            for (to, host) in self.hosts().iter().enumerate().filter(|(to, _)| *to != from) {
                let subnet = subnet(to, self.mtu()).cidr();
                let line = format!("route add {subnet} via {} dev eth0", host.address());
                tool::ip_in(self.host(from).netns_name(), &line)?;
            }
        }
        let mtu = self.mtu();
        self.add_containers(mtu)
    }

    /// Kernel VXLAN as flannel's `vxlan` backend configures it: VNI 1, port 8472, no learning, static
    /// neighbours and forwarding entries, an MTU 50 bytes below the underlay's. Adds one container to each
    /// host.
    pub fn tunnel_with_vxlan(&mut self) -> Result<(), LabError> {
        let mtu = self.mtu() - VXLAN_OVERHEAD;
        for (number, host) in self.hosts().iter().enumerate() {
            let netns = host.netns_name();
            let address = host.address();
            let mac = mac(number);
            for line in [
                format!(
                    "link add {VXLAN} address {mac} mtu {mtu} type vxlan id 1 dev eth0 \
                     local {address} dstport 8472 nolearning"
                ),
                format!("addr add {}/32 dev {VXLAN}", end(number)),
                format!("link set {VXLAN} up"),
            ] {
                tool::ip_in(netns, &line)?;
            }
        }
        for from in 0..self.hosts().len() {
            let netns = self.host(from).netns_name();
            for (to, host) in self.hosts().iter().enumerate().filter(|(to, _)| *to != from) {
                let (gateway, mac, address) = (end(to), mac(to), host.address());
                let subnet = subnet(to, mtu).cidr();
                let neighbour =
                    format!("neigh add {gateway} lladdr {mac} dev {VXLAN} nud permanent");
                tool::ip_in(netns, &neighbour)?;
                let entry = format!("-n {netns} fdb append {mac} dev {VXLAN} dst {address}");
                tool::run("bridge", &entry.split(' ').collect::<Vec<_>>())?;
                let route = format!("route add {subnet} via {gateway} dev {VXLAN} onlink");
                tool::ip_in(netns, &route)?;
            }
        }
        self.add_containers(mtu)
    }

    /// Adds one container to each host.
    pub(in crate::lab) fn add_containers(&mut self, mtu: u32) -> Result<(), LabError> {
        (0..self.hosts().len())
            .try_for_each(|n| self.host_mut(n).add_container(subnet(n, mtu)).map(drop))
    }
}

/// The subnet of host `number` in a lab without daemons.
pub fn subnet(number: usize, mtu: u32) -> Subnet {
    let third = u8::try_from(number + 1).unwrap_or(u8::MAX);
    Subnet { gateway: Ipv4Addr::new(10, 0, third, 1), prefix_len: 24, mtu }
}

/// The address of the VXLAN device of host `number`: the first of its subnet, as in flannel.
fn end(number: usize) -> Ipv4Addr {
    subnet(number, 0).cidr().network()
}

fn mac(number: usize) -> String {
    format!("02:00:0a:00:{:02x}:00", number + 1)
}

/// Outer IP, UDP, VXLAN and inner Ethernet headers, in bytes.
const VXLAN_OVERHEAD: u32 = 20 + 8 + 8 + 14;

/// Name of the VXLAN device, the same as flannel's.
const VXLAN: &str = "flannel.1";
