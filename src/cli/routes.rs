//! `routes`: the route table that the packet threads read.

use clap::Args;
use serde_json::json;

use super::table::{self, Layout};
use crate::args::QueryArgs;
use crate::exit::Exit;
use crate::humanize;

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
    let columns = [("SUBNET", Layout::Key), ("NEXT HOP", Layout::Key), ("KEY", Layout::Text)];
    let mut table = table::new(columns);
    if let (Some(lease), Some(overlay)) = (&now.lease, &now.overlay) {
        let here = format!("here ({})", overlay.device);
        table.add_row([lease.subnet.to_string(), here, "-".into()]);
    }
    for peer in &now.peers {
        let expected = format!("{}:{port}", peer.public_ip);
        let hop = peer.next_hop.as_deref().unwrap_or("none");
        // The lookup is by address, so a longer prefix at the same address shows its own next hop.
        let note = if hop == expected { "" } else { " (a change is in progress)" };
        table.add_row([peer.subnet.to_string(), hop.to_owned(), format!("{}{note}", peer.key)]);
    }
    print!("{}", table::text(&table));
    let routes = humanize::counted(now.routes.count, "route");
    println!("{routes}, table revision {}", now.routes.revision);
    Ok(())
}
