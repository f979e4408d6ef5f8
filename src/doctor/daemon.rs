//! Whether a daemon runs here, and what the kernel has dropped at its doors.

use super::finding::Finding;
use super::ports::{self, Holder};
use super::view::View;

/// Looks at who has the port, and at the counters of socket and device.
pub(super) fn check(view: &View<'_>) -> Vec<Finding> {
    let port = view.port();
    let holders = ports::holders(port);
    let mut findings = vec![who(view, &holders)];
    let drops: u64 = holders.iter().map(|holder| holder.drops).sum();
    if !holders.is_empty() {
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
    if let Some(tun) = view.tun() {
        let dropped = view.details(tun.index).tx_dropped;
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

fn who(view: &View<'_>, holders: &[Holder]) -> Finding {
    let port = view.port();
    let check = format!("UDP {port}");
    let mut processes: Vec<_> = holders.iter().filter_map(|h| h.process.clone()).collect();
    processes.sort();
    processes.dedup();
    let is_daemon = |name: &str| name.starts_with("flannel");
    let names = || {
        let named = processes.iter().map(|(name, pid)| format!("{name} (pid {pid})"));
        named.collect::<Vec<_>>().join(", ")
    };
    let own = view.interface.as_ref().ok().map(|interface| interface.address);
    let elsewhere =
        holders.iter().find(|h| !h.address.is_unspecified() && own.is_some_and(|o| o != h.address));
    match (holders.is_empty(), processes.is_empty()) {
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
            let at = elsewhere.map(|holder| holder.address.to_string()).unwrap_or_default();
            let own = own.map(|own| own.to_string()).unwrap_or_default();
            Finding::warning(check, format!("{} has it at {at}, not at {own}", names()))
                .remedy(format!("--iface={own} for the daemon, or --iface={at} for this command"))
        }
        _ => Finding::ok(check, format!("{} has it", names())),
    }
}
