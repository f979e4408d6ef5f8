//! `doctor` on a healthy host, and on one that is broken in one way after the other: each finding
//! appears with the damage and disappears with it. `docs/operations.md` quotes the findings.

use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

use flannel_udp::lab;
use flannel_udp::sys::process::Signal;

use crate::doctor_lab::{ALONE, HERE, PEER, doctor_lab, examine, examine_by, ip, sh, with, write};
use crate::support::test_lab::{TestLab, lease_key, lease_value};
use crate::support::{exclusive, wait_for};

#[test]
fn a_healthy_host_and_every_damage_of_it() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = doctor_lab();
    let well = examine(&mut lab, &[]);
    assert!(well.worse_than_note().is_empty(), "{:#?}", well.worse_than_note());
    assert_eq!(well.code, Some(0));
    for host in [0, PEER] {
        let address = lab.host(host).address().to_string();
        assert!(well.has("ok", &address, "10 of 10 echoes"), "{}", well.text);
        assert!(
            well.has(
                "ok",
                &format!("{address} ("),
                "packets of 1472 bytes (the overlay's MTU) pass"
            ),
            "{}",
            well.text
        );
    }
    settings(&mut lab);
    firewall(&mut lab);
    routes(&mut lab);
    docker(&mut lab);
    store(&mut lab);
    lease(&mut lab);
    rights(&mut lab);
    let well = examine(&mut lab, &[]);
    assert!(well.worse_than_note().is_empty(), "{:#?}", well.worse_than_note());
    without_daemon(&mut lab);
}

fn settings(lab: &mut TestLab) {
    with(
        lab,
        ALONE,
        |lab| lab.host(HERE).sysctl("net/ipv4/ip_forward", "0").expect("sysctl"),
        ("fault", "ip_forward", "0: this host does not forward packets"),
        |lab| lab.host(HERE).sysctl("net/ipv4/ip_forward", "1").expect("sysctl"),
    );
    with(
        lab,
        ALONE,
        |lab| lab.host(HERE).sysctl("net/ipv4/conf/flannel0/rp_filter", "1").expect("sysctl"),
        ("note", "rp_filter of flannel0", "strict"),
        |lab| {
            for name in ["flannel0", "all"] {
                let key = format!("net/ipv4/conf/{name}/rp_filter");
                lab.host(HERE).sysctl(&key, "0").expect("sysctl");
            }
        },
    );
    with(
        lab,
        ALONE,
        |lab| ip(lab, HERE, "link set flannel0 txqueuelen 10"),
        ("warning", "txqueuelen", "bursts of small packets are lost"),
        |lab| ip(lab, HERE, "link set flannel0 txqueuelen 1000"),
    );
    with(
        lab,
        ALONE,
        |lab| sh(lab, HERE, "ethtool -K eth0 gro off tx off"),
        ("note", "eth0 gro", "off"),
        |lab| sh(lab, HERE, "ethtool -K eth0 gro on tx on"),
    );
    // Neither is a fault: a host without these features is healthy.
    let card = |state: &str| format!("ethtool -K eth0 tx-udp-segmentation {state}");
    with(
        lab,
        ALONE,
        |lab| sh(lab, HERE, &card("off")),
        ("note", "eth0 tx-udp-segmentation", "off: the kernel segments each train"),
        |lab| sh(lab, HERE, &card("on")),
    );
    with(
        lab,
        ALONE,
        |_| {},
        ("note", "eth0 rx-udp-gro-forwarding", "off, the default"),
        |lab| sh(lab, HERE, "ethtool -K eth0 rx-udp-gro-forwarding on"),
    );
    sh(lab, HERE, "ethtool -K eth0 rx-udp-gro-forwarding off");
}

