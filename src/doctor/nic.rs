//! The network card between hosts: what it does for us and what it leaves to the CPU.

use std::io;

use super::facts::HostFacts;
use super::finding::Finding;
use crate::sys::ethtool::{self, Feature, Switch, is_on};

/// Asks for each switch.
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
    findings.extend(segmentation(name, ethtool::feature(name, SEGMENTATION)));
    findings.extend(forwarding(name, ethtool::feature(name, FORWARDING)));
    findings
}

/// Few cards have it, and none needs it: the kernel cuts in their stead.
fn segmentation(name: &str, state: io::Result<Option<Feature>>) -> Option<Finding> {
    let check = format!("{name} {SEGMENTATION}");
    match state {
        Ok(Some(Feature { on: true, .. })) => {
            Some(Finding::ok(check, "on: trains of datagrams are cut behind the kernel"))
        }
        Ok(Some(Feature { changeable: true, .. })) => Some(
            Finding::note(
                check,
                "off: the kernel cuts each train of datagrams just before the driver, which costs CPU \
                 a datagram",
            )
            .remedy(format!("ethtool -K {name} {SEGMENTATION} on")),
        ),
        Ok(Some(_)) => Some(Finding::ok(
            check,
            "not there, as with most cards: the kernel cuts trains of datagrams just before the driver",
        )),
        // Before Linux 4.18 there is none, and no train either.
        Ok(None) => None,
        Err(error) => Some(Finding::note(check, format!("not checked: {error}"))),
    }
}

/// The daemon's own socket asks for joined datagrams and gets them without it; it is for those that
/// pass through this host to another one's socket.
fn forwarding(name: &str, state: io::Result<Option<Feature>>) -> Option<Finding> {
    let check = format!("{name} {FORWARDING}");
    match state {
        Ok(Some(Feature { on: true, .. })) => {
            Some(Finding::ok(check, "on: datagrams for others are joined on their way through, too"))
        }
        Ok(Some(_)) => Some(
            Finding::note(
                check,
                "off, as is usual; the daemon's own datagrams are joined without it. Where this host \
                 passes datagrams on to daemons in containers or virtual machines, these come one by \
                 one, which costs CPU a datagram",
            )
            .remedy(format!("only for such: ethtool -K {name} {FORWARDING} on rx-gro-list off")),
        ),
        // Linux 5.12 has it.
        Ok(None) => None,
        Err(error) => Some(Finding::note(check, format!("not checked: {error}"))),
    }
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

/// The card cuts a long UDP send into datagrams.
const SEGMENTATION: &str = "tx-udp-segmentation";
/// Datagrams for no socket of this host are joined on arrival.
const FORWARDING: &str = "rx-udp-gro-forwarding";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn a_card_without_is_as_it_should_be_and_one_that_could_is_told_how() {
        let state = |on, changeable| Ok(Some(Feature { on, changeable }));
        for (state, level, remedy) in [
            (state(true, true), Level::Ok, None),
            (state(true, false), Level::Ok, None),
            (state(false, false), Level::Ok, None),
            (state(false, true), Level::Note, Some("ethtool -K eth0 tx-udp-segmentation on")),
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
