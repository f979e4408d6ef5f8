//! `flannel-udp demo`: two hosts on this machine, and traffic between their containers.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::daemon::{DaemonOptions, StoreKind};
use super::host::LabHost;
use super::topology::Lab;
use super::traffic::{Agent, SINK_PORT, SinkReport, TcpReport};
use super::{
    CONFIG, LabError, Privilege, UnderlayKind, interrupt, janitor, ping, privilege, scratch,
};
use crate::sys::netns::Netns;

/// Options of the demonstration.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Keep leases in an etcd cluster with a member on each host instead of in a directory
    #[arg(long)]
    pub etcd: bool,
    /// Leave everything running and print commands to inspect it
    #[arg(long)]
    pub keep: bool,
    /// Remove what --keep left running, and exit; with a name, only that lab
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        conflicts_with_all = ["etcd", "keep"]
    )]
    pub remove: Option<String>,
    /// Size of the verified transfer, in megabytes
    #[arg(long, value_name = "MB", default_value_t = 100)]
    pub megabytes: u64,
    /// Length of each throughput measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    pub seconds: u64,
    /// MTU of the underlay
    #[arg(long, value_name = "BYTES", default_value_t = 1500)]
    pub mtu: u32,
    /// Offloads of the underlay's links
    #[arg(long, value_enum, default_value_t = UnderlayKind::Nic)]
    pub underlay: UnderlayKind,
    /// Additional flag for both daemons (repeatable), such as --daemon-flag=--offload=off
    #[arg(long = "daemon-flag", value_name = "FLAG", allow_hyphen_values = true)]
    pub daemon_flags: Vec<String>,
}

/// The results of one direction.
#[derive(Debug)]
struct DirectionResults {
    label: String,
    ttl: u8,
    round_trip: Duration,
    transfer: Transfer,
    tunnel_gbit: f64,
    plain_gbit: f64,
}

#[derive(Debug)]
struct Transfer {
    seconds: f64,
    checksum: u64,
}

/// Runs the demonstration, and removes the lab even if it fails.
pub(super) fn run(arguments: &DemoArgs) -> Result<(), LabError> {
    let privilege = privilege::ensure()?;
    if let Some(name) = &arguments.remove {
        return remove(name);
    }
    if privilege == Privilege::UserNamespace {
        println!("not root: using a user namespace");
    }
    let mut lab = build(arguments)?;
    let result = show(&lab, arguments);
    let keep = arguments.keep && !matches!(result, Err(LabError::Interrupted));
    if keep {
        print_commands(&lab, privilege);
    }
    if keep && privilege == Privilege::Root {
        lab.keep();
        return result;
    }
    // The names and mounts of a user namespace end with this process, so it stays until a signal.
    while keep && interrupt::sleep(Duration::from_secs(3600)).is_ok() {}
    drop(lab);
    println!("\nthe lab was removed");
    result
}

fn build(arguments: &DemoArgs) -> Result<Lab, LabError> {
    println!("underlay: two hosts on a veth pair, MTU {}", arguments.mtu);
    let mut lab = Lab::builder().mtu(arguments.mtu).underlay(arguments.underlay).build()?;
    let store = if arguments.etcd { StoreKind::Etcd } else { StoreKind::Directory };
    if arguments.etcd {
        println!("lease store: etcd cluster with a member on each host");
        lab.start_etcd(2, CONFIG)?;
    } else {
        let directory = lab.create_store_directory(CONFIG)?;
        println!("lease store: directory {}", directory.display());
    }
    let flags = ["--ip-masq=true"].into_iter().chain(arguments.daemon_flags.iter().map(|f| &f[..]));
    lab.start_daemons(&DaemonOptions::with_flags(flags).lease_store(store))?;
    for number in 0..lab.hosts().len() {
        lab.add_container(number)?;
        describe(lab.host(number));
    }
    Ok(lab)
}