fn firewall(lab: &mut TestLab) {
    for (harm, check, words, mend) in [
        (
            "iptables -I INPUT -i eth0 -p udp --dport 8285 -j DROP",
            "UDP 8285",
            "-A INPUT -i eth0 -p udp",
            "iptables -D INPUT -i eth0 -p udp --dport 8285 -j DROP",
        ),
        ("iptables -P FORWARD DROP", "FORWARD to", "the policy", "iptables -P FORWARD ACCEPT"),
        (
            "iptables -I FORWARD -s 10.0.0.0/16 -j REJECT",
            "FORWARD from",
            "-A FORWARD -s 10.0.0.0/16",
            "iptables -D FORWARD -s 10.0.0.0/16 -j REJECT",
        ),
        (
            "nft 'add table inet strict; add chain inet strict f { type filter hook forward priority 5; policy drop; }'",
            "FORWARD to",
            "chain f in nft's table inet strict",
            "nft delete table inet strict",
        ),
        (
            "nft 'add table inet strict; add chain inet strict i { type filter hook input priority 5; }; \
             add rule inet strict i udp dport { 8000-9000 } drop'",
            "UDP 8285",
            "of chain i in nft's table inet strict",
            "nft delete table inet strict",
        ),
    ] {
        with(
            lab,
            ALONE,
            |lab| sh(lab, HERE, harm),
            ("fault", check, words),
            |lab| sh(lab, HERE, mend),
        );
    }
}

fn routes(lab: &mut TestLab) {
    let thief = format!("{} dev eth0", lab.subnet(PEER));
    with(
        lab,
        ALONE,
        |lab| ip(lab, HERE, &format!("route add {thief}")),
        ("fault", "route", "diverts traffic from the overlay"),
        |lab| ip(lab, HERE, &format!("route del {thief}")),
    );
    // Routes of every type, each deleted by the command that is printed. One that leads through the interface
    // between hosts may be how this host reaches others, and of that the operator is asked.
    let net = lab.subnet(PEER);
    ip(lab, HERE, &format!("route add {net} via {}", lab.host(0).address()));
    let found = examine(lab, ALONE);
    assert!(found.has("fault", "route", "diverts traffic from the overlay"), "{}", found.text);
    assert!(found.text.contains("if this host reaches no other host through it"), "{}", found.text);
    ip(lab, HERE, &format!("route del {net}"));
    ip(lab, HERE, "link add eth1 type bridge");
    ip(lab, HERE, "addr add 10.77.0.1/24 dev eth1");
    ip(lab, HERE, "link set eth1 up");
    for route in [
        format!("blackhole {net}"),
        format!("unreachable {net} metric 9"),
        format!("prohibit {net}"),
        format!("{net} via 10.77.0.2 metric 7"),
        format!("{net} nexthop via 10.77.0.2 nexthop via 10.77.0.3"),
    ] {
        ip(lab, HERE, &format!("route add {route}"));
        let found = examine(lab, ALONE);
        for command in found.commands("fault", "route", "diverts traffic from the overlay") {
            sh(lab, HERE, &command);
        }
        let found = examine(lab, ALONE);
        assert!(!found.has("fault", "route", ""), "{route}: {}", found.text);
    }
    ip(lab, HERE, "link del eth1");
    let policy = format!("to {} lookup 7", lab.subnet(PEER));
    with(
        lab,
        ALONE,
        |lab| {
            ip(lab, HERE, "route add default dev eth0 table 7");
            ip(lab, HERE, &format!("rule add {policy}"));
        },
        ("fault", "route", "go to eth0 because of a policy routing rule"),
        |lab| ip(lab, HERE, &format!("rule del {policy}")),
    );
    let signal = |signal| {
        move |lab: &mut TestLab| {
            let daemon = lab.host_mut(HERE).daemon_mut().expect("a daemon");
            daemon.process().signal(signal).expect("a signal");
        }
    };
    with(
        lab,
        ALONE,
        |lab| {
            signal(Signal::Stop)(lab);
            ip(lab, HERE, "link del flannel0");
        },
        ("warning", "device", "there is no flannel0"),
        signal(Signal::Continue),
    );
    with(
        lab,
        ALONE,
        |lab| {
            signal(Signal::Stop)(lab);
            ip(lab, HERE, "link set flannel0 mtu 1480");
            ip(lab, HERE, "route del 10.0.0.0/16");
        },
        ("fault", "flannel0", "its MTU is 1480, the interface between hosts carries at most 1472"),
        signal(Signal::Continue),
    );
}

