//! Traffic by peer: each peer's own, and together all that was carried.

use std::net::Ipv4Addr;
use std::time::Duration;

use flannel_udp::dataplane::{OtherTraffic, PeerTraffic};
use flannel_udp::lab::{self, DaemonOptions, Lab};
use serde_json::Value;

use crate::inspect;
use crate::support::test_lab::TestLab;
use crate::support::{bulk, exclusive, flow, net, wait_for};

#[test]
fn peers_add_up_to_what_was_carried() {
    let Some(_exclusive) = exclusive() else { return };
    for flags in [&[][..], &["--offload=off", "--source-check=off"], &["--workers=2"]] {
        let mut lab = three_hosts(flags);
        bulk::transfer(lab.endpoint(0), lab.endpoint(1), 8 << 20, 1);
        flow::in_order(lab.endpoint(2), lab.endpoint(0), 500, |_| 400);
        let counters = settled_when(&mut lab, 0, |counters, lab| {
            counters.peer(lab, 2).received_packets >= 500
        });
        let (one, two) = (counters.peer(&lab, 1), counters.peer(&lab, 2));
        assert!(one.sent_bytes > 8 << 20 && one.received_packets > 10, "{flags:?} {one:?}");
        assert!(two.received_packets >= 500 && two.received_bytes > 500 * 400, "{two:?}");
        assert!(two.sent_packets < 100, "{flags:?} {two:?}");
        assert!(one.last_sent.is_some_and(|ago| ago < Duration::from_secs(30)), "{one:?}");
        assert_eq!(
            counters.other,
            OtherTraffic::default(),
            "{flags:?}: all of it belongs to a peer"
        );
    }
}

#[test]
fn counters_survive_the_data_plane_and_the_peer() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = three_hosts(&[]);
    flow::in_order(lab.endpoint(0), lab.endpoint(1), 300, |_| 100);
    let sent = |counters: &PeerCounters, lab: &TestLab| counters.peer(lab, 1).sent_packets;
    let before = settled_when(&mut lab, 0, |counters, lab| sent(counters, lab) >= 300);
    let before = sent(&before, &lab);
    lab::tool::ip_in(lab.host(0).netns_name(), "link del flannel0").expect("no device");
    wait_for("the device again", Duration::from_secs(10), || {
        lab::tool::ip_in(lab.host(0).netns_name(), "-4 route show")
            .is_ok_and(|routes| routes.contains("dev flannel0"))
    });
    lab.meet(0, 1);
    flow::in_order(lab.endpoint(0), lab.endpoint(1), 300, |_| 100);
    settled_when(&mut lab, 0, |counters, lab| sent(counters, lab) >= before + 300);
    // Its lease outlives it, so it is still listed with what it had.
    lab.stop_daemon(1).expect("its end");
    assert!(settled(&mut lab, 0).peer(&lab, 1).sent_packets >= before + 300);
}

#[test]
fn what_the_kernel_does_not_send_is_told_by_peer() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = three_hosts(&[]);
    let told = |lab: &TestLab, host| {
        let answer = inspect::json(lab, 0, &["peers"]);
        let address = lab.host(host).address().to_string();
        let peers = answer["peers"].as_array().expect("peers").clone();
        peers.into_iter().find(|peer| peer["public_ip"] == address).expect("the peer")
    };
    let (bad, node) = (lab.host(2).address(), lab.host(0).netns_name().to_owned());
    assert_eq!(told(&lab, 2)["send_loss"], 0.0, "it has met this host");
    lab::tool::ip_in(&node, &format!("route add prohibit {bad}")).expect("no way there");
    let (here, there) = (lab.endpoint(0), lab.endpoint(2));
    let socket = net::udp(here.netns, here.address);
    for _ in 0..500 {
        socket.send_to(&[0; 100], (there.address, 9)).expect("a packet for the overlay");
    }
    flow::in_order(lab.endpoint(0), lab.endpoint(1), 300, |_| 100);
    let counters =
        settled_when(&mut lab, 0, |counters, lab| counters.peer(lab, 2).unsent_packets >= 500);
    let unsent = counters.peer(&lab, 2).unsent_packets;
    assert_eq!(counters.peer(&lab, 1).unsent_packets, 0);
    let unreachable = &counters.egress["drops"]["send-unreachable"];
    assert_eq!(unreachable.as_u64(), Some(unsent), "each drop of a send is some peer's");
    let (one, two) = (told(&lab, 1), told(&lab, 2));
    assert_eq!((&one["traffic"]["unsent_packets"], &one["send_loss"]), (&0.into(), &0.0.into()));
    assert_eq!(two["traffic"]["unsent_packets"], unsent, "{two:#}");
    let share = two["send_loss"].as_f64().expect("a part");
    assert!(share > 0.9 && share < 1.0, "a few packets had been sent: {two:#}");
    let table = inspect::told(&lab, 0, &["peers", "--interval=0"]);
    let row = table.lines().find(|line| line.contains(&bad.to_string())).expect("its row");
    assert!(row.contains(&format!("{unsent} (")), "{table}");
}

