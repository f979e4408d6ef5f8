//! `doctor` and the path to a peer: each damage is found, and found repaired. `docs/operations.md`
//! quotes the findings.

use std::time::Duration;

use flannel_udp::lab;

use crate::doctor_lab::{HERE, PEER, doctor_lab, examine, sh, with};
use crate::operations::status_row;
use crate::support::exclusive;

#[test]
fn peers_that_cannot_be_reached() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = doctor_lab();
    let peer = lab.host(PEER).address().to_string();
    let only = format!("--peers={peer}");
    let only = [only.as_str()];
    for (harm, level, words, mend) in [
        (
            "iptables -I INPUT -p udp --dport 8285 -j DROP",
            "fault",
            "answers pings, but nothing comes back through the overlay",
            "iptables -F INPUT",
        ),
        (
            "iptables -I INPUT -p udp --dport 8285 -j REJECT --reject-with icmp-admin-prohibited",
            "fault",
            "rejects UDP 8285",
            "iptables -F INPUT",
        ),
        (
            "nft 'add table ip l; add chain ip l i { type filter hook input priority 0; }; \
             add rule ip l i udp dport 8285 numgen inc mod 5 0 drop'",
            "warning",
            "20 % lost",
            "nft delete table ip l",
        ),
        ("ip link set eth0 down", "fault", "does not answer at all", "ip link set eth0 up"),
    ] {
        with(
            &mut lab,
            &only,
            |lab| sh(lab, PEER, harm),
            (level, &peer, words),
            |lab| sh(lab, PEER, mend),
        );
    }
    let switch = format!("{}switch", lab.prefix());
    let check = format!("{peer} ({}) MTU", lab.subnet(PEER));
    // A switch fragments nothing; this kernel's bridge does so where it hands packets to iptables. Otherwise it
    // forwards what exceeds the port's MTU by no more than a VLAN tag, four bytes.
    let plain = "test ! -e /proc/sys/net/bridge || sysctl -qw net.bridge.bridge-nf-call-iptables=0";
    lab::tool::run("ip", &["netns", "exec", &switch, "sh", "-c", plain]).expect("a plain switch");
    with(
        &mut lab,
        &only,
        |_| drop(lab::tool::ip_in(&switch, "link set port2 mtu 1396").expect("a narrow port")),
        ("fault", &check, "packets of up to 1372 bytes come back"),
        |_| drop(lab::tool::ip_in(&switch, "link set port2 mtu 1500").expect("a wide port")),
    );
    let started = lab.host(PEER).daemon().expect("a daemon").options().clone();
    with(
        &mut lab,
        &only,
        |lab| {
            lab.stop_daemon(PEER).expect("a stop");
        },
        ("fault", &peer, "no process listens on UDP 8285"),
        |lab| lab.start_daemon(PEER, started.clone()).expect("a start"),
    );
    // Nothing of it takes longer than it may, even with every peer gone.
    for host in [0, PEER] {
        sh(
            &lab,
            host,
            "iptables -I INPUT -p icmp -j DROP; iptables -I INPUT -p udp --dport 8285 -j DROP",
        );
    }
    let found = examine(&mut lab, &[]);
    assert!(found.took < Duration::from_secs(11), "{:?}", found.took);
    assert_eq!(found.worse_than_note().len(), 2, "{}", found.text);
    // The probes were packets to the peer too.
    status_row(&lab, HERE, "and none were received for");
}
