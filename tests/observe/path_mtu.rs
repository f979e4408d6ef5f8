//! Paths that are narrower than the interfaces at their ends, and forged reports of such.

use std::time::Duration;

use flannel_udp::lab::{self, Lab, UnderlayKind};

use crate::operations::status_row;
use crate::support::raw::{Ip, UDP};
use crate::support::test_lab::TestLab;
use crate::support::{accounting, bulk, exclusive, net, wait_for};

/// An ICMP error that anybody can send, about a flow that he guesses.
#[test]
fn a_forged_path_mtu_changes_nothing() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = three_hosts();
    let [here, there, forger] = [0, 1, 2].map(|host| lab.host(host).address());
    let raw = net::raw_sender(lab.host(2).netns());
    let forge = |port: u16| {
        let quoted = Ip::new(here, there, UDP).udp((port, port), &[0; 8]);
        let mut error = [&[3, 4, 0, 0, 0, 0][..], &600_u16.to_be_bytes(), &quoted].concat();
        let checksum = !crate::support::raw::sum(&error, 0);
        error[2..4].copy_from_slice(&checksum.to_be_bytes());
        net::send_raw(&raw, &Ip::new(forger, here, ICMP).packet(&error)).expect("an ICMP error");
    };
    // A program of this host believes the error, and the whole host with it.
    let gullible = net::udp_at(lab.host(0).netns(), std::net::SocketAddrV4::new(here, 8286));
    gullible.send_to(b"hello", (there, 8286)).expect("a datagram");
    let asked = format!("route get {there}");
    wait_for("the kernel to believe it", Duration::from_secs(5), || {
        forge(8286);
        forge(8285);
        let route = lab::tool::ip_in(lab.host(0).netns_name(), &asked).expect("a route");
        route.contains("mtu 600")
    });
    // The daemon looks at the routes again, within a second.
    lab::tool::ip_in(lab.host(0).netns_name(), "route add 192.0.2.0/24 dev eth0").expect("a route");
    std::thread::sleep(Duration::from_millis(1500));
    bulk::transfer(lab.endpoint(0), lab.endpoint(1), 8 << 20, 1);
    accounting::check_balance(&mut lab);
    assert_eq!(stats(&mut lab, 0)["egress"]["gso_refused"], 0);
    assert!(fragments(&mut lab, 1, 0).is_null(), "the datagrams arrive whole");
}

#[test]
fn a_truly_narrow_path_carries_everything_and_is_named() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = three_hosts();
    let [there, router] = [1, 2].map(|host| lab.host(host).address());
    for setting in ["ip_forward=1", "conf.all.send_redirects=0", "conf.eth0.send_redirects=0"] {
        let setting = format!("net.ipv4.{setting}");
        TestLab::run(lab.host(2).netns(), "sysctl", &["-w", &setting]);
    }
    let ip = |host: usize, line: String| {
        lab::tool::ip_in(lab.host(host).netns_name(), &line).expect("a route");
    };
    ip(2, format!("route add {there} dev eth0 mtu 1400"));
    ip(0, format!("route add {there} via {router} dev eth0"));
    bulk::transfer(lab.endpoint(0), lab.endpoint(1), 4 << 20, 1);
    bulk::transfer(lab.endpoint(1), lab.endpoint(0), 4 << 20, 1);
    accounting::check_balance(&mut lab);
    wait_for("the fragments to be seen", Duration::from_secs(5), || {
        fragments(&mut lab, 1, 0) == 1_396
    });
    let line =
        format!("datagrams from {} arrive in fragments of up to 1396", lab.host(0).address());
    wait_for("a warning", Duration::from_secs(5), || lab.log(1).contains(&line));
    status_row(&lab, 1, "arrive in fragments of up to 1396 bytes");
    assert!(fragments(&mut lab, 0, 1).is_null(), "the other direction is not narrow");
}

fn three_hosts() -> TestLab {
    let mut lab = TestLab::build(Lab::builder().hosts(3).underlay(UnderlayKind::Nic));
    lab.start_etcd(2, lab::CONFIG).expect("etcd");
    lab.join(0, &[]);
    lab.join(1, &[]);
    lab.meet(0, 1);
    lab
}

fn stats(lab: &mut TestLab, host: usize) -> serde_json::Value {
    lab.host_mut(host).daemon_mut().expect("a daemon").stats().expect("its counters")
}

/// The longest fragment of `peer` as the daemon of `host` tells it.
fn fragments(lab: &mut TestLab, host: usize, peer: usize) -> serde_json::Value {
    let address = lab.host(peer).address().to_string();
    let stats = stats(lab, host);
    let peers = stats["peers"].as_array().expect("peers");
    let peer = peers.iter().find(|peer| peer["address"] == address).expect("the peer");
    peer["fragments_of"].clone()
}

const ICMP: u8 = 1;
