use super::*;
use crate::dataplane::DropReason;
use crate::route::{Cidr, NextHop, RouteWriter, table};

struct Bed {
    writer: RouteWriter,
    routes: Arc<RouteTable>,
    ledger: Ledger,
    now: Instant,
}

impl Bed {
    fn new() -> Self {
        let (writer, routes) = table("10.0.0.0/16".parse().unwrap(), 24);
        let mut bed = Self { writer, routes, ledger: Ledger::default(), now: Instant::now() };
        bed.start();
        bed
    }

    /// Two threads, as of a new data plane.
    fn start(&mut self) {
        let threads = [ThreadCounters::new(true, false), ThreadCounters::new(false, true)];
        self.ledger.threads.extend(threads.map(Arc::new));
    }

    fn subnet(n: u8) -> Cidr {
        Cidr::new(Ipv4Addr::new(10, 0, n, 0), 24)
    }

    fn join(&mut self, n: u8) {
        let hop = NextHop { ip: Ipv4Addr::new(192, 168, 0, n), port: 8285 };
        self.writer.insert(Self::subnet(n), hop).unwrap();
    }

    fn leave(&mut self, n: u8) {
        self.writer.remove(Self::subnet(n)).unwrap();
    }

    fn number(&self, n: u8) -> PeerIndex {
        self.routes.route(Self::subnet(n).network()).expect("a route").peer
    }

    /// Packets of 100 bytes to and from `peer`.
    fn carry(&self, peer: PeerIndex, sent: u64, received: u64) {
        self.ledger.threads[0].egress.carry(peer, sent, sent * 100);
        self.ledger.threads[1].ingress.carry(peer, received, received * 100);
    }

    /// Goes on by `seconds`; threads that `live` begin another round.
    fn pass(&mut self, seconds: u64, live: bool) {
        self.now += Duration::from_secs(seconds);
        if live {
            self.ledger.threads.iter().for_each(|thread| thread.rounds.add(1));
        }
        self.ledger.look(&self.routes, self.now);
    }

    /// The last byte of each listed address, and packets sent and received.
    fn listed(&self) -> Vec<(u8, u64, u64)> {
        let mut listed: Vec<_> = self
            .ledger
            .accounts
            .values()
            .map(|account| account.traffic(self.now))
            .map(|peer| (peer.address.octets()[3], peer.sent_packets, peer.received_packets))
            .collect();
        listed.sort_unstable();
        listed
    }
}

#[test]
fn each_peer_has_its_own_and_a_look_tells_when() {
    let mut bed = Bed::new();
    bed.join(1);
    bed.join(2);
    bed.carry(bed.number(1), 3, 0);
    bed.carry(bed.number(2), 0, 4);
    bed.carry(PeerIndex::UNATTRIBUTED, 0, 5);
    bed.pass(1, true);
    bed.pass(2, true);
    assert_eq!(bed.listed(), [(1, 3, 0), (2, 0, 4)]);
    let one = bed.ledger.accounts[&bed.number(1)].traffic(bed.now);
    assert_eq!((one.sent_bytes, one.last_received), (300, None));
    assert_eq!(one.last_sent, Some(Duration::from_secs(2)));
    assert_eq!(bed.ledger.total(PeerIndex::UNATTRIBUTED).received_packets, 5);
}

#[test]
fn counters_outlive_a_data_plane() {
    let mut bed = Bed::new();
    bed.join(1);
    for plane in 1..=3 {
        bed.carry(bed.number(1), 10, 1);
        bed.carry(PeerIndex::OVERFLOW, 0, 1);
        let routes = Arc::clone(&bed.routes);
        bed.ledger.part(&routes);
        bed.ledger.part(&routes);
        bed.pass(1, true);
        assert_eq!(bed.listed(), [(1, 10 * plane, plane)]);
        assert_eq!(bed.ledger.total(PeerIndex::OVERFLOW).received_packets, plane);
        bed.start();
    }
}

