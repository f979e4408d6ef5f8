//! `explain` and `doctor` ask the kernel about the user's packet: its source, its input interface, its
//! protocol and ports. `docs/operations.md` quotes the answers.

use std::time::Duration;

use crate::doctor_lab::{ALONE, HERE, PEER, doctor_lab, examine, sh};
use crate::inspect::{json, told};
use crate::support::test_lab::TestLab;
use crate::support::{exclusive, wait_for};

/// One way in which a host's kernel treats a packet other than the main table says.
struct Case {
    harm: &'static str,
    mend: &'static str,
    /// Protocol and ports of the container's packet to the peer's container.
    upper: &'static [&'static str],
    /// What `explain` says about it, and what it must not say.
    explained: &'static str,
    /// The finding of `doctor`; none for a rule that matches only some traffic.
    found: Option<(&'static str, &'static str)>,
}

const CASES: &[Case] = &[
    Case {
        harm: "sysctl -qw net.ipv4.ip_forward=0",
        mend: "sysctl -qw net.ipv4.ip_forward=1",
        upper: &[],
        explained: "net.ipv4.ip_forward is 0",
        found: Some(("ip_forward", "0: this host does not forward packets")),
    },
    Case {
        harm: "sysctl -qw net.ipv4.conf.docker0.forwarding=0",
        mend: "sysctl -qw net.ipv4.conf.docker0.forwarding=1",
        upper: &[],
        explained: "forwarding is 0 for docker0",
        found: Some(("ip_forward", "1, but 0 for docker0")),
    },
    Case {
        harm: "ip rule add from 10.0.0.0/16 lookup 100",
        mend: "ip rule del from 10.0.0.0/16 lookup 100",
        upper: &[],
        explained: "a policy routing rule decides",
        found: Some(("route", "go to eth0 because of a policy routing rule")),
    },
    Case {
        harm: "ip rule add iif docker0 lookup 100",
        mend: "ip rule del iif docker0 lookup 100",
        upper: &[],
        explained: "a policy routing rule decides",
        found: Some(("route", "packets from containers to")),
    },
    Case {
        harm: "ip rule add ipproto tcp dport 80 lookup 100",
        mend: "ip rule del ipproto tcp dport 80 lookup 100",
        upper: &["tcp", "80"],
        explained: "a policy routing rule decides",
        found: None,
    },
    Case {
        harm: "ip rule add iif docker0 prohibit",
        mend: "ip rule del iif docker0 prohibit",
        upper: &[],
        explained: "a route or rule of type prohibit",
        found: Some(("route", "this kernel drops packets from containers")),
    },
    Case {
        harm: "ip rule add iif docker0 unreachable",
        mend: "ip rule del iif docker0 unreachable",
        upper: &[],
        explained: "the kernel has no route to",
        found: Some(("route", "this kernel drops packets from containers")),
    },
    Case {
        // The way back to the container is diverted, which strict filtering does not let pass.
        harm: "sysctl -qw net.ipv4.conf.docker0.rp_filter=1; ip rule add to HERENET lookup 100",
        mend: "sysctl -qw net.ipv4.conf.docker0.rp_filter=0; ip rule del to HERENET lookup 100",
        upper: &[],
        explained: "rp_filter of docker0 is 1 (strict)",
        found: Some(("route", "this kernel drops packets from containers")),
    },
    Case {
        harm: "ip route add blackhole PEERNET",
        mend: "ip route del blackhole PEERNET",
        upper: &["udp", "53"],
        explained: "a route or rule of type blackhole",
        found: Some(("route", "diverts traffic from the overlay")),
    },
    Case {
        harm: "ip route add unreachable PEERNET",
        mend: "ip route del unreachable PEERNET",
        upper: &[],
        explained: "a route or rule of type unreachable",
        found: Some(("route", "diverts traffic from the overlay")),
    },
    Case {
        harm: "ip route add prohibit PEERHOST",
        mend: "ip route del prohibit PEERHOST",
        upper: &[],
        explained: "the kernel does not send the datagram",
        found: Some(("route", "this kernel drops datagrams to")),
    },
];

