//! What carries the packets: the modes that are compared, each in a lab of its own.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::BenchArgs;
use super::watched::{self, Watcher};
use crate::lab::daemon::{DaemonOptions, Registry};
use crate::lab::process::Process;
use crate::lab::topology::Lab;
use crate::lab::traffic::Agent;
use crate::lab::{CONFIG, LabError, Underlay, kernel_subnet, ping, tool};
use crate::packet::wire;

/// One way of carrying packets between the two hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mode {
    /// What the tables call it.
    pub(super) name: String,
    carrier: Carrier,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Carrier {
    /// Plain routing.
    Plain,
    /// The kernel's VXLAN.
    Vxlan,
    /// Our daemon (or another build of it) with these flags on the first and second host.
    Daemon { binary: Option<PathBuf>, flags: [Vec<OsString>; 2] },
    /// The same with its defaults, watched by somebody.
    Watched,
    /// The stock program's loop.
    Loop(PathBuf),
}

/// A mode that stands and is ready to be measured.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) mode: Mode,
    // Before the lab: sinks and loops end before their networks go.
    pub(super) sinks: [Agent; 2],
    loops: Vec<Process>,
    _watchers: Vec<Watcher>,
    pub(super) lab: Lab,
    /// The generators of the sample that is being taken, by process.
    pub(super) sources: Vec<u32>,
}

impl Mode {
    /// The modes that the arguments ask for.
    pub(super) fn chosen(arguments: &BenchArgs) -> Result<Vec<Self>, LabError> {
        let mut modes = Vec::new();
        for name in &arguments.modes {
            modes.push(Self::built_in(name).ok_or_else(|| {
                let known = BUILT_IN.join(", ");
                LabError::Unusable(format!("--modes: no mode is called {name}; known: {known}"))
            })?);
        }
        for variant in &arguments.variants {
            modes.push(Self::variant(variant).ok_or_else(|| {
                LabError::Unusable(format!("--variant={variant}: expected NAME=FLAGS"))
            })?);
        }
        if let Some(path) = &arguments.baseline {
            modes.push(Self { name: "baseline".into(), carrier: Carrier::Loop(path.clone()) });
        }
        Ok(modes)
    }

    fn built_in(name: &str) -> Option<Self> {
        let daemon = |one: &[&str], two: &[&str]| Carrier::Daemon {
            binary: None,
            flags: [one, two].map(|flags| flags.iter().map(OsString::from).collect()),
        };
        let off = ["--offload=off", "--workers=1"];
        let carrier = match name {
            "underlay" => Carrier::Plain,
            "vxlan" => Carrier::Vxlan,
            OURS => daemon(&[], &[]),
            OFF => daemon(&off, &off),
            "spin0" => daemon(&["--spin=0"], &["--spin=0"]),
            "half" => daemon(&[], &off),
            WATCHED => Carrier::Watched,
            _ => return None,
        };
        Some(Self { name: name.to_owned(), carrier })
    }

    fn variant(text: &str) -> Option<Self> {
        let (name, words) = text.split_once('=')?;
        let mut words: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
        let is_path = words.first().is_some_and(|w| !w.to_string_lossy().starts_with('-'));
        let binary = is_path.then(|| PathBuf::from(words.remove(0)));
        let carrier = Carrier::Daemon { binary, flags: [words.clone(), words] };
        (!name.is_empty()).then(|| Self { name: name.to_owned(), carrier })
    }
}

impl Stage {
    /// Builds the lab of `mode` and checks that packets cross it.
    pub(super) fn build(mode: Mode, underlay: Underlay, mtu: u32) -> Result<Self, LabError> {
        let mut lab = Lab::builder().underlay(underlay).mtu(mtu).build()?;
        let (mut loops, mut watchers) = (Vec::new(), Vec::new());
        match &mode.carrier {
            Carrier::Plain => lab.route_plainly()?,
            Carrier::Vxlan => lab.tunnel_with_vxlan()?,
            Carrier::Daemon { binary, flags } => start_daemons(&mut lab, binary.as_ref(), flags)?,
            Carrier::Watched => {
                let flags = [0, 1].map(|_| vec![OsString::from(watched::FLAG)]);
                start_daemons(&mut lab, None, &flags)?;
                for number in 0..2 {
                    watchers.push(Watcher::start(&lab, number)?);
                }
            }
            Carrier::Loop(path) => loops = start_loops(&mut lab, path)?,
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let (from, to) = (lab.host(from).container(), lab.host(to).container());
            ping::between(from, to, Duration::from_secs(5))?;
        }
        let binary = lab.binary()?;
        let sink =
            |number: usize| Agent::start(&binary, lab.host(number).container().netns(), "sink");
        let sinks = [sink(0)?, sink(1)?];
        Ok(Self { mode, sinks, loops, _watchers: watchers, lab, sources: Vec::new() })
    }

    /// The processes that carry packets; none where the kernel does.
    pub(super) fn carriers(&self) -> Vec<u32> {
        let daemons = self.lab.hosts().iter().filter_map(|h| h.daemon()).map(|d| d.pid());
        daemons.chain(self.loops.iter().map(Process::pid)).collect()
    }

    /// Generators and sinks.
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
    lab.create_file_registry(CONFIG)?;
    for (number, flags) in flags.iter().enumerate() {
        let own = [OsString::from("--iptables-forward-rules=false")];
        let options = DaemonOptions {
            registry: Registry::Files,
            flags: own.iter().chain(flags).cloned().collect(),
            binary: binary.cloned(),
        };
        lab.start_daemon(number, options)?;
        lab.add_container(number)?;
    }
    Ok(())
}

/// Starts `PROGRAM DEVICE OWN-ADDRESS PEER-ADDRESS PORT MTU` on both hosts and does around it what
/// flannel does: address, MTU and route of the device.
fn start_loops(lab: &mut Lab, program: &PathBuf) -> Result<Vec<Process>, LabError> {
    let mtu = wire::overlay_mtu(lab.mtu());
    let mut loops = Vec::new();
    for number in 0..2 {
        let (host, peer) = (lab.host(number), lab.host(1 - number));
        let mut command = Command::new(program);
        command.arg(LOOP_DEVICE).args([host.address().to_string(), peer.address().to_string()]);
        command.args([wire::DEFAULT_PORT.to_string(), mtu.to_string()]);
        let log = host.directory().join("loop.log");
        let what = format!("the loop on {}", host.name());
        let mut process = Process::start(host.netns(), command, what, log)?;
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

/// The daemon with its defaults.
pub(super) const OURS: &str = "flannel-udp";

/// The daemon as one packet a system call, one worker: what the stock loop does.
pub(super) const OFF: &str = "off";

/// The daemon with its defaults, its metrics scraped and its status asked for every second.
pub(super) const WATCHED: &str = "watched";

/// Names that `--modes` takes.
const BUILT_IN: [&str; 7] = ["underlay", "vxlan", OURS, OFF, "spin0", "half", WATCHED];

const LOOP_DEVICE: &str = "flannel0";
