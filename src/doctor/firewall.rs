//! What this host's firewall does to datagrams from peers and to packets of the overlay.

use super::facts::HostFacts;
use super::finding::Finding;
use super::netfilter::{self, FilterVerdict, Hook, TestPacket};
use crate::host::firewall::Toolbox;

/// Follows a datagram from a peer through the INPUT hook, and a container's packet in each
/// direction through the FORWARD hook.
pub(super) async fn check(facts: &HostFacts<'_>) -> Vec<Finding> {
    let tools = Toolbox::from_environment();
    let mut findings = Vec::new();
    findings.extend(input(facts, &tools).await);
    findings.extend(forward(facts, &tools).await);
    findings
}

async fn input(facts: &HostFacts<'_>, tools: &Toolbox) -> Option<Finding> {
    let interface = facts.interface.as_ref().ok()?;
    let port = facts.port();
    let check = format!("UDP {port} from peers");
    // Without a known peer, another address of the same network stands for one.
    let peer = facts.peers.first().map(|peer| peer.public_ip);
    let packet = TestPacket {
        hook: Hook::Input,
        protocol: "udp",
        source: peer
            .unwrap_or_else(|| std::net::Ipv4Addr::from_bits(interface.address.to_bits() ^ 1)),
        destination: interface.address,
        source_port: Some(port),
        destination_port: Some(port),
        input: interface.name.clone(),
        output: None,
    };
    let remedy = format!(
        "iptables -I INPUT -i {} -p udp --dport {port} -j ACCEPT (or delete that rule)",
        interface.name
    );
    Some(finding_of(&check, netfilter::verdict(tools, &packet).await, &remedy))
}

async fn forward(facts: &HostFacts<'_>, tools: &Toolbox) -> Vec<Finding> {
    let (Some(network), Some(subnet)) = (facts.network(), facts.subnet) else { return vec![] };
    let tun = facts.tun().map_or("flannel0", |tun| tun.name.as_str()).to_owned();
    let own = std::net::Ipv4Addr::from_bits(subnet.network().to_bits() + 2);
    // Any address of the overlay network outside this host's subnet.
    let other = facts.peers.first().map_or(network.last(), |peer| peer.subnet.last());
    let bridge = bridge(facts);
    let packet = |inbound: bool| TestPacket {
        hook: Hook::Forward,
        protocol: "tcp",
        source: if inbound { other } else { own },
        destination: if inbound { own } else { other },
        source_port: None,
        destination_port: None,
        input: if inbound { tun.clone() } else { bridge.clone() },
        output: Some(if inbound { bridge.clone() } else { tun.clone() }),
    };
    let mut findings = Vec::new();
    for (check, inbound, flag) in
        [("FORWARD to containers", true, "-d"), ("FORWARD from containers", false, "-s")]
    {
        let remedy = format!(
            "the daemon's --iptables-forward-rules=true (its default) accepts the overlay's packets; \
             by hand: iptables -I FORWARD {flag} {network} -j ACCEPT"
        );
        findings.push(finding_of(
            check,
            netfilter::verdict(tools, &packet(inbound)).await,
            &remedy,
        ));
    }
    findings
}

/// The containers' bridge: the interface with an address in this host's subnet.
fn bridge(facts: &HostFacts<'_>) -> String {
    let inside = |ip| facts.subnet.is_some_and(|s| s.contains(ip) && ip != s.network());
    let index = facts.addresses.iter().find(|a| inside(a.local)).map(|a| a.index);
    let link = facts.links.iter().find(|link| Some(link.index) == index);
    link.map_or("docker0", |link| link.name.as_str()).to_owned()
}

fn finding_of<E: std::fmt::Display>(
    check: &str,
    verdict: Result<Option<FilterVerdict>, E>,
    remedy: &str,
) -> Finding {
    match verdict {
        Ok(None) => Finding::ok(check, "neither iptables nor nft is installed"),
        Ok(Some(FilterVerdict::Accept)) => Finding::ok(check, "no rule drops it"),
        Ok(Some(FilterVerdict::Drop(by))) => {
            Finding::fault(check, format!("dropped by {by}")).remedy(remedy)
        }
        Ok(Some(FilterVerdict::Unclear(by))) => Finding::note(
            check,
            format!("possibly dropped by {by}, which has conditions that doctor cannot evaluate"),
        )
        .remedy(format!("inspect that rule; if it drops the packet: {remedy}")),
        Err(error) => Finding::note(check, format!("not checked: {error}")).remedy("run as root"),
    }
}
