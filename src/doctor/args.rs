//! The arguments of `doctor`.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use crate::args::values::address_or_prefix;
use crate::args::{LocalStoreArgs, SocketArgs, SubnetFileArgs};
use crate::route::Cidr;

/// Arguments of `doctor`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Exit code: 0 if all is well or there are notes, 2 if the worst finding is a \
warning, 1 if it is a fault. Run it as root: other users cannot read the firewall rules or send \
probes."
)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Also list the checks that found no problem
    #[arg(long, conflicts_with = "json")]
    pub verbose: bool,
    /// Which peers to probe: `yes` for all, `no`, or a list of their addresses or subnets
    #[arg(long, value_name = "yes|no|LIST", default_value = "yes")]
    pub peers: PeerChoice,
    /// Time limit for all checks together, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10",
          value_parser = clap::value_parser!(u64).range(2..=600))]
    pub timeout: u64,
    /// Interface for traffic between hosts, by name or address, as given to the daemon; without it,
    /// the one that the daemon or this host's lease uses
    #[arg(long, value_name = "NAME|IP", env = "FLANNELD_IFACE")]
    pub iface: Option<String>,
    /// Address that other hosts send to, as given to the daemon
    #[arg(long, value_name = "IP", env = "FLANNELD_PUBLIC_IP")]
    pub public_ip: Option<Ipv4Addr>,
    /// The subnet file of the daemon.
    #[command(flatten)]
    pub subnet_file: SubnetFileArgs,
    /// Which daemon is queried.
    #[command(flatten)]
    pub socket: SocketArgs,
    /// Environment file of dockerd, as `docker-opts` writes it
    #[arg(long, value_name = "FILE", default_value = "/run/docker_opts.env")]
    pub docker_env: PathBuf,
    /// The lease store, by the daemon's own flags; without them, that of the daemon on this host.
    #[command(flatten)]
    pub store: LocalStoreArgs,
}

/// Peers to probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerChoice {
    /// Every peer.
    All,
    /// No peer.
    None,
    /// Peers with one of these addresses (as /32) or subnets.
    Some(Vec<Cidr>),
}

impl FromStr for PeerChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "yes" => Ok(Self::All),
            "no" => Ok(Self::None),
            list => list
                .split(',')
                .map(|one| address_or_prefix(one.trim()).ok())
                .collect::<Option<_>>()
                .map(Self::Some)
                .ok_or_else(|| "use yes, no, or a list such as 192.168.77.11,10.0.20.0/24".into()),
        }
    }
}

impl PeerChoice {
    pub(super) fn includes(&self, public_ip: Ipv4Addr, subnet: Cidr) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Some(list) => {
                list.iter().any(|one| *one == subnet || *one == Cidr::new(public_ip, 32))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_chosen_by_address_or_subnet() {
        let (ip, subnet) = (Ipv4Addr::new(192, 168, 77, 11), "10.0.20.0/24".parse().unwrap());
        for (text, taken) in [
            ("yes", true),
            ("no", false),
            ("192.168.77.11", true),
            ("10.0.9.0/24, 10.0.20.0/24", true),
            ("192.168.77.12", false),
        ] {
            assert_eq!(text.parse::<PeerChoice>().unwrap().includes(ip, subnet), taken, "{text}");
        }
        assert!("maybe".parse::<PeerChoice>().is_err());
    }
}