#[test]
fn what_the_kernel_did_not_send_is_its_peers() {
    let mut bed = Bed::new();
    bed.join(1);
    bed.join(2);
    let lose = |bed: &Bed, n, packets| {
        let egress = &bed.ledger.threads[0].egress;
        egress.unsent(DropReason::SendRefused, bed.number(n), packets);
    };
    bed.carry(bed.number(1), 9, 0);
    lose(&bed, 1, 3);
    bed.pass(1, true);
    let one = |bed: &Bed, n| bed.ledger.accounts[&bed.number(n)].traffic(bed.now);
    assert_eq!((one(&bed, 1).unsent_packets, one(&bed, 1).send_loss()), (3, Some(0.25)));
    assert_eq!((one(&bed, 2).unsent_packets, one(&bed, 2).send_loss()), (0, None));
    // The next data plane goes on with them, and another peer with the number begins anew.
    let routes = Arc::clone(&bed.routes);
    bed.ledger.part(&routes);
    bed.start();
    lose(&bed, 1, 1);
    bed.pass(1, true);
    assert_eq!(one(&bed, 1).unsent_packets, 4);
    bed.leave(1);
    bed.pass(1, true);
    bed.pass(KEPT.as_secs(), true);
    assert_eq!(bed.ledger.departed.unsent_packets, 4);
    bed.join(3);
    bed.pass(1, true);
    assert_eq!(one(&bed, 3).unsent_packets, 0);
}

#[test]
fn a_peer_that_comes_back_finds_its_counters() {
    let mut bed = Bed::new();
    bed.join(1);
    bed.carry(bed.number(1), 7, 7);
    bed.leave(1);
    bed.pass(1, true);
    bed.pass(KEPT.as_secs() - 1, true);
    bed.join(1);
    bed.leave(1);
    bed.pass(1, true);
    bed.pass(KEPT.as_secs() - 1, true);
    assert_eq!(bed.listed(), [(1, 7, 7)], "it left a second time, not a minute ago");
}

#[test]
fn a_number_goes_to_another_peer_with_nothing_on_it() {
    let mut bed = Bed::new();
    bed.join(1);
    let number = bed.number(1);
    bed.carry(number, 7, 8);
    bed.leave(1);
    bed.pass(1, true);
    bed.pass(KEPT.as_secs(), false);
    assert_eq!(bed.listed(), [(1, 7, 8)], "a thread may still hold the number");
    bed.join(2);
    assert_ne!(bed.number(2), number);
    bed.pass(1, true);
    assert_eq!(bed.listed(), [(2, 0, 0)]);
    assert_eq!(bed.ledger.departed, Traffic::new((7, 700), (8, 800), 0));
    bed.join(3);
    assert_eq!(bed.number(3), number);
    bed.carry(number, 1, 1);
    bed.pass(1, true);
    assert_eq!(bed.listed(), [(2, 0, 0), (3, 1, 1)]);
    let routes = Arc::clone(&bed.routes);
    bed.ledger.part(&routes);
    bed.start();
    bed.carry(number, 1, 1);
    bed.pass(1, true);
    assert_eq!(bed.listed(), [(2, 0, 0), (3, 2, 2)]);
}

#[test]
fn times_in_json_are_seconds() {
    let peer = PeerTraffic {
        address: Ipv4Addr::new(192, 168, 0, 1),
        sent_packets: 1,
        sent_bytes: 2,
        received_packets: 3,
        received_bytes: 4,
        unsent_packets: 5,
        last_sent: Some(Duration::from_millis(1_500)),
        last_received: None,
    };
    let text = serde_json::to_string(&peer).unwrap();
    assert!(text.ends_with(r#""last_sent":1.5,"last_received":null}"#), "{text}");
    assert_eq!(serde_json::from_str::<PeerTraffic>(&text).unwrap(), peer);
    // A daemon that does not know the count yet is understood.
    let older = text.replace(r#""unsent_packets":5,"#, "");
    assert_eq!(serde_json::from_str::<PeerTraffic>(&older).unwrap().unsent_packets, 0);
}
