//! The offloads of the network card between hosts: what it does itself and what it leaves to the
//! CPU.

use std::io;

use super::facts::HostFacts;
use super::finding::Finding;
use crate::sys::ethtool::{self, Feature, Switch, is_on};

/// Checks each offload.
pub(super) fn check(facts: &HostFacts<'_>) -> Vec<Finding> {
    let Ok(interface) = &facts.interface else { return vec![] };
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
                .remedy(format!("`ethtool -K {name} {} on`", switch.name())),
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
    findings.extend(segmentation(name, ethtool::feature(name, SEGMENTATION)));
    findings.extend(forwarding(name, ethtool::feature(name, FORWARDING)));
    findings
}

/// Checks UDP segmentation by the card. Few cards have it; for the others the kernel segments.
fn segmentation(name: &str, state: io::Result<Option<Feature>>) -> Option<Finding> {
    let check = format!("{name} {SEGMENTATION}");
    match state {
        Ok(Some(Feature { on: true, .. })) => {
            Some(Finding::ok(check, "on: the card segments trains of datagrams"))
        }
        Ok(Some(Feature { changeable: true, .. })) => Some(
            Finding::note(
                check,
                "off: the kernel segments each train of datagrams just before the driver, which costs \
                 CPU per datagram",
            )
            .remedy(format!("`ethtool -K {name} {SEGMENTATION} on`")),
        ),
        Ok(Some(_)) => Some(Finding::ok(
            check,
            "not available, as with most cards: the kernel segments trains of datagrams just before the \
             driver",
        )),
        // The feature and trains of datagrams (UDP_SEGMENT) both came with Linux 4.18.
        Ok(None) => None,
        Err(error) => Some(Finding::note(check, format!("not checked: {error}"))),
    }
}

/// Checks UDP GRO for forwarded datagrams. The daemon's own socket gets coalesced datagrams without
/// this feature, which concerns datagrams that this host forwards to another host's socket.
fn forwarding(name: &str, state: io::Result<Option<Feature>>) -> Option<Finding> {
    let check = format!("{name} {FORWARDING}");
    match state {
        Ok(Some(Feature { on: true, .. })) => {
            Some(Finding::ok(check, "on: forwarded datagrams are coalesced, too"))
        }
        Ok(Some(_)) => Some(
            Finding::note(
                check,
                "off, the default; the daemon's own datagrams are coalesced without it. Where this host \
                 forwards datagrams to daemons in containers or virtual machines, they arrive one by \
                 one, which costs CPU per datagram",
            )
            .remedy(format!("only on such hosts: `ethtool -K {name} {FORWARDING} on rx-gro-list off`")),
        ),
        // The feature came with Linux 5.12.
        Ok(None) => None,
        Err(error) => Some(Finding::note(check, format!("not checked: {error}"))),
    }
}

fn cost(switch: Switch) -> &'static str {
    match switch {
        Switch::RxChecksum => "the CPU verifies the checksum of every datagram",
        Switch::TxChecksum => {
            "the CPU computes the checksums; older kernels then reject UDP_SEGMENT, and the daemon \
             continues without gso"
        }
        Switch::ScatterGather => "each datagram is copied again before it is sent",
        Switch::Gso => "trains of datagrams are segmented before the queue instead of after it",
        Switch::Gro => "datagrams arrive one by one: UDP_GRO has nothing to coalesce",
    }
}

/// The card segments a long UDP send into datagrams.
const SEGMENTATION: &str = "tx-udp-segmentation";
/// Datagrams that this host forwards are coalesced on arrival.
const FORWARDING: &str = "rx-udp-gro-forwarding";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn missing_offloads_are_ok_and_disabled_ones_get_a_remedy() {
        let state = |on, changeable| Ok(Some(Feature { on, changeable }));
        for (state, level, remedy) in [
            (state(true, true), Level::Ok, None),
            (state(true, false), Level::Ok, None),
            (state(false, false), Level::Ok, None),
            (state(false, true), Level::Note, Some("`ethtool -K eth0 tx-udp-segmentation on`")),
            (Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)), Level::Note, None),
        ] {
            let finding = segmentation("eth0", state).unwrap();
            assert_eq!((finding.level, finding.remedy.as_deref()), (level, remedy), "{finding:?}");
        }
        assert_eq!(segmentation("eth0", Ok(None)), None);
        let off = forwarding("eth0", state(false, true)).unwrap();
        assert_eq!(off.level, Level::Note);
        assert!(off.remedy.unwrap().contains("ethtool -K eth0 rx-udp-gro-forwarding on"));
        assert_eq!(forwarding("eth0", state(true, true)).unwrap().level, Level::Ok);
        assert_eq!(forwarding("eth0", Ok(None)), None);
    }
}
