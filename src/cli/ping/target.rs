//! Which host and address `ping` is to reach.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::names::Names;
use crate::observe::protocol::snapshot::{Peer, Snapshot};
use crate::route::Cidr;

/// What the probes are sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    /// The host's underlay address.
    pub(super) host: Ipv4Addr,
    /// Its subnet, whose network address its flannel0 has.
    pub(super) subnet: Cidr,
    /// The address that was asked for, if it is another one in the subnet.
    pub(super) container: Option<Ipv4Addr>,
}

/// Finds the peer that `text` names: by its underlay address, its subnet, any address in it, or a host name.
///
/// # Errors
/// A sentence for the user.
pub(super) async fn find(text: &str, now: &Snapshot) -> Result<Target, String> {
    if let Ok(address) = text.parse() {
        return by_address(address, now);
    }
    if text.contains('/') {
        let prefix: Cidr =
            text.parse().map_err(|_| format!("{text} is not a prefix such as 10.0.7.0/24"))?;
        if now.lease.as_ref().is_some_and(|lease| lease.subnet == prefix) {
            return Err(format!("{prefix} is this host's own subnet"));
        }
        let peer = now.peers.iter().find(|peer| peer.subnet == prefix);
        return peer.map(|peer| Target::new(peer, None)).ok_or_else(|| {
            format!("no other host holds the subnet {prefix}: `flannel-udp peers` lists those that are held")
        });
    }
    let addresses = Names::default().resolve(text, 0, LOOKUP_TIMEOUT).await;
    let addresses = addresses.map_err(|error| error.to_string())?;
    let mut outcome = Err(format!("the name {text} has no IPv4 address"));
    for address in addresses {
        if let IpAddr::V4(address) = address.ip() {
            outcome = by_address(address, now).map_err(|error| format!("{text}: {error}"));
            if outcome.is_ok() {
                break;
            }
        }
    }
    outcome
}

fn by_address(address: Ipv4Addr, now: &Snapshot) -> Result<Target, String> {
    if let Some(peer) = now.peers.iter().find(|peer| peer.public_ip == address) {
        return Ok(Target::new(peer, None));
    }
    if let Some(peer) = now.peers.iter().find(|peer| peer.subnet.contains(address)) {
        return Ok(Target::new(peer, (address != peer.subnet.network()).then_some(address)));
    }
    let in_subnet = now.lease.as_ref().is_some_and(|lease| lease.subnet.contains(address));
    let is_own = now.underlay.as_ref().is_some_and(|u| [u.address, u.public_ip].contains(&address));
    if in_subnet || is_own {
        return Err(format!("{address} is on this host: the overlay does not carry packets to it"));
    }
    let in_network = now.overlay.as_ref().is_some_and(|o| o.network.contains(address));
    Err(if in_network {
        format!("no host holds a lease for {address}: `flannel-udp peers` lists the hosts")
    } else {
        format!(
            "{address} is neither a host of the overlay nor an address in it: `flannel-udp peers` lists the hosts"
        )
    })
}

impl Target {
    fn new(peer: &Peer, container: Option<Ipv4Addr>) -> Self {
        Self { host: peer.public_ip, subnet: peer.subnet, container }
    }
}

/// Longest wait for a name server: one of two may be silent for five seconds (`resolv.conf(5)`).
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::protocol::snapshot::{Lease, Overlay, Underlay};

    fn snapshot() -> Snapshot {
        serde_json::from_value(serde_json::json!({
            "peers": [{
                "subnet": "10.0.8.0/24", "public_ip": "127.0.0.1", "next_hop": null, "key": "",
                "reservation": false,
            }],
        }))
        .map(|now: Snapshot| Snapshot {
            lease: Some(Lease {
                subnet: "10.0.7.0/24".parse().unwrap(),
                held: true,
                expires: None,
                renewals: 0,
            }),
            underlay: Some(Underlay {
                interface: "eth0".into(),
                index: 2,
                address: [192, 0, 2, 1].into(),
                public_ip: [192, 0, 2, 1].into(),
                port: 8285,
                mtu: 1500,
                reason: String::new(),
            }),
            overlay: Some(Overlay {
                device: "flannel0".into(),
                address: [10, 0, 7, 0].into(),
                network: "10.0.0.0/16".parse().unwrap(),
                mtu: 1472,
                carrying: true,
                source_check: "off".into(),
                destination_check: "off".into(),
                masquerade: false,
            }),
            ..now
        })
        .unwrap()
    }

    #[tokio::test]
    async fn a_peer_is_found_by_each_of_its_names() {
        let now = snapshot();
        let peer = Target {
            host: Ipv4Addr::LOCALHOST,
            subnet: "10.0.8.0/24".parse().unwrap(),
            container: None,
        };
        for text in ["127.0.0.1", "10.0.8.0/24", "10.0.8.0", "localhost"] {
            assert_eq!(find(text, &now).await, Ok(peer), "{text}");
        }
        let container = Some([10, 0, 8, 5].into());
        assert_eq!(find("10.0.8.5", &now).await, Ok(Target { container, ..peer }));
        for (text, words) in [
            ("192.0.2.1", "is on this host"),
            ("10.0.7.3", "is on this host"),
            ("10.0.7.0/24", "own subnet"),
            ("10.0.9.0/24", "no other host holds"),
            ("10.0.9.1", "no host holds a lease"),
            ("192.0.2.77", "neither a host"),
            ("10.0.8.0/99", "not a prefix"),
        ] {
            let error = find(text, &now).await.unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
