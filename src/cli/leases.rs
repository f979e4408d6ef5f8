//! `leases`: lists, reserves and releases the subnets of the network.

use std::net::Ipv4Addr;

use clap::{Args, Subcommand};
use serde_json::json;

use super::table::{self, Layout};
use crate::args::{LocalStoreArgs, SocketArgs};
use crate::exit::{Code, Exit};
use crate::humanize;
use crate::route::Cidr;
use crate::subnet::admin::{self, AdminError, Holding, HoldingTerm, LeaseRow};
use crate::subnet::{LeaseStore, NetworkConfig, StoreError, store};

/// Arguments of `leases`.
#[derive(Clone, Debug, Args)]
pub struct LeasesArgs {
    /// The action.
    #[command(subcommand)]
    pub action: LeasesAction,
    /// The lease store; without its flags, that of the daemon on this host.
    #[command(flatten)]
    pub store: LocalStoreArgs,
    /// The daemon whose store it is.
    #[command(flatten)]
    pub socket: SocketArgs,
}

/// The actions of `leases`.
#[derive(Clone, Debug, Subcommand)]
pub enum LeasesAction {
    /// Show every subnet, its holder and its expiry
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Reserve a subnet permanently for the address of a host
    Reserve {
        /// The subnet, such as 10.0.7.0/24
        subnet: Cidr,
        /// The address of the host that gets it
        public_ip: Ipv4Addr,
    },
    /// Delete the key of a subnet whose host has stopped flannel-udp
    Release {
        /// The subnet, such as 10.0.7.0/24
        subnet: Cidr,
        /// Release it even if its host may be running: needed for a host that crashed or ran stock flanneld
        #[arg(long)]
        force: bool,
    },
}

/// Lists, reserves or releases subnets.
///
/// # Errors
/// The lease store cannot be used or refuses the change.
pub(super) async fn run(args: &LeasesArgs) -> Result<(), Exit> {
    let chosen = if args.store.is_located() {
        args.store.choose(Err("it was not asked"))
    } else {
        let daemon = args.socket.client().status_soon().await;
        let chosen = args.store.choose(daemon.as_deref().map_err(String::as_str));
        eprintln!("lease store: {chosen}");
        chosen
    };
    let store = store::open(&chosen.options).map_err(|error| {
        Exit::new(Code::Config, format!("error: cannot use the lease store: {error}"))
    })?;
    match &args.action {
        LeasesAction::List { json } => {
            let rows = admin::list(&*store).await.map_err(unavailable)?;
            if *json {
                print_json(&rows);
            } else {
                print_table(&rows);
            }
        }
        LeasesAction::Reserve { subnet, public_ip } => {
            let config = config(&*store).await?;
            admin::reserve(&*store, &config, *subnet, *public_ip).await.map_err(refused)?;
            println!("{subnet} is reserved for {public_ip}");
        }
        LeasesAction::Release { subnet, force } => {
            for row in admin::release(&*store, *subnet, *force).await.map_err(refused)? {
                match row.lease {
                    Ok(holding) => println!("{subnet} of {} is released", holding.public_ip),
                    Err(why) => println!("{} is removed; it was not a lease: {why}", row.key),
                }
            }
        }
    }
    Ok(())
}

async fn config(store: &dyn LeaseStore) -> Result<NetworkConfig, Exit> {
    let Some(text) = store.config().await.map_err(unavailable)? else {
        let (place, hint) = (store.describe_config(), store.config_hint());
        let text = format!(
            "error: there is no network config in {}, at {place}. {hint}",
            store.describe()
        );
        return Err(Exit::new(Code::BadData, text));
    };
    NetworkConfig::parse(&text)
        .map_err(|error| Exit::new(Code::BadData, format!("error: the network config: {error}")))
}

fn print_table(rows: &[LeaseRow]) {
    let mut table = table::new([
        ("SUBNET", Layout::Key),
        ("HOST", Layout::Key),
        ("BACKEND", Layout::Text),
        ("EXPIRES IN", Layout::Text),
        ("KEY", Layout::Text),
    ]);
    for row in rows {
        match &row.lease {
            Ok(holding) => table.add_row([
                holding.subnet.to_string(),
                holding.public_ip.to_string(),
                backend(holding).to_owned(),
                term(holding),
                row.key.clone(),
            ]),
            Err(why) => {
                let no_lease = ["not a lease".to_owned(), "-".into(), "-".into(), "-".into()];
                table.add_row(no_lease.into_iter().chain([format!("{}: {why}", row.key)]))
            }
        };
    }
    print!("{}", table::text(&table));
}

/// The backend's name; a lease without one is of the udp backend, as flannel reads it.
fn backend(holding: &Holding) -> &str {
    holding.backend_type.as_deref().unwrap_or("udp")
}

fn print_json(rows: &[LeaseRow]) {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| match &row.lease {
            Ok(holding) => json!({
                "key": row.key,
                "subnet": holding.subnet.to_string(),
                "public_ip": holding.public_ip,
                "backend_type": backend(holding),
                "reserved": holding.term == HoldingTerm::Reserved,
                "expires_in_seconds": match holding.term {
                    HoldingTerm::Left(left) => Some(left.as_secs()),
                    HoldingTerm::Reserved | HoldingTerm::Unknown => None,
                },
                "instance": holding.instance,
                "stopped": holding.stopped,
            }),
            Err(why) => json!({ "key": row.key, "error": why }),
        })
        .collect();
    println!("{:#}", json!({ "version": 1, "leases": rows }));
}

fn term(holding: &Holding) -> String {
    let left = match holding.term {
        HoldingTerm::Reserved => return "reserved".into(),
        HoldingTerm::Unknown => "?".into(),
        HoldingTerm::Left(left) => humanize::duration(left),
    };
    if holding.stopped { format!("{left} (stopped)") } else { left }
}

fn unavailable(error: StoreError) -> Exit {
    Exit::new(Code::Unavailable, format!("error: {error}"))
}

fn refused(error: AdminError) -> Exit {
    let code = match &error {
        AdminError::Store(_) => Code::Unavailable,
        AdminError::NotLeasable { .. } | AdminError::NotFound(_) => Code::BadData,
        AdminError::Taken { .. } | AdminError::HostHolds { .. } | AdminError::Alive { .. } => {
            Code::NoLease
        }
    };
    Exit::new(code, format!("error: {error}"))
}
