//! A lab that runs the daemon under test and prints the daemons' logs when a test fails.

use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use flannel_udp::lab::{self, DaemonOptions, Lab, LabBuilder, StoreKind};
use flannel_udp::route::Cidr;
use flannel_udp::sys::netns::Netns;

/// A lab whose daemons are the program under test.
pub struct TestLab(Lab);

impl TestLab {
    /// Hosts without daemons.
    pub fn build(builder: LabBuilder) -> Self {
        let builder = builder.binary(super::program());
        Self(builder.build().expect("the lab"))
    }

    /// `hosts` hosts and two members of etcd, without daemons.
    pub fn with_etcd(hosts: usize) -> Self {
        let mut lab = Self::build(Lab::builder().hosts(hosts));
        lab.start_etcd(2, lab::CONFIG).expect("etcd");
        lab
    }

    /// Two hosts with a daemon and a container each, leases in etcd.
    pub fn two_hosts(flags: &[&str]) -> Self {
        let mut lab = Self::with_etcd(2);
        for host in 0..2 {
            lab.join(host, flags);
        }
        lab.meet(0, 1);
        lab
    }

    /// Starts a daemon on `host`, with its lease in etcd, and a container behind it.
    pub fn join(&mut self, host: usize, flags: &[&str]) {
        self.start_daemon(host, etcd(flags)).expect("the daemon");
        self.add_container(host).expect("the container");
    }

    /// Waits until the first containers of both hosts answer each other's pings.
    #[track_caller]
    pub fn meet(&self, one: usize, other: usize) {
        for host in [one, other] {
            keep_order(self.host(host).netns_name());
            keep_order(self.host(host).container().netns_name());
        }
        if self.hosts().len() > 2 {
            keep_order(&format!("{}switch", self.prefix()));
        }
        for (from, to) in [(one, other), (other, one)] {
            let (from, to) = (self.host(from).container(), self.host(to).container());
            lab::ping::between(from, to, Duration::from_secs(10)).expect("a first ping");
        }
    }

    /// The namespace and address of the first container of `host`.
    pub fn endpoint(&self, host: usize) -> Endpoint<'_> {
        let container = self.host(host).container();
        Endpoint { netns: container.netns(), address: container.address() }
    }

    /// The subnet leased to `host`.
    pub fn subnet(&self, host: usize) -> Cidr {
        self.host(host).daemon().expect("a daemon").subnet().expect("its subnet file").cidr()
    }

    /// The log of the daemon on `host`.
    pub fn log(&self, host: usize) -> String {
        self.host(host).daemon().map(lab::Daemon::log).unwrap_or_default()
    }

    /// Runs a program in the namespace and returns its standard output and standard error.
    pub fn run(netns: &Netns, program: &str, arguments: &[&str]) -> String {
        let output = netns
            .enter(|| std::process::Command::new(program).args(arguments).output())
            .and_then(|output| output)
            .unwrap_or_else(|e| panic!("{program}: {e}"));
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

/// A namespace and an address in it, to send from or to.
#[derive(Clone, Copy)]
pub struct Endpoint<'a> {
    pub netns: &'a Netns,
    pub address: Ipv4Addr,
}

/// Makes the links in a namespace keep the order within a flow, as the queues of a network card do. A
/// veth queues each packet on the CPU that sent it, so packets of a thread that moves between CPUs are
/// reordered. Receive packet steering selects the queue by flow instead.
fn keep_order(netns: &str) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from).min(32);
    let script = format!(
        "for queue in /sys/class/net/[epv]*/queues/rx-*/rps_cpus; do echo {:x} > $queue; done",
        (1u64 << cpus) - 1
    );
    lab::tool::run("ip", &["netns", "exec", netns, "sh", "-c", &script]).expect("steering");
}

/// Options of a daemon with its lease in etcd.
pub fn etcd(flags: &[&str]) -> DaemonOptions {
    DaemonOptions::with_flags(flags).lease_store(StoreKind::Etcd)
}

/// The key of a subnet's lease.
pub fn lease_key(subnet: &str) -> String {
    format!("{}/subnets/{subnet}", lab::ETCD_PREFIX)
}

/// The value of a lease, as flannel's udp backend writes it.
pub fn lease_value(public_ip: Ipv4Addr) -> String {
    format!(r#"{{"PublicIP":"{public_ip}","PublicIPv6":null}}"#)
}

impl Deref for TestLab {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.0
    }
}

impl DerefMut for TestLab {
    fn deref_mut(&mut self) -> &mut Lab {
        &mut self.0
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for host in self.hosts().iter().take(4) {
            let log = host.daemon().map(lab::Daemon::log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(25)..];
            eprintln!("-- the daemon's log on {}:\n{}", host.name(), tail.join("\n"));
        }
    }
}
