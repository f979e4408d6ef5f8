//! `leases`: look at the subnets of the network, reserve one, release one.

use std::net::Ipv4Addr;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::args::StoreArgs;
use crate::exit::{Code, Exit};
use crate::humanize;
use crate::route::Cidr;
use crate::subnet::admin::{self, AdminError, HoldingTerm, LeaseRow};
use crate::subnet::{LeaseStore, NetworkConfig, StoreError, store};

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
        subnet: Cidr,
        /// The address of the host that shall have it
        public_ip: Ipv4Addr,
    },
    /// Delete the key of a subnet
    Release {
        /// The subnet, such as 10.0.7.0/24
        subnet: Cidr,
        /// Release it even if a live host holds it
        #[arg(long)]
        force: bool,
    },
}

/// Does what the arguments ask for.
pub(super) async fn run(args: &LeasesArgs) -> Result<(), Exit> {
    let registry = store::open(&args.store.options()).map_err(|error| {
        Exit::new(Code::Config, format!("error: cannot use the lease store: {error}"))
    })?;
    match &args.action {
        LeasesAction::List { json } => {
            let rows = admin::list(&*registry).await.map_err(unavailable)?;
            match json {
                true => print_json(&rows),
                false => print_table(&rows),
            }
        }
        LeasesAction::Reserve { subnet, public_ip } => {
            let config = config(&*registry).await?;
            admin::reserve(&*registry, &config, *subnet, *public_ip).await.map_err(refused)?;
            println!("{subnet} is reserved for {public_ip}");
        }
        LeasesAction::Release { subnet, force } => {
            for row in admin::release(&*registry, *subnet, *force).await.map_err(refused)? {
                match row.lease {
                    Ok(holding) => println!("{subnet} of {} is released", holding.public_ip),
                    Err(why) => println!("{} is removed; it was no lease: {why}", row.key),
                }
            }
        }
    }
    Ok(())
}

async fn config(registry: &dyn LeaseStore) -> Result<NetworkConfig, Exit> {
    let Some(text) = registry.config().await.map_err(unavailable)? else {
        let text = format!("error: there is no network config in {}", registry.describe());
        return Err(Exit::new(Code::BadData, text));
    };
    NetworkConfig::parse(&text)
        .map_err(|error| Exit::new(Code::BadData, format!("error: the network config: {error}")))
}

fn print_table(rows: &[LeaseRow]) {
    println!("{:<18} {:<15} {:<10} {:<12} KEY", "SUBNET", "HOST", "BACKEND", "EXPIRES IN");
    for row in rows {
        match &row.lease {
            Ok(holding) => println!(
                "{:<18} {:<15} {:<10} {:<12} {}",
                holding.subnet.to_string(),
                holding.public_ip.to_string(),
                holding.backend_type.as_deref().unwrap_or("udp"),
                term(holding.term),
                row.key
            ),
            Err(why) => println!("{:<58} {}: {why}", "not a lease", row.key),
        }
    }
}

fn print_json(rows: &[LeaseRow]) {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| match &row.lease {
            Ok(holding) => json!({
                "key": row.key,
                "subnet": holding.subnet.to_string(),
                "public_ip": holding.public_ip,
                "backend_type": holding.backend_type,
                "reserved": holding.term == HoldingTerm::Reserved,
                "expires_in_seconds": match holding.term {
                    HoldingTerm::Left(left) => Some(left.as_secs()),
                    HoldingTerm::Reserved | HoldingTerm::Unknown => None,
                },
                "instance": holding.instance,
            }),
            Err(why) => json!({ "key": row.key, "error": why }),
        })
        .collect();
    println!("{:#}", json!({ "version": 1, "leases": rows }));
}

fn term(term: HoldingTerm) -> String {
    match term {
        HoldingTerm::Reserved => "reserved".into(),
        HoldingTerm::Unknown => "?".into(),
        HoldingTerm::Left(left) => humanize::duration(left),
    }
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
