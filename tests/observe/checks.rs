//! The checks of inner addresses, against packets forged on a host that runs no daemon.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use flannel_udp::dataplane::{Check, RecentMismatch};
use flannel_udp::lab::{self, Lab};

use crate::inspect;
use crate::operations::row;
use crate::support::peer::PlainPeer;
use crate::support::raw::{Ip, UDP};
use crate::support::test_lab::{TestLab, lease_key, lease_value};
use crate::support::{exclusive, net, wait_for};

/// Host 0 has the daemon under test, host 1 another, host 2 forges.
struct Scene {
    lab: TestLab,
    forger: PlainPeer,
    inside: UdpSocket,
}

#[test]
fn a_forged_source_is_passed_named_or_dropped() {
    let Some(_exclusive) = exclusive() else { return };
    for (flags, delivered, named) in [
        (&["--source-check=off"][..], true, false),
        (&["--source-check=log"], true, true),
        (&[], false, true),
        (&["--source-check=enforce"], false, true),
        (&["--source-check=enforce", "--offload=off"], false, true),
    ] {
        let mut scene = Scene::new(flags);
        let victim = scene.lab.endpoint(1).address;
        scene.forge(victim, scene.here());
        assert_eq!(scene.arrives(), delivered, "{flags:?}");
        // A packet is counted as carried just after it has arrived.
        wait_for("the packet to be nobody's", Duration::from_secs(3), || {
            let other = &scene.stats()["other_traffic"]["mismatched"]["received_packets"];
            *other == u64::from(delivered)
        });
        let stats = scene.stats();
        let ingress = &stats["ingress"];
        assert_eq!(ingress["source_mismatches"], u64::from(named), "{flags:?}");
        assert_eq!(ingress["drops"]["source-mismatch"], u64::from(!delivered), "{flags:?}");
        assert_eq!(ingress["source_grace"], 0, "{flags:?}");
        let recent = scene.recent();
        let log = scene.lab.log(0);
        let line = log.lines().find(|line| line.contains("WARN") && line.contains("inner source"));
        if !named {
            assert_eq!((recent.len(), line), (0, None), "{flags:?}");
            continue;
        }
        let [found] = &recent[..] else { panic!("{recent:?}") };
        let [sender, holder] = [2, 1].map(|host| scene.lab.host(host).address());
        let found = found.latest;
        assert_eq!((found.check, found.source), (Check::Source, victim));
        assert_eq!((*found.sender.ip(), found.holder), (sender, Some(holder)));
        assert_eq!(found.dropped, !delivered);
        let line = line.unwrap_or_else(|| panic!("a line about it: {log}"));
        for name in [sender.to_string(), victim.to_string(), holder.to_string()] {
            assert!(line.contains(&name), "{name} is not in {line}");
        }
        if cfg!(feature = "top") {
            let screen = inspect::told(&scene.lab, 0, &["top", "--once", "--interval", "200"]);
            let line = format!("{sender} as {victim} of {holder}, ");
            assert!(screen.contains("FORGED SOURCES") && screen.contains(&line), "{screen}");
        }
        // The true owner of the address is not in the way of its own traffic.
        scene.lab.meet(0, 1);
    }
}

#[test]
fn a_sender_whose_lease_is_on_its_way_has_grace() {
    let Some(_exclusive) = exclusive() else { return };
    let mut scene = Scene::new(&["--source-check=log"]);
    let here = scene.here();
    // To ask what would become of it begins nothing.
    for _ in 0..2 {
        let then = "then counted and forwarded";
        scene.foretells("carried", &["passes for now", "5 s from its first", then]);
    }
    scene.forge(EARLY, here);
    assert!(scene.arrives());
    scene.foretells("carried", &["passes for now", "are tolerated for another"]);
    assert_eq!(scene.stats()["ingress"]["source_grace"], 1);
    // No lease can hold it, or one that is known does: no grace.
    for source in [Ipv4Addr::new(192, 0, 2, 9), scene.lab.endpoint(1).address, here] {
        scene.forge(source, here);
        while scene.arrives() {}
    }
    assert_eq!(scene.stats()["ingress"]["source_mismatches"], 3);
    wait_for("the end of the grace", Duration::from_secs(8), || {
        scene.forge(EARLY, here);
        scene.arrives();
        scene.stats()["ingress"]["source_mismatches"] == 4
    });
    scene.foretells("carried", &["fails, counted and forwarded", "grace period of 5 s"]);
    scene.leases_early_to_the_forger();
    scene.foretells("carried", &["passes: 10.0.99.2 is in the lease of"]);
    // It is now a peer, with its own traffic.
    let address = scene.lab.host(2).address().to_string();
    wait_for("its traffic", Duration::from_secs(3), || {
        scene.forge(EARLY, here);
        let stats = scene.stats();
        let peers = stats["peers"].as_array().expect("peers");
        let peer = peers.iter().find(|peer| peer["address"] == address);
        peer.is_some_and(|peer| peer["received_packets"].as_u64() > Some(0))
    });
}

