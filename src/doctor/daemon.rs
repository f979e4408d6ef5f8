//! Whether a daemon is running here, and what the kernel dropped before the daemon could read it.

use super::facts::HostFacts;
use super::finding::Finding;
use crate::host::ports::{self, BoundSocket, Transport};
use crate::humanize;

/// Checks which process uses the UDP port, and the drop counters of its socket and of the device.
pub(super) fn check(facts: &HostFacts<'_>) -> Vec<Finding> {
    let port = facts.port();
    let sockets = ports::sockets(Transport::Udp, port);
    let mut findings = vec![port_user(facts, &sockets)];
    let drops: u64 = sockets.iter().map(|socket| socket.drops).sum();
    if !sockets.is_empty() {
        findings.push(match drops {
            0 => Finding::ok("socket overflow", format!("no datagram to UDP {port} was dropped")),
            _ => Finding::warning(
                "socket overflow",
                format!(
                    "{} to UDP {port} {} dropped: the daemon was not fast enough, or its socket buffer was \
                     too small",
                    humanize::counted(drops, "datagram"),
                    humanize::agree(drops, "was", "were")
                ),
            )
            .remedy(
                "`sysctl -w net.core.rmem_max=8388608`, then restart the daemon; give it more CPU: \
                 --workers",
            ),
        });
    }
    if let Some(tun) = facts.tun() {
        let dropped = facts.details(tun.index).tx_dropped;
        findings.push(match dropped {
            0 => Finding::ok("device queue", format!("no packet was dropped at {}", tun.name)),
            _ => Finding::note(
                "device queue",
                format!(
                    "{} {} dropped at {}: bursts exceeded its queue, or no daemon was reading",
                    humanize::counted(dropped, "packet"),
                    humanize::agree(dropped, "was", "were"),
                    tun.name
                ),
            )
            .remedy(format!(
                "`ip link set {} txqueuelen 4000`; give the daemon more CPU: --workers",
                tun.name
            )),
        });
    }
    findings
}

fn port_user(facts: &HostFacts<'_>, sockets: &[BoundSocket]) -> Finding {
    let port = facts.port();
    let check = format!("UDP {port}");
    let mut processes: Vec<_> = sockets.iter().filter_map(|h| h.process.clone()).collect();
    processes.sort();
    processes.dedup();
    let is_daemon = |name: &str| name.starts_with("flannel");
    let names = || {
        let named = processes.iter().map(|(name, pid)| format!("{name} (pid {pid})"));
        named.collect::<Vec<_>>().join(", ")
    };
    let own = facts.interface.as_ref().ok().map(|interface| interface.address);
    let elsewhere = sockets
        .iter()
        .find(|h| !h.address.is_unspecified() && own.is_some_and(|own| h.address != own));
    match (sockets.is_empty(), processes.is_empty()) {
        (true, _) => Finding::warning(check, "no process is using it: no daemon is running here")
            .remedy("`systemctl start flannel-udp`; `journalctl -u flannel-udp`"),
        (_, true) => Finding::note(check, "in use, but the process cannot be identified")
            .remedy("run as root"),
        _ if !processes.iter().any(|(name, _)| is_daemon(name)) => {
            Finding::fault(check, format!("used by {}, which is not a flannel daemon", names()))
                .remedy(format!(
                    "`ss -ulnp 'sport = :{port}'`; stop it, or set Backend.Port in the config"
                ))
        }
        _ if processes.len() > 1 => {
            Finding::fault(check, format!("used by {}", names())).remedy("stop all but one of them")
        }
        _ if elsewhere.is_some() => {
            let at = elsewhere.map(|socket| socket.address.to_string()).unwrap_or_default();
            let own = own.map(|own| own.to_string()).unwrap_or_default();
            Finding::warning(check, format!("used by {} at {at}, not at {own}", names()))
                .remedy(format!("--iface={own} for the daemon, or --iface={at} for this command"))
        }
        _ => Finding::ok(check, format!("used by {}", names())),
    }
}
