//! What the host's firewall does to the datagrams between hosts and to the packets inside.

use super::finding::Finding;
use super::netfilter::{self, Fate, Hook, Packet};
use super::view::View;
use crate::host::firewall::Toolbox;

/// Follows a datagram from a peer, and a container's packet each way.
pub(super) async fn check(view: &View<'_>) -> Vec<Finding> {
    let tools = Toolbox::from_environment();
    let mut findings = Vec::new();
    findings.extend(input(view, &tools).await);
    findings.extend(forward(view, &tools).await);
    findings
}

async fn input(view: &View<'_>, tools: &Toolbox) -> Option<Finding> {
    let interface = view.interface.as_ref().ok()?;
    let port = view.port();
    let check = format!("UDP {port} from peers");
    // Without a peer, some other host of the link.
    let peer = view.peers.first().map(|peer| peer.public_ip);
    let packet = Packet {
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
        "iptables -I INPUT -i {} -p udp --dport {port} -j ACCEPT (or take that rule away)",
        interface.name
    );
    Some(tell(&check, netfilter::fate(tools, &packet).await, &remedy))
}

async fn forward(view: &View<'_>, tools: &Toolbox) -> Vec<Finding> {
    let (Some(network), Some(subnet)) = (view.network(), view.subnet) else { return vec![] };
    let tun = view.tun().map_or("flannel0", |tun| tun.name.as_str()).to_owned();
    let own = std::net::Ipv4Addr::from_bits(subnet.network().to_bits() + 2);
    // Any address of the network that is not ours.
    let other = view.peers.first().map_or(network.last(), |peer| peer.subnet.last());
    let bridge = bridge(view);
    let packet = |inwards: bool| Packet {
        hook: Hook::Forward,
        protocol: "tcp",
        source: if inwards { other } else { own },
        destination: if inwards { own } else { other },
        source_port: None,
        destination_port: None,
        input: if inwards { tun.clone() } else { bridge.clone() },
        output: Some(if inwards { bridge.clone() } else { tun.clone() }),
    };
    let mut findings = Vec::new();
    for (check, inwards, flag) in
        [("FORWARD to containers", true, "-d"), ("FORWARD from containers", false, "-s")]
    {
        let remedy = format!(
            "the daemon's --iptables-forward-rules=true (its default) accepts the overlay's packets; \
             by hand: iptables -I FORWARD {flag} {network} -j ACCEPT"
        );
        findings.push(tell(check, netfilter::fate(tools, &packet(inwards)).await, &remedy));
    }
    findings
}

/// The containers' bridge: the interface that has our subnet.
fn bridge(view: &View<'_>) -> String {
    let inside = |ip| view.subnet.is_some_and(|s| s.contains(ip) && ip != s.network());
    let index = view.addresses.iter().find(|a| inside(a.local)).map(|a| a.index);
    let link = view.links.iter().find(|link| Some(link.index) == index);
    link.map_or("docker0", |link| link.name.as_str()).to_owned()
}

fn tell<E: std::fmt::Display>(check: &str, fate: Result<Option<Fate>, E>, remedy: &str) -> Finding {
    match fate {
        Ok(None) => Finding::ok(check, "neither iptables nor nft is installed; nothing to ask"),
        Ok(Some(Fate::Accepted)) => Finding::ok(check, "no rule drops it"),
        Ok(Some(Fate::Dropped(by))) => {
            Finding::fault(check, format!("{by} drops it")).remedy(remedy)
        }
        Ok(Some(Fate::Doubtful(by))) => Finding::note(
            check,
            format!("{by} may drop it: it has conditions that are not understood here"),
        )
        .remedy(format!("look at that rule; if it does: {remedy}")),
        Err(error) => Finding::note(check, format!("not checked: {error}")).remedy("run as root"),
    }
}
