//! The facts about this host that several checks read, gathered once before the checks.

use std::net::Ipv4Addr;

use super::DoctorArgs;
use super::store::StoreFacts;
use crate::exit::{Code, Exit};
use crate::host::interface::{self, ExternalInterface, InterfaceOptions};
use crate::host::netlink::{Address, KernelRoute, Link, LinkDetails, Netlink};
use crate::host::subnet_file::{self, PreviousSubnetFile};
use crate::humanize;
use crate::observe::protocol::snapshot::Snapshot;
use crate::packet::wire;
use crate::route::Cidr;
use crate::subnet::NetworkConfig;
use crate::subnet::admin::Holding;

/// This host, its lease and its peers.
pub(super) struct HostFacts<'a> {
    pub(super) args: &'a DoctorArgs,
    /// The daemon's answer to `status`, or why there is none.
    pub(super) status: Result<Box<Snapshot>, String>,
    pub(super) netlink: Netlink,
    pub(super) links: Vec<Link>,
    pub(super) details: Vec<LinkDetails>,
    pub(super) addresses: Vec<Address>,
    pub(super) routes: Vec<KernelRoute>,
    /// Network and subnet from the subnet file.
    pub(super) file: PreviousSubnetFile,
    /// Text of the subnet file.
    pub(super) file_text: String,
    pub(super) config: Option<&'a NetworkConfig>,
    /// This host's subnet: from the subnet file, else from the daemon, else from this host's lease.
    pub(super) subnet: Option<Cidr>,
    /// The interface that carries the traffic between hosts, or why none was found.
    pub(super) interface: Result<ExternalInterface, String>,
    /// The other hosts' leases.
    pub(super) peers: Vec<&'a Holding>,
}

impl<'a> HostFacts<'a> {
    /// Gathers the facts from the kernel, the daemon's status and the subnet file.
    ///
    /// # Errors
    /// Exit code [`Code::System`] if the kernel refuses a netlink request.
    pub(super) async fn gather(
        args: &'a DoctorArgs,
        status: Result<Box<Snapshot>, String>,
        store: &'a StoreFacts,
    ) -> Result<Self, Exit> {
        let fail =
            |error: &dyn std::fmt::Display| Exit::new(Code::System, format!("error: {error}"));
        let netlink = Netlink::connect().map_err(|e| fail(&e))?;
        let links = netlink.links().await.map_err(|e| fail(&e))?;
        let details = netlink.link_details().await.map_err(|e| fail(&e))?;
        let addresses = netlink.addresses().await.map_err(|e| fail(&e))?;
        let routes = netlink.routes().await.map_err(|e| fail(&e))?;
        let snapshot = status.as_ref().ok();
        let file = subnet_file::read_previous(&args.subnet_file.path);
        let underlay = snapshot.and_then(|now| now.underlay.as_ref());
        let behind_nat = underlay.filter(|used| used.public_ip != used.address);
        let public_ip = args.public_ip.or(behind_nat.map(|used| used.public_ip));
        let is_own = |ip: Ipv4Addr| {
            public_ip == Some(ip) || addresses.iter().any(|address| address.local == ip)
        };
        let own = store.leases().find(|lease| is_own(lease.public_ip));
        let held = snapshot.and_then(|now| Some(now.lease.as_ref()?.subnet));
        let subnet = file.subnet.or(held).or(own.map(|lease| lease.subnet));
        let used = underlay.map(|used| used.address.to_string());
        let wish = args.iface.clone().or(used).or_else(|| {
            let mine = |lease: &&Holding| Some(lease.subnet) == subnet && is_own(lease.public_ip);
            Some(store.leases().find(mine).or(own)?.public_ip.to_string())
        });
        let options = InterfaceOptions {
            iface: wish.into_iter().collect(),
            public_ip,
            ..InterfaceOptions::default()
        };
        let interface =
            interface::choose(&options).await.map_err(|e| humanize::on_one_line(&e.to_string()));
        let here = |lease: &Holding| {
            Some(lease.subnet) == subnet
                || interface.as_ref().is_ok_and(|interface| interface.public_ip == lease.public_ip)
        };
        let peers = store.leases().filter(|lease| !here(lease)).collect();
        let file_text = std::fs::read_to_string(&args.subnet_file.path).unwrap_or_default();
        let config = store.config.as_ref();
        Ok(Self {
            args,
            status,
            netlink,
            links,
            details,
            addresses,
            routes,
            file,
            file_text,
            config,
            subnet,
            interface,
            peers,
        })
    }

    /// The overlay network, from the config or from the subnet file.
    pub(super) fn network(&self) -> Option<Cidr> {
        self.config.map(|config| config.network).or(self.file.network)
    }

    /// The UDP port of all hosts.
    pub(super) fn port(&self) -> u16 {
        self.config.map_or(wire::DEFAULT_PORT, |config| config.port)
    }

    /// The overlay's device: the one with this subnet's address.
    pub(super) fn tun(&self) -> Option<&Link> {
        let holds = |link: &Link| {
            let network = self.subnet.map(Cidr::network);
            self.addresses
                .iter()
                .any(|a| a.index == link.index && Some(a.local) == network && a.prefix_len == 32)
        };
        let named = |link: &&Link| link.name.starts_with("flannel") && !link.name.contains('.');
        self.links.iter().find(|link| holds(link)).or_else(|| self.links.iter().find(named))
    }

    /// The containers' bridge: the interface with an address in this host's subnet.
    pub(super) fn bridge(&self) -> Option<&Link> {
        let subnet = self.subnet?;
        let inside = |address: &&Address| {
            subnet.contains(address.local) && address.local != subnet.network()
        };
        let index = self.addresses.iter().find(inside)?.index;
        self.links.iter().find(|link| link.index == index)
    }

    /// An address of this host's subnet that a container may have.
    pub(super) fn container(&self) -> Option<Ipv4Addr> {
        let subnet = self.subnet?;
        let (first, last) = (subnet.network().to_bits(), subnet.last().to_bits());
        let own = |ip| self.addresses.iter().any(|address| address.local == ip);
        (first..=last).skip(1).map(Ipv4Addr::from_bits).find(|ip| !own(*ip))
    }

    /// Queue length and drops of an interface.
    pub(super) fn details(&self, index: u32) -> LinkDetails {
        self.details.iter().find(|details| details.index == index).copied().unwrap_or_default()
    }

    /// Largest inner packet that the interface between hosts can carry, in bytes.
    pub(super) fn mtu(&self) -> Option<u32> {
        Some(wire::overlay_mtu(self.interface.as_ref().ok()?.mtu).into())
    }

    /// Value of a variable of the subnet file; `None` if it is missing or empty.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        subnet_file::variable(&self.file_text, name).filter(|value| !value.is_empty())
    }
}
