//! flannel0 as it should be, and the routes that lead into it, or past it.

use super::docker;
use super::facts::HostFacts;
use super::finding::Finding;
use crate::host::link::{self, Overlay};
use crate::host::netlink::Route;

/// Looks at the device, the network's route, and where each peer's subnet really leads.
pub(super) async fn check(facts: &HostFacts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &facts.interface {
        Ok(interface) => findings.push(Finding::ok(
            "interface between hosts",
            format!(
                "{} with {}, MTU {} ({})",
                interface.name, interface.address, interface.mtu, interface.reason
            ),
        )),
        Err(why) => findings.push(
            Finding::fault("interface between hosts", why.clone()).remedy("name it: --iface=NAME"),
        ),
    }
    let Some(tun) = facts.tun() else {
        findings.push(
            Finding::warning("device", "there is no flannel0: the daemon makes it when it starts")
                .remedy("systemctl start flannel-udp; journalctl -u flannel-udp"),
        );
        return findings;
    };
    let name = &tun.name;
    let restart = "the daemon puts it right within a second; if not: systemctl restart flannel-udp";
    if !tun.up {
        findings.push(Finding::fault(name, "it is down").remedy(format!("ip link set {name} up")));
    }
    if let Some(mtu) = facts.mtu().filter(|mtu| *mtu != tun.mtu) {
        let text = format!("its MTU is {}, the interface between hosts bears {mtu}", tun.mtu);
        let remedy = format!("ip link set {name} mtu {mtu}");
        findings.push(match tun.mtu > mtu {
            true => Finding::fault(name, text).remedy(remedy),
            false => Finding::warning(name, text).remedy(remedy),
        });
    }
    if let Some(subnet) = facts.subnet
        && !facts.addresses.iter().any(|a| a.index == tun.index && a.local == subnet.network())
    {
        let text = format!("it has not the address {} of this host's subnet", subnet.network());
        findings.push(Finding::fault(name, text).remedy(restart));
    }
    if findings.len() == 1 {
        findings.push(Finding::ok(name, format!("up, MTU {}", tun.mtu)));
    }
    let (Some(network), Some(subnet)) = (facts.network(), facts.subnet) else { return findings };
    if facts.routes.iter().any(|r| r.destination == network && r.oif == Some(tun.index)) {
        findings.push(Finding::ok("route", format!("{network} leads into {name}")));
    } else {
        let remedy = format!("ip route add {network} dev {name}");
        let text = format!("{network} does not lead into {name}");
        findings.push(Finding::fault("route", text).remedy(remedy));
    }
    let overlay = Overlay {
        index: tun.index,
        name: name.clone(),
        address: subnet.network(),
        subnet,
        network,
        mtu: tun.mtu,
        blackhole: false,
    };
    // The bridge's route goes with its address, which is a finding of its own.
    let (bridge, others) = facts.routes.iter().cloned().partition(|r| docker::explains(facts, r));
    let [bridge, others]: [Vec<Route>; 2] = [bridge, others];
    let conflicts = link::conflicts(&others, &facts.links, &overlay);
    for conflict in &conflicts {
        let text = format!("the route {conflict} takes traffic away from the overlay");
        findings.push(Finding::fault("route", text).remedy(format!("ip route del {conflict}")));
    }
    if conflicts.is_empty() && link::conflicts(&bridge, &facts.links, &overlay).is_empty() {
        findings.extend(policy(facts, tun.index).await);
    }
    findings
}

/// Rules of policy routing may lead packets elsewhere, whatever the main table says.
async fn policy(facts: &HostFacts<'_>, tun: u32) -> Option<Finding> {
    for peer in facts.peers.iter().take(MAX_ROUTE_LOOKUPS) {
        let address = peer.subnet.network();
        let route = facts.netlink.route_to(address).await.ok()?;
        if route.oif != Some(tun) {
            let name = |index| facts.links.iter().find(|l| Some(l.index) == index);
            let elsewhere = name(route.oif).map_or("nowhere", |link| link.name.as_str());
            let text =
                format!("packets to {} go to {elsewhere} by a rule of policy routing", peer.subnet);
            return Some(Finding::fault("route", text).remedy("ip rule; ip route show table all"));
        }
    }
    None
}

/// Peers whose route is asked for.
const MAX_ROUTE_LOOKUPS: usize = 64;
