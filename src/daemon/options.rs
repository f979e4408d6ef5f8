//! The flags of the daemon: flanneld's, with the same names, defaults and spellings, and this program's own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};

use super::workers::Workers;
use crate::args::checked_log_filter;
use crate::args::go_values::{go_bool, go_int, go_int_in, go_ipv4, go_port};
use crate::args::values::{ip_address, socket_address, spin_microseconds};
use crate::args::{ListenPath, StoreArgs, SubnetFileArgs};
use crate::confine::Layers;
use crate::dataplane::{CheckMode, Feature, Offloads, OuterTos, Threads};

/// The daemon's options.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The lease store
    #[command(flatten)]
    pub store: StoreArgs,
    /// Renew the subnet lease this many minutes before it expires
    #[arg(
        long,
        value_name = "MINUTES",
        default_value = "60",
        value_parser = go_int_in::<1, 1439>,
        help_heading = "Lease store"
    )]
    pub subnet_lease_renew_margin: i64,
    /// Exit with code 75 when the lease is lost, instead of acquiring another one
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, value_parser = go_bool, value_name = "BOOL", action = ArgAction::Set,
          help_heading = "Lease store")]
    pub exit_on_lease_loss: bool,

    /// Interface for traffic between hosts, by name or address; repeatable, the first match wins
    #[arg(long, value_name = "NAME|IP", help_heading = "Interface")]
    pub iface: Vec<String>,
    /// Regular expression for the interface, matched against addresses, then names; repeatable, tried after
    /// all --iface flags
    #[arg(long, value_name = "REGEX", help_heading = "Interface")]
    pub iface_regex: Vec<String>,
    /// Use the interface through which this address is reached; tried after --iface-regex
    #[arg(long, value_name = "IP", value_parser = go_ipv4, help_heading = "Interface")]
    pub iface_can_reach: Option<Ipv4Addr>,
    /// Address that other hosts send to, if it differs from the interface's address
    #[arg(long, value_name = "IP", value_parser = go_ipv4, help_heading = "Interface")]
    pub public_ip: Option<Ipv4Addr>,
    /// IPv6 address that other hosts send to: rejected, the udp backend is IPv4 only
    #[arg(long, value_name = "IP", hide = true)]
    pub public_ipv6: Option<String>,
    /// Name of the TUN device; `%d` becomes the first free number
    #[arg(long, value_name = "NAME", default_value = "flannel%d", value_parser = tun_name,
          help_heading = "Interface")]
    pub tun_name: String,
    /// The subnet file.
    #[command(flatten, next_help_heading = "Interface")]
    pub subnet_file: SubnetFileArgs,

    /// Masquerade traffic that leaves the overlay network
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, value_parser = go_bool, value_name = "BOOL", action = ArgAction::Set,
          help_heading = "Firewall")]
    pub ip_masq: bool,
    /// Do not randomize the source ports of masqueraded traffic
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, value_parser = go_bool, value_name = "BOOL", action = ArgAction::Set,
          help_heading = "Firewall")]
    pub ip_masq_fully_random_disable: bool,
    /// Accept forwarded traffic of the overlay network
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, value_parser = go_bool, value_name = "BOOL", action = ArgAction::Set,
          help_heading = "Firewall")]
    pub iptables_forward_rules: bool,
    /// Keep containers from sending to the UDP port of any host, which would let them forge overlay packets
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, value_parser = go_bool, value_name = "BOOL", action = ArgAction::Set,
          help_heading = "Firewall")]
    pub protect_port: bool,
    /// Exempt the datagrams between hosts from the kernel's connection tracking, whose table a flood from forged
    /// addresses could fill
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, value_parser = go_bool, value_name = "BOOL", action = ArgAction::Set,
          help_heading = "Firewall")]
    pub notrack: bool,
    /// Seconds between checks that restore missing firewall rules
    #[arg(long, value_name = "SECONDS", default_value = "5",
          value_parser = go_int_in::<1, 86_400>, help_heading = "Firewall")]
    pub iptables_resync: i64,
    /// Keep a blackhole route for this host's subnet, which drops packets to nonexistent containers
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, value_parser = go_bool, value_name = "BOOL", action = ArgAction::Set,
          help_heading = "Firewall")]
    pub ip_blackhole_route: bool,

    /// Packet workers, each with its own TUN queues and socket: `auto` or 0 (one per two cores, at most 8), or a
    /// number
    #[arg(long, value_name = "N", default_value = "auto", help_heading = "Data path")]
    pub workers: Workers,
    /// Threads per worker: 1 (both directions), 2 (one per direction), or `auto`: one while traffic is light,
    /// two while both directions are busy
    #[arg(long, value_name = "N", default_value = "auto", help_heading = "Data path")]
    pub worker_threads: Threads,
    /// The kernel features that may be used.
    #[arg(long, value_name = "LIST", default_value = "auto", help_heading = "Data path",
          help = offload_help())]
    pub offload: Offloads,
    /// TOS byte of the packets between hosts: that of the inner packet without its ECN bits (`inherit`), or a
    /// value whose two low bits are zero, such as 0xb8 for DSCP 46
    #[arg(long, value_name = "inherit|N", default_value = "0", help_heading = "Data path")]
    pub outer_tos: OuterTos,
    /// How long a worker polls for more work before it sleeps: microseconds, or a time such as 1ms [default: 100;
    /// with --offload=off: 0]
    #[arg(long, value_name = "USEC", value_parser = spin_microseconds, help_heading = "Data path")]
    pub spin: Option<i64>,
    /// What to do with a packet whose inner source is not in the sender's lease: ignore (`off`), `log`, drop
    /// unless the sender is a host with a lease (`peers`), or always drop (`enforce`)
    #[arg(long, value_name = "MODE", default_value = "peers", help_heading = "Data path")]
    pub source_check: CheckMode,
    /// What to do with a received packet whose inner destination is not in this host's subnet: ignore
    /// (`off`), `log`, or drop (`enforce`)
    #[arg(long, value_name = "MODE", default_value = "off", value_parser = destination_mode,
          help_heading = "Data path")]
    pub destination_check: CheckMode,

    /// Privileges to drop: `auto` (all that the kernel supports), `off`, a list of
    /// landlock,capabilities,seccomp, or `auto` with exceptions: auto,-landlock
    #[arg(long, value_name = "LIST", default_value = "auto", help_heading = "Privileges")]
    pub harden: Layers,

    /// Address for health checks
    #[arg(long, value_name = "IP", default_value = "0.0.0.0", value_parser = ip_address, help_heading = "Monitoring")]
    pub healthz_ip: IpAddr,
    /// Port for health checks: /healthz, /readyz, /livez; 0 disables them
    #[arg(long, value_name = "PORT", default_value = "0", value_parser = go_port,
          help_heading = "Monitoring")]
    pub healthz_port: u16,
    /// Address and port for Prometheus metrics at /metrics, such as 127.0.0.1:9285; may be the same
    /// as for the health checks
    #[arg(long, value_name = "IP:PORT", value_parser = socket_address, help_heading = "Monitoring")]
    pub metrics_addr: Option<SocketAddr>,
    /// Unix socket for `flannel-udp status` and similar commands [default: /run/flannel/flannel-udp.sock];
    /// empty disables it
    #[arg(long, value_name = "PATH", value_parser = ListenPath::parse, help_heading = "Monitoring")]
    pub socket: Option<ListenPath>,
    /// Write all counters as JSON to this file, at exit and on SIGUSR1
    #[arg(long, value_name = "FILE", help_heading = "Monitoring")]
    pub stats_json: Option<PathBuf>,
    /// Log level: error, warn, info, debug, trace, off, or a filter such as `info,flannel_udp::subnet=debug`
    #[arg(long, value_name = "LEVEL", value_parser = checked_log_filter, help_heading = "Monitoring")]
    pub log_level: Option<String>,
    /// Verbosity as in flannel's klog: 0 is info, 1 to 3 debug, 4 and above trace
    #[arg(long, value_name = "N", default_value = "0", value_parser = go_int,
          help_heading = "Monitoring")]
    pub v: i64,
    /// Verbosity per file, as in klog: accepted without effect
    #[arg(long, value_name = "LIST", hide = true)]
    pub vmodule: Option<String>,
    /// Stack traces, as in klog: accepted without effect
    #[arg(long = "log_backtrace_at", value_name = "FILE:LINE", hide = true)]
    pub log_backtrace_at: Option<String>,

    /// Check the settings, print all errors, and exit
    ///
    /// Reads the flags, the FLANNELD_* variables, the files that they name, and, if the lease store answers within
    /// 3 s, the network config. Prints what is wrong and what could not be checked. Changes nothing, and can run while
    /// the daemon runs. Exits with 0, or with the code that the daemon would exit with because of the first error.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, value_parser = go_bool, value_name = "BOOL", action = ArgAction::Set,
          hide_default_value = true, help_heading = None::<&str>)]
    pub check: bool,

    /// Flags of flannel's Kubernetes subnet manager, which this program rejects.
    #[command(flatten)]
    pub kube: KubeFlags,

    /// Warnings to log once the log is set up, such as those for unusable environment variables.
    #[arg(skip)]
    pub warnings: Vec<String>,
}

