//! The lab: hosts on one underlay network.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::etcd::Etcd;
use super::host::LabHost;
use super::janitor::{Janitor, PREFIX};
use super::node::{Node, create_netns};
use super::scratch::Scratch;
use super::{LabError, UnderlayKind, interrupt, tool};
use crate::sys::netns::Netns;

mod cluster;
mod daemons;
mod kernel;

pub use kernel::subnet as kernel_subnet;

/// Hosts in network namespaces on one underlay network, 10.211.55.0/24. Two hosts share a veth pair, more
/// are connected by a bridge in a namespace of its own. Dropping the lab ends its processes and removes
/// its namespaces, and the links in them, and its files.
#[derive(Debug)]
pub struct Lab {
    // Fields are dropped in this order: processes, namespaces, files, janitor.
    etcd: Option<Etcd>,
    hosts: Vec<LabHost>,
    switch: Option<Netns>,
    scratch: Scratch,
    _janitor: Janitor,
    builder: LabBuilder,
    prefix: String,
}

/// Options of a lab.
#[derive(Debug, Clone)]
pub struct LabBuilder {
    hosts: usize,
    mtu: u32,
    underlay: UnderlayKind,
    binary: Option<PathBuf>,
}

impl Lab {
    /// Options for two hosts on a veth pair with its default offloads, MTU 1500.
    pub fn builder() -> LabBuilder {
        LabBuilder { hosts: 2, mtu: 1500, underlay: UnderlayKind::Veth, binary: None }
    }

    /// The hosts. The first has the address 10.211.55.10.
    pub fn hosts(&self) -> &[LabHost] {
        &self.hosts
    }

    /// LabHost `number`, counted from 0.
    pub fn host(&self, number: usize) -> &LabHost {
        &self.hosts[number]
    }

    /// LabHost `number`, counted from 0.
    pub fn host_mut(&mut self, number: usize) -> &mut LabHost {
        &mut self.hosts[number]
    }

    /// The etcd cluster, if one was started.
    pub fn etcd(&mut self) -> Option<&mut Etcd> {
        self.etcd.as_mut()
    }

    /// The directory of the lab's files.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Prefix of the names of its namespaces.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The underlay's MTU, in bytes.
    pub fn mtu(&self) -> u32 {
        self.builder.mtu
    }

    /// The program `flannel-udp` that the lab runs.
    pub fn binary(&self) -> Result<PathBuf, LabError> {
        self.builder.program()
    }

    /// Adds one more host to a lab of three or more; returns its number.
    pub fn add_host(&mut self) -> Result<usize, LabError> {
        if self.switch.is_none() {
            return Err(LabError::Unusable(
                "a lab of two hosts on a veth pair cannot have a third".into(),
            ));
        }
        let number = self.hosts.len();
        self.hosts.push(self.new_host(number)?);
        self.plug_in(number)?;
        Ok(number)
    }

    /// Keeps processes, namespaces and files when this value is dropped.
    pub fn keep(&mut self) {
        self.hosts.iter_mut().for_each(LabHost::keep);
        self.switch.iter_mut().for_each(Netns::keep);
        self.etcd.iter_mut().for_each(Etcd::keep);
        self.scratch.keep();
    }

    fn new_host(&self, number: usize) -> Result<LabHost, LabError> {
        let address = host_address(number)?;
        Node::create(&self.prefix, number, address, self.scratch.path()).map(LabHost::new)
    }

    fn wire(&mut self) -> Result<(), LabError> {
        for number in 0..self.builder.hosts {
            interrupt::check()?;
            self.hosts.push(self.new_host(number)?);
        }
        if let [first, second] = &self.hosts[..] {
            let (first, second) = (first.netns_name(), second.netns_name());
            let mtu = self.builder.mtu;
            tool::ip_in(
                first,
                &format!(
                    "link add eth0 mtu {mtu} type veth peer name eth0 mtu {mtu} netns {second}"
                ),
            )?;
            return self.hosts.iter().try_for_each(|host| self.bring_up(host));
        }
        let switch = create_netns(&format!("{}switch", self.prefix))?;
        tool::ip_in(
            switch.name().unwrap_or_default(),
            &format!("link add br0 mtu {} up type bridge", self.builder.mtu),
        )?;
        self.switch = Some(switch);
        (0..self.hosts.len()).try_for_each(|number| self.plug_in(number))
    }

    /// Links host `number` to the switch.
    fn plug_in(&self, number: usize) -> Result<(), LabError> {
        let switch = self.switch.as_ref().and_then(Netns::name).unwrap_or_default();
        let (host, mtu) = (&self.hosts[number], self.builder.mtu);
        let port = format!("port{number}");
        let peer = host.netns_name();
        tool::ip_in(
            switch,
            &format!("link add {port} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {peer}"),
        )?;
        self.builder.underlay.apply(switch, &port)?;
        tool::ip_in(switch, &format!("link set {port} master br0 up"))?;
        self.bring_up(host)
    }

    fn bring_up(&self, host: &LabHost) -> Result<(), LabError> {
        let netns = host.netns_name();
        self.builder.underlay.apply(netns, "eth0")?;
        tool::ip_in(netns, &format!("addr add {}/24 dev eth0", host.address()))?;
        tool::ip_in(netns, "link set eth0 up").map(drop)
    }
}

impl LabBuilder {
    /// Sets the number of hosts, 2 to 200.
    #[must_use]
    pub fn hosts(mut self, hosts: usize) -> Self {
        self.hosts = hosts;
        self
    }

    /// Sets the underlay's MTU, in bytes.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// Sets the offloads of the underlay's links.
    #[must_use]
    pub fn underlay(mut self, underlay: UnderlayKind) -> Self {
        self.underlay = underlay;
        self
    }

    /// Sets the program `flannel-udp` to run; the default is the running program.
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// Builds the hosts and the underlay, without daemons and containers.
    pub fn build(self) -> Result<Lab, LabError> {
        if !(2..=MOST_HOSTS).contains(&self.hosts) {
            return Err(LabError::Unusable(format!("a lab has 2 to {MOST_HOSTS} hosts")));
        }
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}{}-{number}-", std::process::id());
        let scratch = Scratch::new(&prefix)?;
        let janitor = Janitor::start(&self.program()?, &prefix, scratch.path())?;
        let mut lab = Lab {
            etcd: None,
            hosts: Vec::new(),
            switch: None,
            scratch,
            _janitor: janitor,
            builder: self,
            prefix,
        };
        lab.wire()?;
        Ok(lab)
    }

    fn program(&self) -> Result<PathBuf, LabError> {
        match &self.binary {
            Some(path) => Ok(path.clone()),
            None => std::env::current_exe()
                .map_err(|e| LabError::Unusable(format!("cannot find the running program: {e}"))),
        }
    }
}

fn host_address(number: usize) -> Result<Ipv4Addr, LabError> {
    u8::try_from(FIRST_ADDRESS + number)
        .map(|last| Ipv4Addr::new(10, 211, 55, last))
        .map_err(|_| LabError::Unusable(format!("a lab has at most {MOST_HOSTS} hosts")))
}

const FIRST_ADDRESS: usize = 10;
const MOST_HOSTS: usize = 200;

static LABS: AtomicU32 = AtomicU32::new(0);
