//! The TUN device, and the routes that lead overlay traffic into it or past it.

use super::docker;
use super::facts::HostFacts;
use super::finding::Finding;
use super::routing;
use crate::host::conflicts;
use crate::host::link::OverlayDevice;
use crate::host::netlink::KernelRoute;
use crate::observe::warnings::WarningKind;

/// Checks the device, the route of the overlay network, and where the kernel sends packets for each
/// peer's subnet.
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
            Finding::warning(
                "device",
                "there is no flannel0: the daemon creates it when it starts",
            )
            .remedy("`systemctl start flannel-udp`; `journalctl -u flannel-udp`"),
        );
        return findings;
    };
    let name = &tun.name;
    let restart = "the daemon repairs it within a second; if not: `systemctl restart flannel-udp`";
    if !tun.up {
        findings
            .push(Finding::fault(name, "it is down").remedy(format!("`ip link set {name} up`")));
    }
    if let Some(mtu) = facts.mtu().filter(|mtu| *mtu != tun.mtu) {
        let text =
            format!("its MTU is {}, the interface between hosts carries at most {mtu}", tun.mtu);
        let remedy = format!("`ip link set {name} mtu {mtu}`");
        let finding =
            if tun.mtu > mtu { Finding::fault(name, text) } else { Finding::warning(name, text) };
        findings.push(finding.remedy(remedy));
    }
    if let Some(subnet) = facts.subnet
        && !facts.addresses.iter().any(|a| a.index == tun.index && a.local == subnet.network())
    {
        let text =
            format!("it does not have the address {} of this host's subnet", subnet.network());
        findings.push(Finding::fault(name, text).remedy(restart));
    }
    if findings.len() == 1 {
        findings.push(Finding::ok(name, format!("up, MTU {}", tun.mtu)));
    }
    let (Some(network), Some(subnet)) = (facts.network(), facts.subnet) else { return findings };
    if facts.routes.iter().any(|r| r.destination == network && r.oif == Some(tun.index)) {
        findings.push(Finding::ok("route", format!("{network} is routed to {name}")));
    } else {
        let finding = Finding::fault("route", format!("{network} is not routed to {name}"));
        // The daemon leaves out a route that would cut this host off, and has a warning that says so.
        let hidden = WarningKind::HiddenNetwork.name();
        let left_out = facts
            .status
            .as_ref()
            .is_ok_and(|now| now.warnings.iter().any(|warning| warning.kind == hidden));
        findings.push(if left_out {
            finding
        } else {
            finding.remedy(format!("`ip route add {network} dev {name}`"))
        });
    }
    let overlay = OverlayDevice {
        index: tun.index,
        name: name.clone(),
        address: subnet.network(),
        subnet,
        network,
        mtu: tun.mtu,
        blackhole: false,
    };
    // A route that exists only because of the bridge's wrong address disappears with that address,
    // which docker::check reports.
    let (bridge, others) = facts.routes.iter().cloned().partition(|r| docker::explains(facts, r));
    let [bridge, others]: [Vec<KernelRoute>; 2] = [bridge, others];
    let conflicts = conflicts::conflicts(&others, &facts.links, &overlay);
    let underlay = facts.interface.as_ref().ok();
    let faults = conflicts.iter().filter(|conflict| {
        // A part of the overlay network that is this host's own network is no fault unless it is
        // leased.
        let is_own = underlay.is_some_and(|underlay| conflict.is_network_of(underlay.address));
        !is_own || facts.peers.iter().any(|peer| peer.subnet.overlaps(conflict.destination))
    });
    let before = findings.len();
    for conflict in faults {
        let text = format!("the route {conflict} diverts traffic from the overlay");
        let index = underlay.map_or(0, |underlay| underlay.index);
        let command = conflict.removal(index).map(|command| format!("`{command}`"));
        let remedy = command.unwrap_or_else(|| conflict.advice(index));
        findings.push(Finding::fault("route", text).remedy(remedy));
    }
    if findings.len() == before && conflicts::conflicts(&bridge, &facts.links, &overlay).is_empty()
    {
        findings.extend(routing::check(facts, tun).await);
    }
    findings
}
