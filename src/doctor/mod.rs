//! `doctor`: looks at everything the overlay needs on this host, at the lease store and at every
//! peer, and says what is wrong and what to do.
//!
//! Nothing on the host or in the store is changed. It needs no running daemon; what only a daemon
//! can tell is left out, and said to be.

mod clock;
mod daemon;
mod device;
mod docker;
mod echo;
mod finding;
mod firewall;
mod http;
mod lease;
mod netfilter;
mod nic;
mod peers;
mod ports;
mod status;
mod store;
mod sysctl;
mod tun;
mod view;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;

use self::finding::{Finding, Level, Report, Section};
use self::view::View;
use crate::cli::commands::StoreArgs;
use crate::cli::{Code, Exit};
use crate::observe::protocol::DEFAULT_SOCKET;
use crate::route::Cidr;

/// Arguments of `doctor`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Exit code: 0 if all is well or there are notes, 2 if the worst finding is a \
warning, 1 if it is a fault. Run it as root: other users may not look at the firewall nor send the \
probes."
)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Which peers to probe: `yes` for all, `no`, or a list of their addresses or subnets
    #[arg(long, value_name = "yes|no|LIST", default_value = "yes")]
    pub peers: PeerChoice,
    /// Seconds within which everything must have ended
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
    /// Environment file that the daemon writes
    #[arg(
        long,
        value_name = "FILE",
        env = "FLANNELD_SUBNET_FILE",
        default_value = "/run/flannel/subnet.env"
    )]
    pub subnet_file: PathBuf,
    /// The daemon's status socket
    #[arg(long, value_name = "PATH", env = "FLANNELD_SOCKET", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Environment file of dockerd, as `docker-opts` writes it
    #[arg(long, value_name = "FILE", default_value = "/run/docker_opts.env")]
    pub docker_env: PathBuf,
    /// Where the leases are kept, by the daemon's own flags.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Which peers are probed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerChoice {
    /// All of them.
    All,
    /// None.
    None,
    /// Those with these addresses, or with these subnets.
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
                .map(|one| prefix(one.trim()))
                .collect::<Option<_>>()
                .map(Self::Some)
                .ok_or_else(|| "use yes, no, or a list such as 192.168.77.11,10.0.20.0/24".into()),
        }
    }
}

/// A subnet, or an address as the prefix of itself.
fn prefix(text: &str) -> Option<Cidr> {
    let address = text.parse().map(|address| Cidr::new(address, 32)).ok();
    address.or_else(|| text.parse().ok())
}

impl PeerChoice {
    fn takes(&self, public_ip: Ipv4Addr, subnet: Cidr) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Some(list) => {
                list.iter().any(|one| *one == subnet || *one == Cidr::new(public_ip, 32))
            }
        }
    }
}

/// Makes all checks and prints what they found.
///
/// # Errors
/// Exit code 1 for a fault, 2 for a warning; the findings are printed already.
pub async fn run(args: &DoctorArgs) -> Result<(), Exit> {
    let begun = Instant::now();
    let report = examine(args, begun).await?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&report).unwrap_or_default() + "\n",
        false => report.text(),
    };
    print!("{text}");
    let code = match report.worst {
        Level::Ok | Level::Note => return Ok(()),
        Level::Warning => Code::Warned,
        Level::Fault => Code::CheckFailed,
    };
    Err(Exit::new(code, ""))
}

async fn examine(args: &DoctorArgs, begun: Instant) -> Result<Report, Exit> {
    let whole = Duration::from_secs(args.timeout);
    let end = begun + whole;
    // The peers are known from the store: it comes first, with a part of the time for itself.
    let store = store::look(&args.store, whole / 3).await;
    let view = View::gather(args, &store).await?;
    let mut groups = vec![
        Section { group: "TUN and kernel", findings: tun::check() },
        Section { group: "Kernel settings", findings: sysctl::check(&view) },
        Section { group: "Clock", findings: clock::check(store.clock_offset) },
        Section { group: "Lease store", findings: store.findings.clone() },
        Section { group: "This host's lease", findings: lease::check(&view, &store) },
        Section { group: "Daemon", findings: daemon::check(&view) },
        Section { group: "What the daemon says", findings: status::check(&view) },
        Section { group: "Network card", findings: nic::check(&view) },
        Section { group: "Docker", findings: docker::check(&view) },
    ];
    let (device, firewall, peers) = tokio::join!(
        bounded("device", end, device::check(&view)),
        bounded("firewall", end, firewall::check(&view)),
        bounded("peers", end, peers::check(&view, end)),
    );
    groups.insert(7, Section { group: "Overlay device and routes", findings: device });
    groups.insert(8, Section { group: "Firewall", findings: firewall });
    groups.push(Section { group: "Peers", findings: peers });
    Ok(Report::new(groups, begun.elapsed()))
}

/// The findings of a group, or the one that there was no time for them.
async fn bounded(
    name: &'static str,
    end: Instant,
    checks: impl Future<Output = Vec<Finding>>,
) -> Vec<Finding> {
    match tokio::time::timeout_at(end.into(), checks).await {
        Ok(findings) => findings,
        Err(_) => vec![
            Finding::note(name, "not checked: the time was over")
                .remedy("flannel-udp doctor --timeout=60"),
        ],
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
            assert_eq!(text.parse::<PeerChoice>().unwrap().takes(ip, subnet), taken, "{text}");
        }
        assert!("maybe".parse::<PeerChoice>().is_err());
    }
}