#[test]
fn the_kernel_is_asked_about_the_users_packet() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = doctor_lab();
    sh(&lab, HERE, "ip route add default dev eth0 table 100");
    let (net, host) = (lab.subnet(PEER).to_string(), lab.host(PEER).address().to_string());
    let own = lab.subnet(HERE).to_string();
    let fill = |line: &str| {
        line.replace("PEERNET", &net).replace("PEERHOST", &host).replace("HERENET", &own)
    };
    let (here, there) = (address(&lab, HERE), address(&lab, PEER));
    let explain = |lab: &TestLab, upper: &[&str]| {
        told(lab, HERE, &[&["explain", &here, &there], upper].concat())
    };
    let yes = "sent from or through this host: yes";
    for case in CASES {
        assert!(explain(&lab, case.upper).contains(yes), "{}", explain(&lab, case.upper));
        sh(&lab, HERE, &fill(case.harm));
        let said = explain(&lab, case.upper);
        assert!(said.contains(case.explained), "{}: {said}", case.harm);
        assert!(!said.contains(": yes"), "{}: {said}", case.harm);
        if case.found.is_none() {
            assert!(explain(&lab, &["tcp", "81"]).contains(yes), "{}", case.harm);
        }
        if let Some((check, words)) = case.found {
            let found = examine(&mut lab, ALONE);
            assert!(found.has("fault", check, words), "{}: {}", case.harm, found.text);
        }
        sh(&lab, HERE, &fill(case.mend));
    }
    arriving(&mut lab, &here, &there);
    let well = examine(&mut lab, ALONE);
    assert!(well.worse_than_note().is_empty(), "{:#?}", well.worse_than_note());
}

/// The packet of a peer's container, and of the peer itself.
fn arriving(lab: &mut TestLab, here: &str, there: &str) {
    let said = told(lab, HERE, &["explain", there, here]);
    assert!(said.contains("sent from or through this host: does not apply"), "{said}");
    assert!(said.contains("received from another host: yes"), "{said}");
    for (source, destination) in [(here, "224.0.0.5"), ("127.0.0.1", there), ("0.0.0.0", there)] {
        let said = told(lab, HERE, &["explain", source, destination]);
        assert!(
            said.contains("the kernel never routes a packet from") && !said.contains("blackhole"),
            "{said}"
        );
    }
    let both = told(lab, HERE, &["explain", there, here, "--both"]);
    assert!(!both.contains("does not apply"), "{both}");
    let way = json(lab, HERE, &["explain", there, here]);
    assert_eq!(way["received"]["input"], "flannel0", "{way:#}");
    assert!(way["sent"]["not_applicable"].is_string(), "{way:#}");
    assert!(way["received"]["not_applicable"].is_null(), "{way:#}");

    sh(lab, HERE, "ip rule add iif flannel0 lookup 100");
    let said = told(lab, HERE, &["explain", there, here]);
    assert!(said.contains("received from another host: not here"), "{said}");
    assert!(said.contains("a policy routing rule decides"), "{said}");
    let found = examine(lab, ALONE);
    assert!(found.has("fault", "route", "to containers go to eth0"), "{}", found.text);
    sh(lab, HERE, "ip rule del iif flannel0 lookup 100");

    // The peer itself sends without masquerading; strict filtering discards its packet.
    let peer = lab.host(PEER).address().to_string();
    sh(lab, HERE, "sysctl -qw net.ipv4.conf.flannel0.rp_filter=1");
    let said = told(lab, HERE, &["explain", &peer, here]);
    assert!(said.contains("rp_filter of flannel0 is 1 (strict)"), "{said}");
    assert!(said.contains("received from another host: NO"), "{said}");
    // What it prints as the remedy mends it.
    let way = json(lab, HERE, &["explain", &peer, here]);
    let remedy = way["received"]["remedy"].as_str().expect("a remedy").to_owned();
    sh(lab, HERE, remedy.trim_matches('`'));
    wait_for("the remedy", Duration::from_secs(2), || {
        told(lab, HERE, &["explain", &peer, here]).contains("received from another host: yes")
    });
    sh(lab, HERE, "sysctl -qw net.ipv4.conf.flannel0.rp_filter=0");
}

fn address(lab: &TestLab, host: usize) -> String {
    lab.endpoint(host).address.to_string()
}
