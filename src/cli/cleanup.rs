//! `cleanup`: removes what the daemon leaves in place when it stops, so that a restart interrupts nothing.

use std::path::Path;

use clap::Args;

use crate::args::SubnetFileArgs;
use crate::exit::{Code, Exit};
use crate::host::docker_opts;
use crate::host::firewall::{self, CleanupScope, Toolbox};
use crate::host::link::BLACKHOLE_METRIC;
use crate::host::netlink::Netlink;
use crate::host::subnet_file;
use crate::humanize;
use crate::output_file;
use crate::route::Cidr;
use crate::subnet::SubnetFileOrigin;

/// Arguments of `cleanup`.
#[derive(Clone, Debug, Args)]
pub struct CleanupArgs {
    /// Print what would be removed, but remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Remove the rules and routes of every daemon on this host, flanneld included, not only those for the network
    /// in the subnet file
    #[arg(long)]
    pub all: bool,
    /// The subnet file to remove.
    #[command(flatten)]
    pub subnet_file: SubnetFileArgs,
}

/// Removes what the daemon leaves in place when it stops, and prints each removal as a command. The network in the
/// subnet file says which rules are that daemon's.
///
/// # Errors
/// A rule, a route or a file cannot be removed.
pub(super) async fn run(args: &CleanupArgs) -> Result<(), Exit> {
    let tools = Toolbox::from_environment();
    let previous = subnet_file::read_previous(&args.subnet_file.path);
    let scope = if args.all {
        CleanupScope::All
    } else {
        CleanupScope::Networks(previous.network.into_iter().collect())
    };
    let found = firewall::cleanup(&tools, &scope, args.dry_run).await.map_err(|error| {
        Exit::new(Code::Unavailable, format!("error: {error}\n(cleanup needs CAP_NET_ADMIN)"))
    })?;
    let mut removed = found.removed;
    removed.extend(blackholes(previous.subnet, args).await?);
    removed.extend(subnet_files(&args.subnet_file.path, args.dry_run)?);
    if removed.is_empty() && found.left.is_empty() {
        println!("nothing to remove: flannel left nothing on this host");
    }
    for line in removed {
        println!("{}{line}", if args.dry_run { "would run: " } else { "" });
    }
    if !found.left.is_empty() {
        let path = args.subnet_file.path.display();
        let left = found.left.len() as u64;
        let whose = match previous.network {
            Some(network) => {
                format!("which {} not for {network}", humanize::agree(left, "is", "are"))
            }
            None => format!("because {path} does not name this daemon's network"),
        };
        println!(
            "left in place: {}, {whose}; flannel-udp cleanup --all removes {} too",
            humanize::counted(left, "rule"),
            humanize::agree(left, "it", "them")
        );
    }
    Ok(())
}

/// Removes blackhole routes with the daemon's own metric: that of `subnet`, with `--all` every one.
async fn blackholes(subnet: Option<Cidr>, args: &CleanupArgs) -> Result<Vec<String>, Exit> {
    use rtnetlink::packet_route::route::RouteType;
    let fail = |error| Exit::new(Code::System, format!("error: {error}"));
    let netlink = Netlink::connect().map_err(fail)?;
    let mut removed = Vec::new();
    for route in netlink.routes().await.map_err(fail)? {
        let ours = args.all || subnet == Some(route.destination);
        if ours && route.kind == RouteType::BlackHole && route.priority == BLACKHOLE_METRIC {
            if !args.dry_run {
                netlink
                    .remove_blackhole(route.destination, BLACKHOLE_METRIC)
                    .await
                    .map_err(fail)?;
            }
            let destination = route.destination;
            removed.push(format!("ip route del blackhole {destination} metric {BLACKHOLE_METRIC}"));
        }
    }
    Ok(removed)
}

/// Removes the subnet file and the record of its origin beside it.
fn subnet_files(path: &Path, dry_run: bool) -> Result<Vec<String>, Exit> {
    // A link stays: it is not the daemon's.
    let Some(target) = output_file::target(path) else { return Ok(vec![]) };
    let text = std::fs::read_to_string(&target).unwrap_or_default();
    if docker_opts::subnet_of(&text).is_none() {
        // There is no subnet file, or --subnet-file names a file of another kind.
        return Ok(vec![]);
    }
    let mut removed = vec![];
    for path in [target, SubnetFileOrigin::path(path)].into_iter().filter(|path| path.exists()) {
        if !dry_run {
            std::fs::remove_file(&path).map_err(|error| {
                Exit::new(
                    Code::CannotCreate,
                    format!("error: cannot remove {}: {error}", path.display()),
                )
            })?;
        }
        removed.push(format!("rm {}", path.display()));
    }
    Ok(removed)
}
