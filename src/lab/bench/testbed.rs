//! A testbed: two hosts of a lab whose packets one mode carries.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::mode::{Backend, Mode};
use super::poller::{self, StatusPoller};
use crate::lab::daemon::{DaemonOptions, StoreKind};
use crate::lab::process::LabProcess;
use crate::lab::topology::Lab;
use crate::lab::traffic::Agent;
use crate::lab::{CONFIG, LabError, UnderlayKind, kernel_subnet, ping, tool};
use crate::packet::wire;

/// The hosts of one mode, ready to be measured.
#[derive(Debug)]
pub(super) struct Testbed {
    pub(super) mode: Mode,
    // Fields are dropped in this order: sinks and tunnels must end before their namespaces are removed.
    pub(super) sinks: [Agent; 2],
    processes: Vec<LabProcess>,
    _pollers: Vec<StatusPoller>,
    pub(super) lab: Lab,
    /// The process ids of the current sample's generators.
    pub(super) sources: Vec<u32>,
}

impl Testbed {
    /// Builds the testbed of `mode` and checks that packets pass in both directions.
    pub(super) fn build(mode: Mode, underlay: UnderlayKind, mtu: u32) -> Result<Self, LabError> {
        let mut lab = Lab::builder().underlay(underlay).mtu(mtu).build()?;
        let (mut processes, mut pollers) = (Vec::new(), Vec::new());
        match &mode.backend {
            Backend::Plain => lab.route_plainly()?,
            Backend::Vxlan => lab.tunnel_with_vxlan()?,
            Backend::Daemon { binary, flags } => start_daemons(&mut lab, binary.as_ref(), flags)?,
            Backend::Watched => {
                let flags = [0, 1].map(|_| vec![OsString::from(poller::FLAG)]);
                start_daemons(&mut lab, None, &flags)?;
                for number in 0..2 {
                    pollers.push(StatusPoller::start(&lab, number)?);
                }
            }
            Backend::Loop(path) => processes = start_loops(&mut lab, path)?,
            Backend::Tunnel(tunnel) => processes = lab.tunnel_with(*tunnel)?,
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let (from, to) = (lab.host(from).container(), lab.host(to).container());
            ping::between(from, to, Duration::from_secs(5))?;
        }
        let binary = lab.binary()?;
        let sink =
            |number: usize| Agent::start(&binary, lab.host(number).container().netns(), "sink");
        let sinks = [sink(0)?, sink(1)?];
        Ok(Self { mode, sinks, processes, _pollers: pollers, lab, sources: Vec::new() })
    }

    /// The process ids of daemons, loops and tunnels; none if the kernel carries the packets.
    pub(super) fn daemons(&self) -> Vec<u32> {
        let pids = self.lab.hosts().iter().filter_map(|h| h.daemon()).map(|d| d.pid());
        pids.chain(self.processes.iter().map(LabProcess::pid)).collect()
    }

    /// The address of the container on host `host`.
    pub(super) fn container_address(&self, host: usize) -> Ipv4Addr {
        self.lab.host(host).container().address()
    }

    /// The process ids of generators and sinks.
    pub(super) fn agents(&self) -> Vec<u32> {
        self.sinks.iter().map(Agent::pid).chain(self.sources.iter().copied()).collect()
    }
}

/// Starts a daemon and a container on both hosts.
fn start_daemons(
    lab: &mut Lab,
    binary: Option<&PathBuf>,
    flags: &[Vec<OsString>; 2],
) -> Result<(), LabError> {
    lab.create_store_directory(CONFIG)?;
    for (number, flags) in flags.iter().enumerate() {
        let own = [OsString::from("--iptables-forward-rules=false")];
        let options = DaemonOptions {
            lease_store: StoreKind::Directory,
            flags: own.iter().chain(flags).cloned().collect(),
            binary: binary.cloned(),
        };
        lab.start_daemon(number, options)?;
        lab.add_container(number)?;
    }
    Ok(())
}

/// Starts `PROGRAM DEVICE OWN-ADDRESS PEER-ADDRESS PORT MTU` on both hosts, and configures the device as
/// flannel does: address, MTU and route.
fn start_loops(lab: &mut Lab, program: &PathBuf) -> Result<Vec<LabProcess>, LabError> {
    let mtu = wire::overlay_mtu(lab.mtu());
    let mut loops = Vec::new();
    for number in 0..2 {
        let (host, peer) = (lab.host(number), lab.host(1 - number));
        let mut command = Command::new(program);
        command.arg(LOOP_DEVICE).args([host.address().to_string(), peer.address().to_string()]);
        command.args([wire::DEFAULT_PORT.to_string(), mtu.to_string()]);
        let log = host.directory().join("loop.log");
        let what = format!("the loop on {}", host.name());
        let mut process = LabProcess::start(host.netns(), command, what, log)?;
        let netns = host.netns_name().to_owned();
        process.wait_until(Duration::from_secs(5), || {
            tool::ip_in(&netns, &format!("link show {LOOP_DEVICE}")).is_ok()
        })?;
        let subnet = kernel_subnet(number, mtu.into());
        for line in [
            format!("addr add {}/32 dev {LOOP_DEVICE}", subnet.cidr().network()),
            format!("link set {LOOP_DEVICE} mtu {mtu} up"),
            format!("route add 10.0.0.0/16 dev {LOOP_DEVICE}"),
        ] {
            tool::ip_in(&netns, &line)?;
        }
        lab.host_mut(number).add_container(subnet)?;
        loops.push(process);
    }
    Ok(loops)
}

const LOOP_DEVICE: &str = "flannel0";