fn docker(lab: &mut TestLab) {
    let subnet = lab.host(HERE).daemon().expect("a daemon").subnet().expect("its subnet file");
    let bip = format!("{}/{}", subnet.gateway, subnet.prefix_len);
    let env =
        |bip: &str, mtu: u32| format!("DOCKER_OPTS=\" --bip={bip} --ip-masq=true --mtu={mtu}\"\n");
    for (text, level, words) in [
        (env(&bip, 1500), "fault", "--mtu is 1500 and should be 1472"),
        (env("172.17.0.1/16", 1472), "fault", "--bip is 172.17.0.1/16 and should be"),
        (env(&bip, 1400), "warning", "--mtu is 1400 and should be 1472"),
        (
            env(&bip, 1472).replace("=true", "=false"),
            "warning",
            "--ip-masq is false and should be true",
        ),
    ] {
        with(
            lab,
            ALONE,
            |lab| drop(write(lab, "docker_opts.env", &text)),
            (level, "docker_opts.env", words),
            |lab| drop(write(lab, "docker_opts.env", &env(&bip, 1472))),
        );
    }
    with(
        lab,
        ALONE,
        |lab| ip(lab, HERE, "link set veth0 mtu 1500"),
        ("fault", "docker0", "send packets of up to 1500 bytes; the overlay carries at most 1472"),
        |lab| ip(lab, HERE, "link set veth0 mtu 1472"),
    );
    with(
        lab,
        ALONE,
        |lab| {
            ip(lab, HERE, "addr add 172.17.0.1/16 dev docker0");
            ip(lab, HERE, &format!("addr del {bip} dev docker0"));
        },
        ("fault", "docker0", "its address is 172.17.0.1/16 and should be"),
        |lab| {
            ip(lab, HERE, "addr del 172.17.0.1/16 dev docker0");
            ip(lab, HERE, &format!("addr add {bip} dev docker0"));
        },
    );
    // An address in another host's part of the overlay brings a route with it: one fault, not two.
    let astray = "10.0.97.1/24";
    ip(lab, HERE, &format!("addr add {astray} dev docker0"));
    ip(lab, HERE, &format!("addr del {bip} dev docker0"));
    let found = examine(lab, ALONE);
    assert!(found.has("fault", "docker0", "its address is 10.0.97.1/24"), "{}", found.text);
    assert_eq!(found.worse_than_note().len(), 1, "{}", found.text);
    ip(lab, HERE, &format!("addr add {bip} dev docker0"));
    let found = examine(lab, ALONE);
    assert!(found.has("fault", "route", "diverts traffic"), "with both: {}", found.text);
    ip(lab, HERE, &format!("addr del {astray} dev docker0"));
    // A process that is named like dockerd; its options are in the arguments.
    let mut command = Command::new("bash");
    command
        .args(["-c", "exec -a /usr/bin/dockerd bash -c 'read wait' dockerd --bip=172.17.0.1/16"]);
    command.stdin(Stdio::piped());
    let mut dockerd = lab.host(HERE).netns().spawn(&mut command).expect("bash");
    wait_for("dockerd", Duration::from_secs(5), || {
        examine(lab, ALONE).has("fault", "dockerd (pid", "--bip is 172.17.0.1/16")
    });
    drop(dockerd.stdin.take());
    dockerd.wait().expect("its end");
    assert!(!examine(lab, ALONE).has("fault", "dockerd", ""));
}