fn describe(host: &LabHost) {
    println!("{}: {} in namespace {}", host.name(), host.address(), host.netns_name());
    if let Some(daemon) = host.daemon() {
        if let Ok(subnet) = daemon.subnet() {
            println!("  subnet {}, MTU {}", subnet.cidr(), subnet.mtu);
        }
        println!("  daemon: process {}, log {}", daemon.pid(), daemon.log_file().display());
    }
    let container = host.container();
    println!("  container: {} in namespace {}", container.address(), container.netns_name());
}

fn show(lab: &Lab, arguments: &DemoArgs) -> Result<(), LabError> {
    let (one, two) = (lab.host(0), lab.host(1));
    let directions = [measure(lab, arguments, one, two)?, measure(lab, arguments, two, one)?];
    print_table(&directions, arguments);
    Ok(())
}

fn measure(
    lab: &Lab,
    arguments: &DemoArgs,
    from: &LabHost,
    to: &LabHost,
) -> Result<DirectionResults, LabError> {
    let label = format!("{} → {}", from.name(), to.name());
    eprintln!("{label}: ping, {} MB, throughput …", arguments.megabytes);
    let (source, sink) = (from.container(), to.container());
    ping::between(source, sink, FIRST_PING)?;
    let mut best = ping::between(source, sink, NEXT_PING)?;
    for _ in 0..PINGS {
        let pong = ping::between(source, sink, NEXT_PING)?;
        best = if pong.round_trip < best.round_trip { pong } else { best };
    }
    let transfer = transfer(lab, source.netns(), sink.netns(), sink.address(), arguments)?;
    let tunnel_gbit = throughput(lab, source.netns(), sink.netns(), sink.address(), arguments)?;
    let plain_gbit = throughput(lab, from.netns(), to.netns(), to.address(), arguments)?;
    let (ttl, round_trip) = (best.ttl, best.round_trip);
    Ok(DirectionResults { label, ttl, round_trip, transfer, tunnel_gbit, plain_gbit })
}

/// Sends a number of bytes and compares the bytes received with those sent.
fn transfer(
    lab: &Lab,
    from: &Netns,
    to: &Netns,
    address: Ipv4Addr,
    arguments: &DemoArgs,
) -> Result<Transfer, LabError> {
    let binary = lab.binary()?;
    let bytes = arguments.megabytes * 1_000_000;
    let _sink = Agent::start(&binary, to, "sink")?;
    let target = SocketAddrV4::new(address, SINK_PORT);
    let mut source = Agent::start(&binary, from, &format!("tcp --to {target} --bytes {bytes}"))?;
    let mut before = 0;
    let mut stalled = 0;
    loop {
        interrupt::sleep(Duration::from_millis(100))?;
        let report: TcpReport = source.report()?;
        if let Some(error) = report.errors.first() {
            return Err(LabError::Unusable(format!("the transfer failed: {error}")));
        }
        if let ([verified], [sent]) = (&report.verified[..], &report.checksums[..]) {
            if !verified.is(bytes, *sent) {
                return Err(LabError::Unusable(format!(
                    "the transfer was corrupted: {bytes} bytes with checksum {sent:016x} sent, {} \
                     with {:016x} received, first difference at {:?}",
                    verified.bytes, verified.checksum, verified.first_wrong
                )));
            }
            return Ok(Transfer { seconds: report.took_ns as f64 / 1e9, checksum: *sent });
        }
        stalled = if report.sent == before { stalled + 1 } else { 0 };
        before = report.sent;
        if stalled > STALLED {
            return Err(LabError::Unusable(format!("the transfer stalled at {before} bytes")));
        }
    }
}

