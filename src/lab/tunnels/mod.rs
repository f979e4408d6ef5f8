//! Tunnels of other projects, each set up as its own documentation recommends. Keys are made anew in the lab's
//! directory.

mod nebula;
mod tinc;
mod wireguard;

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::host::LabHost;
use super::process::LabProcess;
use super::topology::{Lab, kernel_subnet};
use super::{LabError, tool};

/// A tunnel of another project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// WireGuard in user space, <https://git.zx2c4.com/wireguard-go/about/>.
    WireguardGo,
    /// tinc 1.0 with its defaults, <https://tinc-vpn.org/documentation/>.
    Tinc,
    /// tinc 1.0 with neither encryption nor authentication of packets.
    TincPlain,
    /// Nebula, <https://nebula.defined.net/docs/>.
    Nebula,
}

impl Tunnel {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::WireguardGo, Self::Tinc, Self::TincPlain, Self::Nebula];

    /// Its name in `bench --modes`.
    pub fn name(self) -> &'static str {
        match self {
            Self::WireguardGo => "wireguard-go",
            Self::Tinc => "tinc",
            Self::TincPlain => "tinc-plain",
            Self::Nebula => "nebula",
        }
    }

    /// Whether it encrypts packets.
    pub fn encrypts(self) -> bool {
        self != Self::TincPlain
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::WireguardGo => &["wireguard-go", "wg", "nsenter"],
            Self::Tinc | Self::TincPlain => &["tincd"],
            Self::Nebula => &["nebula", "nebula-cert"],
        }
    }

    fn device(self) -> &'static str {
        match self {
            Self::WireguardGo => wireguard::DEVICE,
            Self::Tinc | Self::TincPlain => tinc::DEVICE,
            Self::Nebula => nebula::DEVICE,
        }
    }

    /// The MTU of its device and of the containers, in bytes.
    fn mtu(self, underlay: u32) -> u32 {
        match self {
            Self::WireguardGo => underlay - wireguard::OVERHEAD,
            Self::Tinc | Self::TincPlain => underlay.min(tinc::MTU),
            Self::Nebula => underlay - nebula::OVERHEAD,
        }
    }
}

impl Lab {
    /// Connects all hosts with a tunnel and adds one container to each. The processes must end before the lab is
    /// dropped.
    ///
    /// # Errors
    /// [`LabError::Missing`] if a program of the tunnel is not installed; the tunnel does not start.
    pub fn tunnel_with(&mut self, tunnel: Tunnel) -> Result<Vec<LabProcess>, LabError> {
        if let Some(program) = tunnel.programs().iter().find(|program| !tool::exists(program)) {
            return Err(tool::could_not_start(program, ErrorKind::NotFound.into()));
        }
        let mtu = tunnel.mtu(self.mtu());
        self.add_containers(mtu)?;
        let commands = match tunnel {
            Tunnel::WireguardGo => self.hosts().iter().map(|_| wireguard::command()).collect(),
            Tunnel::Tinc => tinc::configure(self, "")?,
            Tunnel::TincPlain => tinc::configure(self, tinc::PLAIN)?,
            Tunnel::Nebula => nebula::configure(self, mtu)?,
        };
        let mut processes = Vec::new();
        for (host, command) in self.hosts().iter().zip(commands) {
            let what = format!("{} on {}", tunnel.name(), host.name());
            let log = host.directory().join("tunnel.log");
            let mut process = LabProcess::start(host.netns(), command, what, log)?;
            let show = format!("link show {}", tunnel.device());
            process.wait_until(READY_TIMEOUT, || tool::ip_in(host.netns_name(), &show).is_ok())?;
            processes.push(process);
        }
        match tunnel {
            Tunnel::WireguardGo => {
                wireguard::connect(self, &mut processes)?;
                self.route_into(wireguard::DEVICE, mtu)?;
            }
            Tunnel::Tinc | Tunnel::TincPlain => {
                self.route_into(tinc::DEVICE, mtu)?;
                tinc::wait_for_path_mtu(self, &mut processes)?;
            }
            // It adds its routes itself.
            Tunnel::Nebula => {}
        }
        Ok(processes)
    }

    /// Routes the containers of all other hosts into the device of each host.
    fn route_into(&self, device: &str, mtu: u32) -> Result<(), LabError> {
        for (number, host) in self.hosts().iter().enumerate() {
            let netns = host.netns_name();
            let end = kernel_subnet(number, mtu).cidr().network();
            tool::ip_in(netns, &format!("addr add {end}/32 dev {device}"))?;
            tool::ip_in(netns, &format!("link set {device} mtu {mtu} up"))?;
            for (to, _) in others(self, number) {
                let subnet = kernel_subnet(to, mtu).cidr();
                tool::ip_in(netns, &format!("route add {subnet} dev {device}"))?;
            }
        }
        Ok(())
    }
}

/// The other hosts with their numbers.
fn others(lab: &Lab, number: usize) -> impl Iterator<Item = (usize, &LabHost)> {
    lab.hosts().iter().enumerate().filter(move |(other, _)| *other != number)
}

/// The port on each host, and its address on the underlay.
fn endpoint(address: Ipv4Addr, port: u16) -> String {
    format!("{address}:{port}")
}

const READY_TIMEOUT: Duration = Duration::from_secs(10);
