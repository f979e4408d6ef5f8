//! The commands of the program and their arguments; the daemon's own are in [`crate::daemon::options`].

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{Options, capture, inspect};
use crate::lab::LabCommand;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Command {
    /// Run the daemon.
    Daemon(Box<Options>),
    /// Anything else.
    Tool(Box<Tool>),
}

/// The whole command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "flannel-udp",
    version,
    about = "Overlay network for containers: IP over UDP in user space, compatible with flannel's udp backend",
    long_about = "Gives this host a subnet of an overlay network and carries IP packets between hosts \
inside UDP. Takes flanneld's flags, in Go's spellings too (-iface=x, --ip-masq=false), its FLANNELD_* \
environment variables and its keys in etcd.\n\nWithout a command it runs the daemon.",
    args_conflicts_with_subcommands = true,
    args_override_self = true,
    disable_help_subcommand = true,
    after_help = "Every flag may also be set by the environment: FLANNELD_ and its name in capitals \
with _ for -. A flag on the command line wins; an empty variable counts as unset.\n\
Exit codes are listed in the manual page and in docs/compatibility.md."
)]
pub struct Cli {
    /// A tool instead of the daemon.
    #[command(subcommand)]
    pub tool: Option<Tool>,
    /// The daemon's flags.
    #[command(flatten)]
    pub options: Options,
}

/// The tools that come with the daemon.
#[derive(Clone, Debug, Subcommand)]
pub enum Tool {
    /// Demonstration and benchmark, in network namespaces on this machine.
    #[command(flatten)]
    Lab(LabCommand),
    /// Show how the daemon on this host is doing: lease, registry, kernel, traffic, drops
    Status(inspect::StatusArgs),
    /// Show the other hosts
    Peers(inspect::PeersArgs),
    /// Show the route table
    Routes(inspect::RoutesArgs),
    /// Tell what happens to a packet: route, next hop, time to live, checks, masquerading
    Explain(inspect::explain::ExplainArgs),
    /// Watch the daemon live: rates, peers, drops, threads
    #[cfg(feature = "top")]
    Top(super::top::TopArgs),
    /// Capture packets as the daemon sees them, with what becomes of each, for Wireshark and tcpdump
    Capture(capture::CaptureArgs),
    /// Change the level of the running daemon's log
    LogLevel(inspect::log_level::LogLevelArgs),
    /// Turn subnet.env into options for dockerd, as mk-docker-opts.sh does
    DockerOpts(DockerOptsArgs),
    /// Remove the firewall rules, routes and files that the daemon (or flanneld) left on this host
    Cleanup(CleanupArgs),
    /// List, reserve and release subnets
    Leases(LeasesArgs),
    /// Check this host, the lease store and every peer, and say what to do
    Doctor(Box<crate::doctor::DoctorArgs>),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// Arguments of `docker-opts`, those of flannel's `mk-docker-opts.sh`.
#[derive(Clone, Debug, Args)]
pub struct DockerOptsArgs {
    /// Environment file written by the daemon
    #[arg(short = 'f', value_name = "FILE", default_value = "/run/flannel/subnet.env")]
    pub flannel_env: PathBuf,
    /// Environment file to write for dockerd
    #[arg(short = 'd', value_name = "FILE", default_value = "/run/docker_opts.env")]
    pub docker_env: PathBuf,
    /// Write each option as a variable of its own, e.g. DOCKER_OPT_MTU
    #[arg(short = 'i')]
    pub individual: bool,
    /// Write all options as one variable; without -i and -c both are written
    #[arg(short = 'c')]
    pub combined: bool,
    /// Name of that one variable
    #[arg(short = 'k', value_name = "NAME", default_value = "DOCKER_OPTS")]
    pub combined_key: String,
    /// Leave --ip-masq out
    #[arg(short = 'm')]
    pub omit_ip_masq: bool,
}

/// Arguments of `cleanup`.
#[derive(Clone, Debug, Args)]
pub struct CleanupArgs {
    /// Say what would be removed, remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The subnet file to remove too
    #[arg(long, value_name = "FILE", default_value = "/run/flannel/subnet.env")]
    pub subnet_file: PathBuf,
}

/// Arguments of `leases`.
#[derive(Clone, Debug, Args)]
pub struct LeasesArgs {
    /// What to do with the leases.
    #[command(subcommand)]
    pub action: LeasesAction,
    /// Where they are kept, by the daemon's own flags.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// What `leases` does.
#[derive(Clone, Debug, Subcommand)]
pub enum LeasesAction {
    /// Show every subnet, who holds it and until when
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Bind a subnet to an address for ever
    Reserve {
        /// The subnet, such as 10.0.7.0/24
        subnet: crate::route::Cidr,
        /// The address of the host that shall have it
        public_ip: std::net::Ipv4Addr,
    },
    /// Delete the key of a subnet
    Release {
        /// The subnet, such as 10.0.7.0/24
        subnet: crate::route::Cidr,
        /// Release it even if a live host holds it
        #[arg(long)]
        force: bool,
    },
}

/// Where leases are kept; the same flags as the daemon's.
#[derive(Clone, Debug, Args)]
pub struct StoreArgs {
    /// Comma-separated etcd endpoints
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        env = "FLANNELD_ETCD_ENDPOINTS",
        default_value = "http://127.0.0.1:4001,http://127.0.0.1:2379",
        global = true
    )]
    pub etcd_endpoints: Vec<String>,
    /// Prefix of flannel's keys in etcd
    #[arg(
        long,
        value_name = "PATH",
        env = "FLANNELD_ETCD_PREFIX",
        default_value = "/coreos.com/network",
        global = true
    )]
    pub etcd_prefix: String,
    /// Client key for etcd
    #[arg(long, value_name = "FILE", env = "FLANNELD_ETCD_KEYFILE", global = true)]
    pub etcd_keyfile: Option<PathBuf>,
    /// Client certificate for etcd
    #[arg(long, value_name = "FILE", env = "FLANNELD_ETCD_CERTFILE", global = true)]
    pub etcd_certfile: Option<PathBuf>,
    /// Certificate authority of etcd
    #[arg(long, value_name = "FILE", env = "FLANNELD_ETCD_CAFILE", global = true)]
    pub etcd_cafile: Option<PathBuf>,
    /// User name for etcd
    #[arg(long, value_name = "NAME", env = "FLANNELD_ETCD_USERNAME", global = true)]
    pub etcd_username: Option<String>,
    /// Password for etcd
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "FLANNELD_ETCD_PASSWORD",
        hide_env_values = true,
        global = true
    )]
    pub etcd_password: Option<crate::daemon::options::Secret>,
    /// `etcd` or `file:DIR`
    #[arg(
        long,
        value_name = "STORE",
        env = "FLANNELD_REGISTRY",
        default_value = "etcd",
        global = true
    )]
    pub registry: crate::subnet::store::StoreKind,
}

/// Arguments of `completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}