/// Throughput of one TCP stream at the receiver, in Gbit/s.
fn throughput(
    lab: &Lab,
    from: &Netns,
    to: &Netns,
    address: Ipv4Addr,
    arguments: &DemoArgs,
) -> Result<f64, LabError> {
    let binary = lab.binary()?;
    let mut sink = Agent::start(&binary, to, "sink")?;
    let target = SocketAddrV4::new(address, SINK_PORT);
    let _source = Agent::start(&binary, from, &format!("tcp --to {target}"))?;
    interrupt::sleep(WARM_UP)?;
    let before: SinkReport = sink.report()?;
    interrupt::sleep(Duration::from_secs(arguments.seconds))?;
    let after: SinkReport = sink.report()?;
    Ok((after.tcp_bytes - before.tcp_bytes) as f64 * 8.0 / (after.at_ns - before.at_ns) as f64)
}

fn print_table(directions: &[DirectionResults], arguments: &DemoArgs) {
    let row = |name: &str, cell: &dyn Fn(&DirectionResults) -> String| {
        let cells: Vec<String> = directions.iter().map(|d| format!("{:<28}", cell(d))).collect();
        println!("{name:<26}{}", cells.concat().trim_end());
    };
    println!();
    row("", &|d| d.label.clone());
    row("ping, best of 21", &|d| {
        format!("{:.0} µs, reply TTL {}", d.round_trip.as_secs_f64() * 1e6, d.ttl)
    });
    row(&format!("{} MB, verified", arguments.megabytes), &|d| {
        format!("equal, {:.2} s", d.transfer.seconds)
    });
    row("  checksum (FNV-1a)", &|d| format!("{:016x}", d.transfer.checksum));
    row("TCP through the tunnel", &|d| format!("{:.2} Gbit/s", d.tunnel_gbit));
    row("TCP on the plain underlay", &|d| format!("{:.2} Gbit/s", d.plain_gbit));
    row("  tunnel / underlay", &|d| format!("{:.2}", d.tunnel_gbit / d.plain_gbit));
}

fn print_commands(lab: &Lab, privilege: Privilege) {
    let container = lab.host(0).container();
    let other = lab.host(1).container().address();
    println!("\neverything is left running; inspect it with");
    if privilege == Privilege::UserNamespace {
        let pid = std::process::id();
        println!("  nsenter --target {pid} --user --preserve-credentials --mount --net    # first");
    }
    let node = lab.host(0).netns_name();
    println!("  ip netns exec {} ping {other}", container.netns_name());
    println!("  ip -n {node} address");
    println!("  ip -n {node} route");
    println!("  ip netns exec {node} tcpdump -ni eth0 udp port 8285");
    for host in lab.hosts() {
        if let Some(daemon) = host.daemon() {
            println!("  tail -f {}", daemon.log_file().display());
        }
    }
    match privilege {
        Privilege::Root => {
            let name = lab.prefix().trim_end_matches('-');
            println!("and remove it with\n  flannel-udp demo --remove={name}");
        }
        Privilege::UserNamespace => println!("and remove it with Ctrl-C"),
    }
}

/// Removes the lab called `name` that was left running; all such labs if `name` is empty.
fn remove(name: &str) -> Result<(), LabError> {
    let mut names = Vec::new();
    let wanted = |prefix: &String| name.is_empty() || prefix.trim_end_matches('-') == name;
    for prefix in janitor::labs_without_owner().into_iter().filter(wanted) {
        names.extend(janitor::remove_labs(&prefix));
        let _ = std::fs::remove_dir_all(scratch::path_of(&prefix));
    }
    if names.is_empty() {
        println!("nothing was left running");
    } else {
        println!("removed {}", names.join(", "));
    }
    Ok(())
}

/// Time limit for the first ping, before which routes and neighbours are resolved.
const FIRST_PING: Duration = Duration::from_secs(5);
const NEXT_PING: Duration = Duration::from_secs(1);
const PINGS: usize = 20;
const WARM_UP: Duration = Duration::from_millis(500);

/// Tenths of a second without progress after which a transfer has failed.
const STALLED: u32 = 100;