/// Three hosts with a daemon and a container each, each of which has met the first.
fn three_hosts(flags: &[&str]) -> TestLab {
    let mut lab = TestLab::build(Lab::builder().hosts(3));
    lab.create_store_directory(lab::CONFIG).expect("the directory");
    lab.start_daemons(&DaemonOptions::with_flags(flags)).expect("the daemons");
    for host in 0..3 {
        lab.add_container(host).expect("a container");
    }
    lab.meet(0, 1);
    lab.meet(0, 2);
    lab
}

/// What one daemon knows about its peers.
#[derive(Debug)]
struct PeerCounters {
    peers: Vec<PeerTraffic>,
    other: OtherTraffic,
    egress: Value,
}

impl PeerCounters {
    fn peer(&self, lab: &TestLab, host: usize) -> PeerTraffic {
        let address: Ipv4Addr = lab.host(host).address();
        let peer = self.peers.iter().find(|peer| peer.address == address);
        peer.unwrap_or_else(|| panic!("{address} is not in {self:?}")).clone()
    }

    /// Packets and bytes sent, packets and bytes received, peers and others together.
    fn sum(&self) -> [u64; 4] {
        let others = [self.other.beyond, self.other.mismatched, self.other.departed];
        let others =
            others.map(|t| [t.sent_packets, t.sent_bytes, t.received_packets, t.received_bytes]);
        let peers = self
            .peers
            .iter()
            .map(|p| [p.sent_packets, p.sent_bytes, p.received_packets, p.received_bytes]);
        peers.chain(others).fold([0; 4], |sum, part| std::array::from_fn(|i| sum[i] + part[i]))
    }
}

/// The peers of `host`, once they add up and are as wanted: what has arrived may be counted later.
#[track_caller]
fn settled_when(
    lab: &mut TestLab,
    host: usize,
    wanted: impl Fn(&PeerCounters, &TestLab) -> bool,
) -> PeerCounters {
    let mut counters = settled(lab, host);
    wait_for("all that was sent to be counted", Duration::from_secs(3), || {
        counters = settled(lab, host);
        wanted(&counters, lab)
    });
    counters
}

/// The peers of `host`, once they add up: a packet may be in a daemon's hands while it counts.
#[track_caller]
fn settled(lab: &mut TestLab, host: usize) -> PeerCounters {
    let mut counters = None;
    wait_for("peers that add up", Duration::from_secs(3), || {
        let stats = lab.host_mut(host).daemon_mut().expect("a daemon").stats().expect("stats");
        let read = |field: &str| -> Value { stats[field].clone() };
        let carried = [
            &stats["egress"]["carried_packets"],
            &stats["egress"]["carried_bytes"],
            &stats["ingress"]["carried_packets"],
            &stats["ingress"]["carried_bytes"],
        ]
        .map(|count| count.as_u64().expect("a count"));
        let now = PeerCounters {
            peers: serde_json::from_value(read("peers")).expect("peers"),
            other: serde_json::from_value(read("other_traffic")).expect("other traffic"),
            egress: read("egress"),
        };
        let whole = now.sum() == carried;
        if !whole {
            eprintln!("carried {carried:?}, {now:?}");
        }
        counters = Some(now);
        whole
    });
    counters.expect("the counters")
}
