//! `routes`: the route table, as the threads that carry packets read it.

use clap::Args;
use serde_json::json;

use crate::args::QueryArgs;
use crate::exit::Exit;

/// Arguments of `routes`.
#[derive(Clone, Debug, Args)]
pub struct RoutesArgs {
    /// Which daemon is queried, and the form of the output.
    #[command(flatten)]
    pub query: QueryArgs,
}

/// Prints a table, or JSON.
pub(super) fn run(args: &RoutesArgs) -> Result<(), Exit> {
    let now = args.query.client().status()?;
    let port = now.underlay.as_ref().map_or(0, |underlay| underlay.port);
    if args.query.json {
        let routes: Vec<_> = now
            .peers
            .iter()
            .map(|peer| {
                json!({
                    "subnet": peer.subnet,
                    "next_hop": peer.next_hop,
                    "lease": format!("{}:{port}", peer.public_ip),
                    "key": peer.key,
                })
            })
            .collect();
        let own = now.lease.as_ref().map(|lease| lease.subnet);
        println!(
            "{:#}",
            json!({
                "version": 1,
                "own": own,
                "count": now.routes.count,
                "revision": now.routes.revision,
                "routes": routes,
            })
        );
        return Ok(());
    }
    println!("{:<18} {:<21} KEY", "SUBNET", "NEXT HOP");
    if let (Some(lease), Some(overlay)) = (&now.lease, &now.overlay) {
        println!("{:<18} {:<21} -", lease.subnet.to_string(), format!("here ({})", overlay.device));
    }
    for peer in &now.peers {
        let wanted = format!("{}:{port}", peer.public_ip);
        let hop = peer.next_hop.as_deref().unwrap_or("none");
        // A shorter prefix may have the first address of a longer one: told as it is.
        let note = if hop == wanted { "" } else { " (a change is under way)" };
        println!("{:<18} {hop:<21} {}{note}", peer.subnet.to_string(), peer.key);
    }
    println!("{} routes, table revision {}", now.routes.count, now.routes.revision);
    Ok(())
}
