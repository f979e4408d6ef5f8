//! Keeps the overlay off the addresses of the network that carries it: what the daemon waits for at its start,
//! and what it warns of while it runs.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::sleep;

use super::liveness::Liveness;
use super::{Options, interface_options};
use crate::exit::{Code, Exit};
use crate::host::interface::{self, ExternalInterface};
use crate::host::netlink::NetlinkError;
use crate::host::outer::{self, Dependency, OuterNetwork, Overlay};
use crate::humanize;
use crate::observe::warnings::{Condition, WarningKind, Warnings};
use crate::route::{Cidr, Withheld};
use crate::subnet::{
    ConfigError, LeaseKey, LeaseStore, LeaseValue, Manager, NetworkConfig, SubnetStatus,
    WithheldLease,
};

/// What the start of the daemon has chosen so far.
pub(super) struct Chosen {
    pub(super) interface: ExternalInterface,
    pub(super) config: NetworkConfig,
}

/// Waits until the overlay's route would hide nothing that this host depends on, and until no subnet
/// of the overlay holds the address of this host. Config and interface are read again while it
/// waits, since another of either may be the remedy. `previous` is the subnet that this host had.
///
/// # Errors
/// The kernel refuses a request, or the config is one with which flannel exits at once.
pub(super) async fn wait_while_overlapping(
    mut chosen: Chosen,
    options: &Options,
    previous: Option<Cidr>,
    outer: &OuterNetwork,
    store: &dyn LeaseStore,
    manager: &Manager,
    liveness: &mut Liveness,
) -> Result<Chosen, Exit> {
    let warnings = liveness.health().warnings();
    loop {
        let hidden = hidden(outer, &chosen.config, previous).await.map_err(kernel_exit)?;
        warnings.set(WarningKind::HiddenNetwork, collision(chosen.config.network, &hidden));
        let refused = refused(&chosen, previous, store).await;
        warnings.set(WarningKind::OwnAddress, refused.into_iter().collect());
        let kinds = [WarningKind::HiddenNetwork, WarningKind::OwnAddress].map(WarningKind::name);
        let wrong = warnings.all().into_iter().find(|wrong| kinds.contains(&&*wrong.kind));
        let Some(wrong) = wrong else { return Ok(chosen) };
        liveness.set_waiting(&wrong.sentence());
        sleep(INTERVAL).await;
        chosen.config = manager.wait_for_config().await.map_err(config_exit)?;
        // An interface that is gone for the moment is chosen again once it is back.
        if let Ok(interface) = interface::choose(&interface_options(options)).await {
            chosen.interface = interface;
        }
    }
}

async fn hidden(
    outer: &OuterNetwork,
    config: &NetworkConfig,
    previous: Option<Cidr>,
) -> Result<Vec<Dependency>, NetlinkError> {
    let subnet = previous.filter(|previous| config.may_lease(*previous));
    let overlay = Overlay { network: config.network, subnet, device: None };
    let routing = outer.routing().await?;
    Ok(outer.collisions(&overlay, &routing).await)
}

/// Why this host may not be announced with its address.
async fn refused(
    Chosen { interface, config }: &Chosen,
    previous: Option<Cidr>,
    store: &dyn LeaseStore,
) -> Option<Condition> {
    let ours = [interface.address, interface.public_ip];
    if !ours.iter().any(|address| config.network.contains(*address)) {
        return None;
    }
    // Without an answer of the store nothing is known; the acquisition of the lease waits for one.
    let records = store.list().await.map(|snapshot| snapshot.records).unwrap_or_default();
    let mut own = previous.filter(|previous| config.network.covers(*previous));
    let mut leased = Vec::new();
    for record in records {
        let Ok(LeaseKey { subnet, .. }) = record.name.parse() else { continue };
        match LeaseValue::decode(&record.value) {
            Ok(value) if value.public_ip == interface.public_ip => own = Some(subnet),
            Ok(_) if config.network.covers(subnet) => leased.push(subnet),
            _ => {}
        }
    }
    own_address(ours, own, &leased)
}

fn own_address(ours: [Ipv4Addr; 2], own: Option<Cidr>, leased: &[Cidr]) -> Option<Condition> {
    let text = ours.into_iter().find_map(|address| outer::refusal(address, own, leased))?;
    let remedy = "choose another address with --iface or --public-ip, or another Network";
    Some(Condition { text, remedy: Some(remedy.into()) })
}

/// The warning about what the overlay's route would hide.
pub(super) fn collision(network: Cidr, hidden: &[Dependency]) -> Vec<Condition> {
    if hidden.is_empty() {
        return Vec::new();
    }
    let text = outer::analysis::sentence(network, hidden);
    let remedy = "choose a Network that is used nowhere else, and write it to the network config";
    vec![Condition { text, remedy: Some(remedy.into()) }]
}

/// Warns of leases that are withheld, and of an address of this host in a subnet of the overlay.
pub(super) fn warn(
    warnings: &Warnings,
    status: &SubnetStatus,
    network: Cidr,
    ours: [Ipv4Addr; 2],
    device: &str,
) {
    let mut withheld: Vec<_> = status
        .withheld
        .iter()
        .take(MAX_NAMED)
        .map(|lease| Condition {
            text: withheld_text(lease, device),
            remedy: Some(format!(
                "correct --iface or --public-ip on that host, or choose a Network that does not contain its \
                 address; if no daemon holds this lease any more: `flannel-udp leases release --force {}`",
                lease.subnet
            )),
        })
        .collect();
    if let Some(more) = status.withheld.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
        let leases = humanize::agree(more as u64, "lease is", "leases are");
        withheld.push(Condition { text: format!("{more} more {leases} withheld"), remedy: None });
    }
    warnings.set(WarningKind::WithheldLease, withheld);
    let inside = ours.iter().any(|address| network.contains(*address));
    let leased: Vec<_> =
        if inside { status.peers.iter().map(|peer| peer.subnet).collect() } else { Vec::new() };
    let own = own_address(ours, Some(status.lease), &leased);
    warnings.set(WarningKind::OwnAddress, own.into_iter().collect());
}

/// Why the most specific of these leases that contains `address` has no route, in one sentence.
pub(super) fn withheld(
    leases: &[WithheldLease],
    address: Ipv4Addr,
    device: &str,
) -> Option<String> {
    let leases = leases.iter().filter(|lease| lease.subnet.contains(address));
    leases.max_by_key(|lease| lease.subnet.len()).map(|lease| withheld_text(lease, device))
}

fn withheld_text(lease: &WithheldLease, device: &str) -> String {
    let WithheldLease { subnet, public_ip, why } = lease;
    let why = match why {
        Withheld::OwnAddress => {
            format!("its next hop {public_ip} is an address of this host itself")
        }
        Withheld::Undecided | Withheld::IntoOverlay => format!(
            "this host's kernel sends datagrams for its next hop {public_ip} into {device}, where \
             they would loop forever"
        ),
    };
    format!("the lease of {subnet} is withheld: {why}")
}

fn kernel_exit(error: NetlinkError) -> Exit {
    Exit::new(Code::System, error.to_string())
}

pub(super) fn config_exit(error: ConfigError) -> Exit {
    Exit::new(Code::BadData, format!("the network config: {error}"))
}

/// Time between two looks at what the daemon waits for.
const INTERVAL: Duration = Duration::from_secs(1);

/// Most leases that the warnings name.
const MAX_NAMED: usize = 20;
