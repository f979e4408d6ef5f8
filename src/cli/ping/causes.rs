//! The likely cause of what `ping` has seen.

use std::net::Ipv4Addr;

use super::target::Target;
use super::{Path, PathAnswers};
use crate::observe::protocol::snapshot::Snapshot;
use crate::observe::warnings::send_refused;
use crate::packet::wire::OVERHEAD;
use crate::probe::silence::{Cause, SilentPeer};

/// The likely cause; `None` if everything answers in full length. `before` is the state before the first request.
pub(super) fn likely(
    before: &Snapshot,
    now: &Snapshot,
    target: &Target,
    silent: &SilentPeer<'_>,
    paths: &[PathAnswers],
) -> Option<Cause> {
    let of = |path: Path| paths.iter().find(|answers| answers.path == path);
    let (overlay, underlay) = (of(Path::Overlay)?, of(Path::Underlay)?);
    let host = target.host;
    if !overlay.answers() {
        if !now.overlay.as_ref().is_some_and(|overlay| overlay.carrying) {
            let missing = now.health.missing.as_deref().unwrap_or("its TUN device is missing");
            let text = format!("the daemon on this host carries no packets: {missing}");
            return Some(Cause::new(text, "`flannel-udp status`; `flannel-udp doctor`"));
        }
        // The warning outlasts a rule that is gone.
        if now.is_send_refused(host) && unsent(now, host) > unsent(before, host) {
            return Some(Cause::new(send_refused(host), "`flannel-udp doctor` names the rule"));
        }
        let reported = silent.reported(overlay.outcomes.first());
        return Some(reported.unwrap_or_else(|| silent.unreported(underlay.answers())));
    }
    if let Some(container) = of(Path::Container).filter(|answers| !answers.answers()) {
        let address = container.address;
        let text = format!(
            "the overlay reaches {host}, but {address} does not answer: no container has the address, or the \
             FORWARD chain there drops the packets"
        );
        return Some(Cause::new(text, format!("on {host}: `flannel-udp doctor`")));
    }
    if let Some(measured) = overlay.mtu.filter(|measured| measured.both() < measured.full) {
        let (most, mtu) = (measured.both(), measured.both() + OVERHEAD);
        let text = format!(
            "packets of more than {most} bytes are lost: a link on the path carries at most {mtu} bytes, and \
             nothing reports this to the sender"
        );
        let name = now.underlay.as_ref().map_or("eth0", |underlay| underlay.interface.as_str());
        let remedy = format!(
            "raise the MTU of that link, or lower the interface's MTU on every host: `ip link set {name} mtu {mtu}`"
        );
        return Some(Cause::new(text, remedy));
    }
    if let Some(longest) = fragments_of(now, target) {
        let text = format!(
            "datagrams from {host} arrive in fragments of up to {longest} bytes: a link on the path is narrower \
             than the hosts' interfaces"
        );
        return Some(Cause::new(text, "`flannel-udp status` shows the remedy"));
    }
    if !underlay.answers() {
        let text = format!(
            "the overlay works, but {host} does not answer pings of its underlay address: ICMP is filtered there \
             or on the path, which does not affect the overlay"
        );
        return Some(Cause::new(text, "none needed for the overlay"));
    }
    (overlay.loss() > 0.0).then(|| {
        let text = if underlay.loss() < overlay.loss() {
            format!(
                "more packets are lost in the overlay than on the underlay: a firewall or a full queue drops UDP {}",
                silent.port
            )
        } else {
            "packets are lost on the underlay".to_owned()
        };
        Cause::new(text, "compare the drops of both daemons: `flannel-udp status`")
    })
}

/// Number of packets to the host that this kernel did not send.
fn unsent(now: &Snapshot, host: Ipv4Addr) -> u64 {
    let traffic = now.traffic.iter().find(|traffic| traffic.address == host);
    traffic.map_or(0, |traffic| traffic.unsent_packets)
}

/// Length in bytes of the longest fragment that the peer's datagrams have come in of late.
pub(super) fn fragments_of(now: &Snapshot, target: &Target) -> Option<u16> {
    now.traffic.iter().find(|traffic| traffic.address == target.host)?.fragments_of
}