/// Flags of flannel's Kubernetes subnet manager. They are parsed so that the error can be a clear sentence.
#[derive(Clone, Debug, Args)]
pub struct KubeFlags {
    #[arg(long, hide = true, default_value = "false", default_missing_value = "true",
          num_args = 0..=1, require_equals = true, value_parser = go_bool, action = ArgAction::Set)]
    kube_subnet_mgr: bool,
    #[arg(long, hide = true)]
    kube_api_url: Option<String>,
    #[arg(long, hide = true)]
    kubeconfig_file: Option<String>,
    #[arg(long, hide = true)]
    kube_annotation_prefix: Option<String>,
    #[arg(long, hide = true)]
    net_config_path: Option<String>,
    #[arg(long, hide = true, default_value = "true", default_missing_value = "true",
          num_args = 0..=1, require_equals = true, value_parser = go_bool, action = ArgAction::Set)]
    set_node_network_unavailable: bool,
    #[arg(long, hide = true, default_value = "false", default_missing_value = "true",
          num_args = 0..=1, require_equals = true, value_parser = go_bool, action = ArgAction::Set)]
    use_multi_cluster_cidr: bool,
}

impl Options {
    /// The level or filter of the log: `--log-level`, or else the level that `-v` stands for.
    pub fn log_level(&self) -> &str {
        match (&self.log_level, self.v) {
            (Some(level), _) => level,
            (None, ..=0) => "info",
            (None, 1..=3) => "debug",
            (None, _) => "trace",
        }
    }

