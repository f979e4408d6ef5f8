//! Whether a daemon runs here, and what the kernel has dropped at its doors.

use super::facts::HostFacts;
use super::finding::Finding;
use super::ports::{self, BoundSocket};

/// Looks at who has the port, and at the counters of socket and device.
pub(super) fn check(facts: &HostFacts<'_>) -> Vec<Finding> {
    let port = facts.port();
    let sockets = ports::sockets(port);
    let mut findings = vec![who(facts, &sockets)];
    let drops: u64 = sockets.iter().map(|socket| socket.drops).sum();
    if !sockets.is_empty() {
        findings.push(match drops {
            0 => Finding::ok("socket overflow", format!("no datagram lost at UDP {port}")),
            _ => Finding::warning(
                "socket overflow",
                format!(
                    "{drops} datagrams came to UDP {port} and were dropped: the daemon was not fast \
                     enough, or its buffer too small"
                ),
            )
            .remedy(
                "sysctl -w net.core.rmem_max=8388608 and restart the daemon; give it CPU: --workers",
            ),
        });
    }
    if let Some(tun) = facts.tun() {
        let dropped = facts.details(tun.index).tx_dropped;
        findings.push(match dropped {
            0 => Finding::ok("device queue", format!("no packet lost on the way into {}", tun.name)),
            _ => Finding::note(
                "device queue",
                format!("{dropped} packets were dropped on their way into {}: bursts longer than its queue, or a daemon that was away", tun.name),
            )
            .remedy(format!("ip link set {} txqueuelen 4000; give the daemon CPU: --workers", tun.name)),
        });
    }
    findings
}

fn who(facts: &HostFacts<'_>, sockets: &[BoundSocket]) -> Finding {
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
    let elsewhere =
        sockets.iter().find(|h| !h.address.is_unspecified() && own.is_some_and(|o| o != h.address));
    match (sockets.is_empty(), processes.is_empty()) {
        (true, _) => Finding::warning(check, "nobody has it: no daemon runs here")
            .remedy("systemctl start flannel-udp; journalctl -u flannel-udp"),
        (_, true) => {
            Finding::note(check, "somebody has it; who cannot be seen").remedy("run as root")
        }
        _ if !processes.iter().any(|(name, _)| is_daemon(name)) => {
            Finding::fault(check, format!("{} has it, which is no flannel daemon", names())).remedy(
                format!("ss -ulnp 'sport = :{port}'; stop it, or set Backend.Port in the config"),
            )
        }
        _ if processes.len() > 1 => {
            Finding::fault(check, format!("{} have it", names())).remedy("stop all but one of them")
        }
        _ if elsewhere.is_some() => {
            let at = elsewhere.map(|socket| socket.address.to_string()).unwrap_or_default();
            let own = own.map(|own| own.to_string()).unwrap_or_default();
            Finding::warning(check, format!("{} has it at {at}, not at {own}", names()))
                .remedy(format!("--iface={own} for the daemon, or --iface={at} for this command"))
        }
        _ => Finding::ok(check, format!("{} has it", names())),
    }
}
