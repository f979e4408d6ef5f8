//! The tools that concern this host alone: `docker-opts`, `cleanup`, `completions`.

use std::io;
use std::path::Path;

use super::commands::{CleanupArgs, CompletionsArgs, DockerOptsArgs};
use super::{Code, Exit};
use crate::host::docker_opts::{self, Form, OptionsError};
use crate::host::firewall::{self, Toolbox};
use crate::host::link::BLACKHOLE_METRIC;
use crate::host::netlink::Netlink;
use crate::subnet::SubnetFileOrigin;

/// `docker-opts`: writes dockerd's environment file.
pub async fn docker_opts(args: &DockerOptsArgs) -> Result<(), Exit> {
    let source = &args.flannel_env;
    let text = std::fs::read_to_string(source).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; the daemon writes it when it has a lease",
            _ => "",
        };
        Exit::new(Code::NoInput, format!("error: cannot read {}: {error}{hint}", source.display()))
    })?;
    let form = Form {
        individual: args.individual,
        combined: args.combined,
        combined_key: args.combined_key.clone(),
        omit_ip_masq: args.omit_ip_masq,
    };
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let options = docker_opts::render(&text, environment, &form).map_err(|error| match error {
        OptionsError::Key(_) => Exit::usage(format!("error: {error}")),
        _ => Exit::new(Code::BadData, format!("error: {}: {error}", source.display())),
    })?;
    if let Some(subnet) = docker_opts::subnet_of(&text)
        && let Ok(Some(gateway)) = docker_opts::conflicting_gateway(subnet).await
    {
        return Err(Exit::new(
            Code::Config,
            format!(
                "error: this host has a route to its own subnet {subnet} via {gateway}; docker's \
                 bridge cannot have that subnet until the route is removed"
            ),
        ));
    }
    docker_opts::write(&args.docker_env, &options).map_err(|error| {
        let target = args.docker_env.display();
        Exit::new(Code::CannotCreate, format!("error: cannot write {target}: {error}"))
    })
}

/// `cleanup`: removes what the daemon leaves on purpose when it stops, so that a restart is smooth.
pub async fn cleanup(args: &CleanupArgs) -> Result<(), Exit> {
    let tools = Toolbox::from_environment();
    let mut removed = firewall::cleanup(&tools, args.dry_run).await.map_err(|error| {
        Exit::new(Code::Unavailable, format!("error: {error}\n(cleanup needs CAP_NET_ADMIN)"))
    })?;
    removed.extend(blackholes(args.dry_run).await?);
    removed.extend(subnet_files(&args.subnet_file, args.dry_run)?);
    if removed.is_empty() {
        println!("nothing of flannel's is left on this host");
    }
    for line in removed {
        println!("{}{line}", if args.dry_run { "would run: " } else { "" });
    }
    Ok(())
}

/// Blackhole routes with the daemon's own metric.
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

/// The subnet file and the note about its origin beside it.
fn subnet_files(path: &Path, dry_run: bool) -> Result<Vec<String>, Exit> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    if docker_opts::subnet_of(&text).is_none() {
        // There is none, or --subnet-file names some other file.
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

/// `completions`: prints a completion script.
pub fn completions(args: &CompletionsArgs) {
    clap_complete::generate(
        args.shell,
        &mut super::clap_command(),
        "flannel-udp",
        &mut io::stdout(),
    );
}