/// The default: a stranger is not heard, and nobody is relayed who is no peer. While the leases are unknown,
/// strangers are heard a little.
#[test]
fn hosts_without_a_lease_are_not_heard_by_default() {
    let Some(_exclusive) = exclusive() else { return };
    let mut scene = Scene::new(&[]);
    let (here, victim) = (scene.here(), scene.lab.endpoint(1).address);
    scene.forge(EARLY, here);
    assert!(!scene.arrives(), "a stranger has no grace");
    scene.foretells("dropped", &["fails, dropped", "only a host that has a lease"]);
    let line = "no host with a lease sends from that address and port (--source-check=peers; \
                --source-check=log";
    wait_for("a line about it", Duration::from_secs(4), || scene.lab.log(0).contains(line));
    let meaning = "no host with a lease sends from that address and port";
    row("journalctl -u flannel-udp", meaning, &scene.lab.log(0));
    scene.leases_early_to_the_forger();
    scene.forge(victim, here);
    assert!(scene.arrives(), "hosts with a lease may disagree");
    let before = scene.mismatches_dropped();
    scene.forge(Ipv4Addr::new(192, 0, 2, 9), victim);
    wait_for("the relayed packet to be dropped", Duration::from_secs(3), || {
        scene.mismatches_dropped() == before + 1
    });
    let line = "outside this host's subnet needs a source in another host's lease";
    wait_for("a line about it", Duration::from_secs(4), || scene.lab.log(0).contains(line));

    scene.lab.etcd().expect("etcd").stop().expect("stopping it");
    wait_for("the loss to be noticed", Duration::from_secs(20), || {
        scene.lab.log(0).contains("lost contact with the lease store")
    });
    let [forger, daemon] = [2, 0].map(|host| scene.lab.host(host).address());
    let program = net::udp(scene.lab.host(2).netns(), forger);
    let send = |source, destination| {
        let packet = Ip::new(source, destination, UDP).udp((9, PORT), b"forged");
        program.send_to(&packet, (daemon, 8285)).expect("a datagram");
    };
    let unknown = Ipv4Addr::new(10, 0, 98, 2);
    send(unknown, here);
    assert!(scene.arrives(), "anybody may be a peer now");
    send(victim, here);
    assert!(!scene.arrives(), "a peer's addresses are its own");
    let before = scene.mismatches_dropped();
    send(unknown, victim);
    wait_for("the relayed packet to be dropped", Duration::from_secs(3), || {
        scene.mismatches_dropped() == before + 1
    });
    wait_for("the budget to be spent", Duration::from_secs(20), || {
        (0..10_000).for_each(|_| send(unknown, here));
        scene.lab.log(0).contains("too many packets come from unknown hosts")
    });
}

/// Enforce means enforce: a sender is the daemon of a host that has a lease, or nobody.
#[test]
fn an_enforced_check_takes_from_peers_daemons_alone() {
    let Some(_exclusive) = exclusive() else { return };
    let mut scene = Scene::new(&["--source-check=enforce", "--destination-check=enforce"]);
    let here = scene.here();
    for _ in 0..3 {
        scene.forge(EARLY, here);
    }
    assert!(!scene.arrives(), "a stranger has no grace");
    scene.foretells("dropped", &["fails, dropped", "only a host that has a lease"]);
    scene.leases_early_to_the_forger();
    // From the port of the network as stock flanneld does, from no other.
    let packet = Ip::new(EARLY, here, UDP).udp((9, PORT), b"forged");
    let [forger, daemon] = [2, 0].map(|host| scene.lab.host(host).address());
    let program = net::udp(scene.lab.host(2).netns(), forger);
    let from_program = || program.send_to(&packet, (daemon, 8285)).expect("a datagram");
    from_program();
    assert!(!scene.arrives(), "from another port");
    let line = format!("belongs to the lease of {forger}, whose daemon sends from another port");
    wait_for("a line about it", Duration::from_secs(4), || scene.lab.log(0).contains(&line));

    scene.lab.etcd().expect("etcd").stop().expect("stopping it");
    wait_for("the loss to be noticed", Duration::from_secs(20), || {
        scene.lab.log(0).contains("lost contact with the lease store")
    });
    let unknown = Ipv4Addr::new(10, 0, 98, 2);
    // Longer than any sender's own grace.
    for _ in 0..12 {
        scene.forge(unknown, here);
        assert!(scene.arrives(), "the peer may have moved");
        std::thread::sleep(Duration::from_millis(500));
    }
    let packet = Ip::new(unknown, here, UDP).udp((9, PORT), b"forged");
    program.send_to(&packet, (daemon, 8285)).expect("a datagram");
    assert!(!scene.arrives(), "a stranger");
    scene.forge(scene.lab.endpoint(1).address, here);
    assert!(!scene.arrives(), "a peer's addresses are its own");
}

