//! The containers' side of this host: the interfaces behind which the leased subnet lies.

use crate::host::netlink::{Netlink, NetlinkError};
use crate::route::Cidr;

/// Returns the names of the interfaces with a route to `subnet` or a part of it, such as `docker0`, except those
/// in `others`.
pub(super) async fn interfaces(subnet: Cidr, others: &[&str]) -> Result<Vec<String>, NetlinkError> {
    let netlink = Netlink::connect()?;
    let inside: Vec<u32> = netlink
        .routes()
        .await?
        .into_iter()
        .filter(|route| subnet.covers(route.destination))
        .filter_map(|route| route.oif)
        .collect();
    let links = netlink.links().await?.into_iter();
    let mut names: Vec<String> = links
        .filter(|link| inside.contains(&link.index))
        .map(|link| link.name)
        .filter(|name| is_plain(name) && !others.contains(&name.as_str()))
        .collect();
    names.sort();
    names.truncate(MAX_INTERFACES);
    Ok(names)
}

/// Whether a name stands for itself in a rule: iptables takes a trailing `+` as a wildcard (iptables(8)), and nft
/// `*`.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:@".contains(c))
}

/// Most interfaces that get a rule of their own. Container networks with a bridge have one; others have a route
/// and an interface per container, whose honest packets the rule about sources stops.
const MAX_INTERFACES: usize = 32;