fn store(lab: &mut TestLab) {
    let key = format!("{}/config", lab::ETCD_PREFIX);
    with(
        lab,
        ALONE,
        |lab| lab.delete(&key).expect("no config"),
        (
            "fault",
            "network config",
            r#"there is none at "/coreos.com/network/config"; these keys exist"#,
        ),
        |lab| lab.put(&key, lab::CONFIG).expect("a config"),
    );
    with(
        lab,
        ALONE,
        |lab| lab.put(&key, r#"{"Network": "10.0.0.0/33"}"#).expect("a bad config"),
        ("fault", "network config", "it cannot be used"),
        |lab| lab.put(&key, lab::CONFIG).expect("a config"),
    );
    with(
        lab,
        ALONE,
        |lab| lab.put(&lease_key("bogus"), "junk").expect("junk"),
        ("warning", "key", "subnets/bogus is not a lease"),
        |lab| lab.delete(&lease_key("bogus")).expect("no junk"),
    );
    let double = lease_value(lab.host(PEER).address());
    with(
        lab,
        ALONE,
        |lab| lab.put(&lease_key("10.0.99.0-24"), &double).expect("a lease"),
        ("fault", "duplicate PublicIP", "10.0.99.0/24"),
        |lab| lab.delete(&lease_key("10.0.99.0-24")).expect("no lease"),
    );
    let vxlan = r#"{"PublicIP":"10.211.55.77","BackendType":"vxlan"}"#;
    with(
        lab,
        ALONE,
        |lab| lab.put(&lease_key("10.0.98.0-24"), vxlan).expect("a lease"),
        ("warning", "backend", "with backend vxlan"),
        |lab| lab.delete(&lease_key("10.0.98.0-24")).expect("no lease"),
    );
    for (flag, check, words) in [
        ("--etcd-prefix=/wrong", "network config", "there is one at /coreos.com/network/config"),
        ("--etcd-endpoints=http://10.211.55.10:9", "endpoint", "connection refused"),
        ("--etcd-endpoints=https://10.211.55.10:2379", "endpoint", "TLS failed"),
        ("--registry=file:/nonexistent/leases", "registry", "there is no directory"),
    ] {
        let found = examine(lab, &[flag, "--peers=no"]);
        assert!(found.has("fault", check, words), "{flag}: {}", found.text);
    }
    // A member that does not answer is a warning while another does; the whole stays within its
    // time.
    let mut half = lab.etcd().expect("etcd").endpoints().join(",");
    half = format!("--etcd-endpoints={half},http://10.211.55.10:9");
    let found = examine(lab, &[&half, "--peers=no"]);
    assert!(found.has("warning", "endpoint http://10.211.55.10:9", "refused"), "{}", found.text);
    lab.etcd().expect("etcd").freeze().expect("frozen");
    let found = examine(lab, &[]);
    lab.etcd().expect("etcd").thaw().expect("thawed");
    assert!(found.has("fault", "endpoint", "no answer in time"), "{}", found.text);
    assert!(found.took < Duration::from_secs(11), "{:?}", found.took);
}

fn lease(lab: &mut TestLab) {
    let theirs = lab.subnet(PEER);
    let text = |network: &str, subnet: &str, mtu: u32| {
        format!("FLANNEL_NETWORK={network}\nFLANNEL_SUBNET={subnet}\nFLANNEL_MTU={mtu}\n")
    };
    let own = lab.subnet(HERE).to_string();
    for (text, level, check, words) in [
        (
            text("10.0.0.0/16", &theirs.to_string(), 1472),
            "fault",
            "lease",
            "is leased to 10.211.55.12",
        ),
        (text("10.0.0.0/16", "10.0.97.1/24", 1472), "fault", "lease", "is not in the store"),
        (text("10.9.0.0/16", &own, 1472), "fault", "stale.env", "it says network 10.9.0.0/16"),
        (text("10.0.0.0/16", &own, 1500), "fault", "stale.env", "it says MTU 1500"),
        (String::new(), "warning", "stale.env", "holds no subnet"),
    ] {
        let path = write(lab, "stale.env", &text);
        let found = examine(lab, &[&format!("--subnet-file={path}"), "--peers=no"]);
        assert!(found.has(level, check, words), "{words}: {}", found.text);
    }
}

fn rights(lab: &mut TestLab) {
    let without =
        ["setpriv", "--bounding-set", "-net_admin,-net_raw", "--inh-caps", "-net_admin,-net_raw"];
    let found = examine_by(lab, &without, &[]);
    assert!(found.has("warning", "CAP_NET_ADMIN", "lacks it"), "{}", found.text);
    assert!(found.has("note", "peers", "no raw socket"), "{}", found.text);
    assert!(found.has("note", "UDP 8285 from peers", "not checked"), "{}", found.text);
    let hidden =
        ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /dev/net && exec \"$0\" \"$@\""];
    let found = examine_by(lab, &hidden, ALONE);
    assert!(found.has("fault", "/dev/net/tun", "the device node is missing"), "{}", found.text);
}

fn without_daemon(lab: &mut TestLab) {
    lab.stop_daemon(HERE).expect("a stop");
    let found = examine(lab, &[]);
    assert!(found.has("warning", "UDP 8285", "no daemon is running here"), "{}", found.text);
    assert!(found.has("warning", "device", "there is no flannel0"), "{}", found.text);
    assert!(found.has("note", "10.211.55.12", "the host answers pings"), "{}", found.text);
    assert!(found.has("ok", "lease", "expires in"), "{}", found.text);
    let address = (lab.host(HERE).address(), 8285);
    let taken = lab.host(HERE).netns().enter(|| UdpSocket::bind(address)).expect("a visit");
    let found = examine(lab, ALONE);
    assert!(found.has("fault", "UDP 8285", "not a flannel daemon"), "{}", found.text);
    drop(taken);
    let found = examine(lab, ALONE);
    assert!(!found.has("fault", "UDP 8285", ""), "{}", found.text);
}