    /// Time between two checks of the firewall rules.
    pub fn resync_period(&self) -> Duration {
        Duration::from_secs(self.iptables_resync.unsigned_abs())
    }

    /// Time before expiry at which the lease is renewed.
    pub fn renew_margin(&self) -> Duration {
        Duration::from_secs(self.subnet_lease_renew_margin.unsigned_abs() * 60)
    }

    /// How long an idle worker polls for packets before it sleeps.
    pub fn spin_time(&self) -> Duration {
        let default = if self.offload.profile().is_stock() { 0 } else { DEFAULT_SPIN };
        Duration::from_micros(self.spin.unwrap_or(default).unsigned_abs())
    }

    /// An error message for each flag that asks for something this program does not support.
    pub fn unsupported(&self) -> Vec<String> {
        let kube = &self.kube;
        let manager = [
            (kube.kube_subnet_mgr, "kube-subnet-mgr"),
            (kube.use_multi_cluster_cidr, "use-multi-cluster-cidr"),
            (!kube.set_node_network_unavailable, "set-node-network-unavailable"),
            (is_given(&kube.kube_api_url, ""), "kube-api-url"),
            (is_given(&kube.kubeconfig_file, ""), "kubeconfig-file"),
            (
                is_given(&kube.kube_annotation_prefix, "flannel.alpha.coreos.com"),
                "kube-annotation-prefix",
            ),
            (is_given(&kube.net_config_path, "/etc/kube-flannel/net-conf.json"), "net-config-path"),
        ];
        let asked = manager.iter().filter(|(asked, _)| *asked);
        let mut sentences: Vec<String> = asked
            .map(|(_, flag)| {
                format!(
                    "--{flag} belongs to flannel's Kubernetes subnet manager, which flannel-udp does not \
                     support: it keeps leases in etcd (--etcd-endpoints) or in a directory \
                     (--registry=file:DIR). Remove this flag"
                )
            })
            .collect();
        if is_given(&self.public_ipv6, "") {
            sentences.push(
                "--public-ipv6 is not supported: the udp backend runs between IPv4 addresses. Use \
                 --public-ip instead"
                    .into(),
            );
        }
        sentences
    }
}

/// Whether a flag was given with another value than flannel's default.
fn is_given(value: &Option<String>, default: &str) -> bool {
    value.as_deref().is_some_and(|v| v != default && !v.is_empty())
}

/// The default of `--spin` in microseconds: several wake-ups long, so that the reply of a busy peer arrives while
/// the worker still polls.
const DEFAULT_SPIN: i64 = 100;

/// Longest interface name in bytes: `IFNAMSIZ` less the NUL, in Linux' `include/uapi/linux/if.h`.
const MAX_IFNAME: usize = 15;

fn destination_mode(text: &str) -> Result<CheckMode, String> {
    match text.parse() {
        Ok(mode) if mode != CheckMode::Peers => Ok(mode),
        _ => Err(format!("unknown value {text:?}: use off, log or enforce")),
    }
}

fn tun_name(text: &str) -> Result<String, String> {
    let longest = text.replace("%d", "255");
    let marks = text.matches('%').count();
    if longest.is_empty() || longest.len() > MAX_IFNAME {
        return Err(format!("an interface name is 1 to {MAX_IFNAME} bytes long"));
    }
    if marks > 1 || marks != text.matches("%d").count() {
        return Err("`%` may only appear once, as `%d`".into());
    }
    if text == "."
        || text == ".."
        || text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
    {
        return Err("an interface name cannot contain a space, `/` or `:`".into());
    }
    Ok(text.to_owned())
}
fn offload_help() -> String {
    format!(
        "Kernel features to use: `auto` (all that the kernel supports), `off` (one packet per system \
         call), a list of {}, or `auto` with exceptions: auto,-udp-coalesce",
        Feature::ALL.map(Feature::name).join(",")
    )
}
