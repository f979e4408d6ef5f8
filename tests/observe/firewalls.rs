//! Firewalls of the host itself: each is found, with its table and chain, and the command that is printed mends
//! it. `docs/operations.md` quotes the findings.

use std::time::Duration;

use flannel_udp::lab;

use crate::doctor_lab::{ALONE, HERE, PEER, doctor_lab, examine, sh};
use crate::inspect::{json, told};
use crate::support::test_lab::TestLab;
use crate::support::{exclusive, wait_for};

/// firewalld's chain for forwarded packets: translated ones are accepted, the rest is rejected at its end.
const FIREWALLD: &str = "nft 'add table inet firewalld; \
     add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }; \
     add rule inet firewalld filter_FORWARD ct state { established, related } accept; \
     add rule inet firewalld filter_FORWARD ct status dnat accept; \
     add rule inet firewalld filter_FORWARD iifname lo accept; \
     add rule inet firewalld filter_FORWARD ct state invalid drop; \
     add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited'";

const FIREWALLS: &[(&str, &str, &str, &str)] = &[
    (
        "iptables -A OUTPUT -p udp --dport 8285 -j DROP",
        "UDP 8285 to peers",
        "-A OUTPUT -p udp",
        "iptables -F OUTPUT",
    ),
    (
        "nft 'add table inet strict; add chain inet strict o { type filter hook output priority 5; }; \
         add rule inet strict o udp dport 8285 drop'",
        "UDP 8285 to peers",
        "of chain o in nft's table inet strict",
        "nft delete table inet strict",
    ),
    (
        "nft 'add table inet strict; add set inet strict shut { type inet_service; elements = { 8285 }; }; \
         add chain inet strict i { type filter hook input priority 5; }; \
         add rule inet strict i udp dport @shut drop'",
        "UDP 8285 from peers",
        "of chain i in nft's table inet strict",
        "nft delete table inet strict",
    ),
    (
        "iptables -P FORWARD DROP",
        "FORWARD to",
        "the policy",
        "iptables -P FORWARD ACCEPT; iptables -F FORWARD",
    ),
    (
        "iptables -A FORWARD -m conntrack --ctstate DNAT -j ACCEPT; iptables -A FORWARD -j REJECT",
        "FORWARD from",
        "-A FORWARD -j REJECT",
        "iptables -F FORWARD",
    ),
    (
        "nft 'add table ip strict; add chain ip strict f { type filter hook forward priority 5; policy drop; }'",
        "FORWARD from",
        "the policy of chain f in nft's table ip strict",
        "nft delete table ip strict",
    ),
];

#[test]
fn firewalls_of_the_host_itself() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = doctor_lab();
    refused_sends(&mut lab);
    for (harm, check, words, mend) in FIREWALLS {
        sh(&lab, HERE, harm);
        let found = examine(&mut lab, ALONE);
        for command in found.commands("fault", check, words) {
            sh(&lab, HERE, &command);
        }
        let mended = examine(&mut lab, ALONE);
        assert!(!mended.has("fault", check, words), "{harm}: {}", mended.text);
        sh(&lab, HERE, mend);
    }
    sh(&lab, HERE, FIREWALLD);
    let found = examine(&mut lab, ALONE);
    let commands = found.commands("fault", "FORWARD to", "in nft's table inet firewalld");
    assert!(commands[0].starts_with("firewall-cmd --permanent --zone=trusted"), "{commands:?}");
    sh(&lab, HERE, "nft delete table inet firewalld");
    // A warning outlasts its cause by ten seconds.
    wait_for("the end of the warning", Duration::from_secs(15), || {
        !told(&lab, HERE, &["status", "--interval=0"]).contains("refuses the datagrams")
    });
    let well = examine(&mut lab, ALONE);
    assert!(well.worse_than_note().is_empty(), "{:#?}", well.worse_than_note());
}

/// What a firewall of this host drops on its way out is not blamed on the peer.
fn refused_sends(lab: &mut TestLab) {
    let peer = lab.host(PEER).address().to_string();
    let only = format!("--peers={peer}");
    let there = lab.endpoint(PEER).address.to_string();
    let refused = format!("this host's own firewall refuses the datagrams to {peer}");
    for (harm, words, mend) in [
        (
            "iptables -A OUTPUT -p udp --dport 8285 -j DROP",
            "this host's own firewall drops the datagrams to",
            "iptables -F OUTPUT",
        ),
        // A hook that doctor does not follow.
        (
            "nft 'add table ip post; add chain ip post p { type filter hook postrouting priority 0; }; \
             add rule ip post p udp dport 8285 drop'",
            "though no filter rule does so",
            "nft delete table ip post",
        ),
    ] {
        sh(lab, HERE, harm);
        wait_for("a warning", Duration::from_secs(10), || {
            TestLab::run(lab.endpoint(HERE).netns, "ping", &["-c1", "-W1", &there]);
            told(lab, HERE, &["status", "--interval=0"]).contains(&refused)
        });
        let peers = told(lab, HERE, &["peers", "--interval=0"]);
        assert!(peers.contains("REFUSED: this host's own firewall drops the datagrams"), "{peers}");
        let row = json(lab, HERE, &["peers", "--interval=0"])["peers"].clone();
        let row =
            row.as_array().expect("rows").iter().find(|row| row["public_ip"] == peer.as_str());
        assert_eq!(row.expect("the peer")["state"], "refused");
        let found = examine(lab, &[&only]);
        assert!(found.has(
            "warning",
            "send-refused",
            "this host's own firewall refuses the datagrams to"
        ));
        assert!(found.has("fault", &peer, words), "{}", found.text);
        assert!(!found.text.contains("nothing comes back"), "{}", found.text);
        sh(lab, HERE, mend);
    }
    lab::ping::between(
        lab.host(HERE).container(),
        lab.host(PEER).container(),
        Duration::from_secs(3),
    )
    .expect("an answer");
}
