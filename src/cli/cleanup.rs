//! `cleanup`: removes what the daemon leaves in place when it stops, so that a restart interrupts nothing.

use std::path::Path;

use clap::Args;

use crate::args::SubnetFileArgs;
use crate::exit::{Code, Exit};
use crate::host::docker_opts;
use crate::host::firewall::{self, Toolbox};
use crate::host::link::BLACKHOLE_METRIC;
use crate::host::netlink::Netlink;
use crate::subnet::SubnetFileOrigin;

/// Arguments of `cleanup`.
#[derive(Clone, Debug, Args)]
pub struct CleanupArgs {
    /// Print what would be removed, remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The subnet file to remove.
    #[command(flatten)]
    pub subnet_file: SubnetFileArgs,
}

/// Removes what the daemon leaves in place when it stops, and prints each removal as a command.
///
/// # Errors
/// A rule, a route or a file cannot be removed.
pub(super) async fn run(args: &CleanupArgs) -> Result<(), Exit> {
    let tools = Toolbox::from_environment();
    let mut removed = firewall::cleanup(&tools, args.dry_run).await.map_err(|error| {
        Exit::new(Code::Unavailable, format!("error: {error}\n(cleanup needs CAP_NET_ADMIN)"))
    })?;
    removed.extend(blackholes(args.dry_run).await?);
    removed.extend(subnet_files(&args.subnet_file.path, args.dry_run)?);
    if removed.is_empty() {
        println!("nothing to remove: flannel left nothing on this host");
    }
    for line in removed {
        println!("{}{line}", if args.dry_run { "would run: " } else { "" });
    }
    Ok(())
}

/// Removes blackhole routes with the daemon's own metric.
async fn blackholes(dry_run: bool) -> Result<Vec<String>, Exit> {
    use rtnetlink::packet_route::route::RouteType;
    let fail = |error| Exit::new(Code::System, format!("error: {error}"));
    let netlink = Netlink::connect().map_err(fail)?;
    let mut removed = Vec::new();
    for route in netlink.routes().await.map_err(fail)? {
        if route.kind == RouteType::BlackHole && route.priority == BLACKHOLE_METRIC {
            if !dry_run {
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
    let text = std::fs::read_to_string(path).unwrap_or_default();
    if docker_opts::subnet_of(&text).is_none() {
        // There is no subnet file, or --subnet-file names a file of another kind.
        return Ok(vec![]);
    }
    let mut removed = vec![];
    for path in
        [path.to_owned(), SubnetFileOrigin::path(path)].into_iter().filter(|path| path.exists())
    {
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
