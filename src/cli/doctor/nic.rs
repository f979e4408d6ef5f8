//! The network card between hosts: what it does for us and what it leaves to the CPU.

use super::finding::Finding;
use super::view::View;
use crate::sys::ethtool::{Switch, is_on};

/// Asks for each switch.
pub(super) fn check(view: &View<'_>) -> Vec<Finding> {
    let Ok(interface) = &view.interface else { return vec![] };
    let name = &interface.name;
    let mut on = Vec::new();
    let mut findings = Vec::new();
    for switch in Switch::ALL {
        match is_on(name, switch) {
            Ok(true) => on.push(switch.name()),
            Ok(false) => findings.push(
                Finding::note(
                    format!("{name} {}", switch.name()),
                    format!("off: {}", cost(switch)),
                )
                .remedy(format!("ethtool -K {name} {} on", switch.name())),
            ),
            Err(error) => findings.push(Finding::note(
                format!("{name} {}", switch.name()),
                format!("not checked: {error}"),
            )),
        }
    }
    if !on.is_empty() {
        findings.insert(0, Finding::ok(name.clone(), format!("on: {}", on.join(", "))));
    }
    findings
}

fn cost(switch: Switch) -> &'static str {
    match switch {
        Switch::RxChecksum => "the CPU verifies the checksum of every datagram",
        Switch::TxChecksum => {
            "the CPU makes the checksums; older kernels then refuse UDP_SEGMENT, and the daemon goes \
             on without gso"
        }
        Switch::ScatterGather => "datagrams are copied once more on their way out",
        Switch::Gso => "trains of datagrams are cut before the queue instead of behind it",
        Switch::Gro => "datagrams arrive one by one: UDP_GRO has nothing to join",
    }
}