#[test]
fn a_foreign_destination_is_passed_named_or_dropped() {
    let Some(_exclusive) = exclusive() else { return };
    for (flags, counted, dropped) in [
        (&[][..], 0, 0),
        (&["--destination-check=log"], 1, 0),
        (&["--destination-check=enforce"], 1, 1),
    ] {
        let mut scene = Scene::new(flags);
        scene.leases_early_to_the_forger();
        let here = scene.here();
        let elsewhere = scene.lab.endpoint(1).address;
        scene.forge(EARLY, elsewhere);
        wait_for("the packet to be counted", Duration::from_secs(3), || {
            let ingress = scene.stats()["ingress"].clone();
            ingress["destination_mismatches"] == counted
                && ingress["drops"]["destination-mismatch"] == dropped
        });
        let recent = scene.recent();
        assert_eq!(recent.len() as u64, counted, "{flags:?} {recent:?}");
        let line = format!("inner destination that is not in this host's subnet: {elsewhere}");
        assert_eq!(scene.lab.log(0).contains(&line), counted > 0, "{flags:?}");
        // From a known lease to our own subnet: fine with every mode.
        while scene.arrives() {}
        scene.forge(EARLY, here);
        assert!(scene.arrives(), "{flags:?}");
    }
}

impl Scene {
    fn new(flags: &[&str]) -> Self {
        let mut lab = TestLab::build(Lab::builder().hosts(3));
        lab.start_etcd(2, lab::CONFIG).expect("etcd");
        lab.join(0, flags);
        lab.join(1, &[]);
        lab.meet(0, 1);
        let forger = PlainPeer::open(&lab, 2, 0);
        let endpoint = lab.endpoint(0);
        let inside =
            net::udp_at(endpoint.netns, std::net::SocketAddrV4::new(endpoint.address, PORT));
        inside.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        Self { lab, forger, inside }
    }

    /// The address of the container behind the daemon.
    fn here(&self) -> Ipv4Addr {
        self.lab.endpoint(0).address
    }

    /// Sends the daemon a packet that claims to be from `source`.
    fn forge(&self, source: Ipv4Addr, destination: Ipv4Addr) {
        self.forger.send(&Ip::new(source, destination, UDP).udp((9, PORT), b"forged"));
    }

    /// Gives the forger the lease that holds [`EARLY`], and waits until the daemon knows it.
    fn leases_early_to_the_forger(&mut self) {
        let address = self.lab.host(2).address();
        self.lab.put(&lease_key("10.0.99.0-24"), &lease_value(address)).expect("the lease");
        wait_for("the lease to be known", Duration::from_secs(3), || {
            let peers = self.stats()["peers"].clone();
            peers.as_array().is_some_and(|peers| peers.len() == 2)
        });
        self.forge(EARLY, self.here());
        assert!(self.arrives(), "from its lease");
    }

    /// Whether a packet comes to the container.
    fn arrives(&self) -> bool {
        self.inside.recv(&mut [0; 64]).is_ok()
    }

    /// What `explain` says of such a packet from the forger.
    #[track_caller]
    fn foretells(&self, outcome: &str, words: &[&str]) {
        let [source, here] = [EARLY, self.here()].map(|address| address.to_string());
        let from = self.lab.host(2).address().to_string();
        let way = inspect::json(&self.lab, 0, &["explain", &source, &here, "--from", &from]);
        let received = &way["received"];
        assert_eq!(received["outcome"], outcome, "{received:#}");
        let check = received["source_check"].as_str().expect("words");
        assert!(words.iter().all(|word| check.contains(word)), "{words:?} in {check}");
    }

    fn stats(&mut self) -> serde_json::Value {
        self.lab.host_mut(0).daemon_mut().expect("a daemon").stats().expect("its counters")
    }

    fn mismatches_dropped(&mut self) -> u64 {
        self.stats()["ingress"]["drops"]["source-mismatch"].as_u64().expect("a count")
    }

    fn recent(&mut self) -> Vec<RecentMismatch> {
        serde_json::from_value(self.stats()["mismatches"].clone()).expect("mismatches")
    }
}

/// An address of the overlay in nobody's lease.
const EARLY: Ipv4Addr = Ipv4Addr::new(10, 0, 99, 2);

const PORT: u16 = 7_777;
