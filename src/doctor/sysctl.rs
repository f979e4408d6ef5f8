//! Kernel settings under `/proc/sys/net`.

use super::facts::HostFacts;
use super::finding::Finding;
use crate::host::ports::{self, Transport};
use crate::host::sysctl::{self, number};

/// Checks IP forwarding, socket buffer limits, the TUN device's queue, reverse path filtering and the table of
/// tracked connections.
pub(super) fn check(facts: &HostFacts<'_>) -> Vec<Finding> {
    let mut findings = vec![forwarding(facts)];
    findings.extend(buffers(facts));
    findings.extend(queue(facts));
    findings.extend(reverse_path(facts));
    let read = |name: &str| number(&format!("netfilter/nf_conntrack_{name}"));
    findings.extend(read("count").zip(read("max")).map(|(used, size)| connections(used, size)));
    findings
}

/// Judges how full the table of tracked connections is.
fn connections(used: u64, size: u64) -> Finding {
    const CHECK: &str = "nf_conntrack";
    let text = format!("{used} of {size} connections are tracked");
    if size == 0 || used * 10 < size * 9 {
        return Finding::ok(CHECK, text);
    }
    Finding::warning(
        CHECK,
        format!("{text}: when the table is full, the kernel drops the packets of new connections"),
    )
    .remedy(format!(
        "`sysctl -w net.netfilter.nf_conntrack_max={}`; start the daemon with --notrack, which keeps \
         datagrams between hosts out of the table",
        2 * size
    ))
}

fn forwarding(facts: &HostFacts<'_>) -> Finding {
    const CHECK: &str = "ip_forward";
    match number("ipv4/ip_forward") {
        Some(0) => {
            return Finding::fault(
                CHECK,
                "0: this host does not forward packets between its containers and the overlay",
            )
            .remedy("`sysctl -w net.ipv4.ip_forward=1`, and the same in a file in /etc/sysctl.d");
        }
        None => return Finding::note(CHECK, "not checked: it cannot be read"),
        Some(_) => {}
    }
    let bridges = ["docker0", "cni0"];
    let names = facts.links.iter().map(|link| link.name.as_str());
    let relevant = names
        .filter(|name| bridges.contains(name) || facts.tun().is_some_and(|tun| tun.name == *name));
    let shut: Vec<&str> =
        relevant.filter(|name| sysctl::of_interface(name, "forwarding") == Some(0)).collect();
    match shut.first() {
        Some(name) => Finding::fault(CHECK, format!("1, but 0 for {}", shut.join(" and ")))
            .remedy(format!("`{}`", sysctl::set_command(name, "forwarding", 1))),
        None => Finding::ok(CHECK, "1"),
    }
}

/// Limits on socket buffers. With `CAP_NET_ADMIN` the daemon can exceed both (`SO_RCVBUFFORCE`,
/// `SO_SNDBUFFORCE`).
fn buffers(facts: &HostFacts<'_>) -> Vec<Finding> {
    let lost = ports::sockets(Transport::Udp, facts.port()).iter().any(|socket| socket.drops > 0);
    let check = |name: &str, key: &str| {
        let Some(size) = number(key) else {
            return Finding::note(name, "not checked: it cannot be read here (another namespace?)");
        };
        let text = format!("{size} bytes");
        let remedy = format!("`sysctl -w net.core.{name}={WANTED_BUFFER}`");
        match size {
            WANTED_BUFFER.. => Finding::ok(name, text),
            _ if lost && name == "rmem_max" => Finding::warning(
                name,
                format!("{text}, and the socket has overflowed: the daemon requests {WANTED_BUFFER}"),
            )
            .remedy(remedy),
            _ => Finding::note(
                name,
                format!(
                    "{text}: the daemon requests {WANTED_BUFFER}, which it gets only with CAP_NET_ADMIN; \
                     a smaller buffer loses bursts"
                ),
            )
            .remedy(remedy),
        }
    };
    vec![check("rmem_max", "core/rmem_max"), check("wmem_max", "core/wmem_max")]
}

fn queue(facts: &HostFacts<'_>) -> Option<Finding> {
    let tun = facts.tun()?;
    let len = facts.details(tun.index).tx_queue_len;
    let text = format!("{} queues up to {len} packets for the daemon", tun.name);
    Some(match len {
        500.. => Finding::ok("txqueuelen", text),
        _ => Finding::warning("txqueuelen", format!("{text}: bursts of small packets are lost"))
            .remedy(format!("`ip link set {} txqueuelen 1000`", tun.name)),
    })
}

/// Reverse path filtering of the TUN device and of the interface between hosts.
fn reverse_path(facts: &HostFacts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(tun) = facts.tun()
        && let Some(mode) = sysctl::reverse_path_filter(&tun.name)
    {
        let check = format!("rp_filter of {}", tun.name);
        findings.push(match mode {
            1 => Finding::note(
                check,
                "1 (strict): packets whose source is outside the overlay network are dropped on \
                 arrival, such as those of a peer host itself without --ip-masq",
            )
            .remedy(format!("`{}`", sysctl::set_command(&tun.name, "rp_filter", 2))),
            mode => Finding::ok(check, mode.to_string()),
        });
    }
    if let Ok(between) = &facts.interface
        && let Some(mode) = sysctl::reverse_path_filter(&between.name)
    {
        let check = format!("rp_filter of {}", between.name);
        // Strict filtering drops datagrams whose replies would leave through another interface.
        let misrouted = facts.peers.iter().find(|peer| {
            let best = facts
                .routes
                .iter()
                .filter(|route| route.destination.contains(peer.public_ip))
                .max_by_key(|route| (route.destination.len(), std::cmp::Reverse(route.priority)));
            best.is_some_and(|route| route.oif.is_some_and(|oif| oif != between.index))
        });
        findings.push(match (mode, misrouted) {
            (1, Some(peer)) => Finding::fault(
                check,
                format!(
                    "1 (strict), and the route to {} uses another interface: its datagrams \
                     are dropped on arrival",
                    peer.public_ip
                ),
            )
            .remedy(format!("`{}`", sysctl::set_command(&between.name, "rp_filter", 2))),
            (mode, Some(peer)) => Finding::note(
                check,
                format!("{mode}; the route to {} uses another interface", peer.public_ip),
            ),
            (mode, None) => Finding::ok(check, mode.to_string()),
        });
    }
    findings
}

/// Socket buffer that the daemon requests, in bytes (`sys/udp.rs`).
const WANTED_BUFFER: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn a_table_of_connections_that_is_nearly_full_is_named() {
        for (used, size, level) in
            [(0, 0, Level::Ok), (899, 1_000, Level::Ok), (900, 1_000, Level::Warning)]
        {
            assert_eq!(connections(used, size).level, level, "{used} of {size}");
        }
        let remedy = connections(1_000, 1_000).remedy.unwrap();
        assert!(remedy.contains("nf_conntrack_max=2000") && remedy.contains("--notrack"));
    }
}
