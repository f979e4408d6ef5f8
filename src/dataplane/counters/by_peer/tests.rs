use super::*;
use crate::dataplane::DropReason;
use crate::route::{Cidr, NextHop, RouteWriter, table};

struct Fixture {
    writer: RouteWriter,
    routes: Arc<RouteTable>,
    accounts: Accounts,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        let (writer, routes) = table("10.0.0.0/16".parse().unwrap(), 24);
        let mut fixture =
            Self { writer, routes, accounts: Accounts::default(), now: Instant::now() };
        fixture.start();
        fixture
    }

    /// Two threads, as a new data plane has.
    fn start(&mut self) {
        let threads = [ThreadCounters::new(true, false), ThreadCounters::new(false, true)];
        self.accounts.threads.extend(threads.map(Arc::new));
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

    fn index(&self, n: u8) -> PeerIndex {
        self.routes.route(Self::subnet(n).network()).expect("a route").peer
    }

    /// Packets of 100 bytes to and from `peer`.
    fn carry(&self, peer: PeerIndex, sent: u64, received: u64) {
        self.accounts.threads[0].egress.carry(peer, sent, sent * 100);
        self.accounts.threads[1].ingress.carry(peer, received, received * 100);
    }

    /// Lets `seconds` pass and samples; if `running`, each thread begins another round.
    fn advance(&mut self, seconds: u64, running: bool) {
        self.now += Duration::from_secs(seconds);
        if running {
            self.accounts.threads.iter().for_each(|thread| thread.rounds.add(1));
        }
        self.accounts.sample(&self.routes, self.now);
    }

    /// The last byte of each listed address, and packets sent and received.
    fn listed(&self) -> Vec<(u8, u64, u64)> {
        let mut listed: Vec<_> = self
            .accounts
            .by_index
            .values()
            .map(|account| account.traffic(self.now))
            .map(|peer| (peer.address.octets()[3], peer.sent_packets, peer.received_packets))
            .collect();
        listed.sort_unstable();
        listed
    }
}

#[test]
fn each_peer_has_its_own_counters_and_times() {
    let mut fixture = Fixture::new();
    fixture.join(1);
    fixture.join(2);
    fixture.carry(fixture.index(1), 3, 0);
    fixture.carry(fixture.index(2), 0, 4);
    fixture.carry(PeerIndex::UNATTRIBUTED, 0, 5);
    fixture.advance(1, true);
    fixture.advance(2, true);
    assert_eq!(fixture.listed(), [(1, 3, 0), (2, 0, 4)]);
    let one = fixture.accounts.by_index[&fixture.index(1)].traffic(fixture.now);
    assert_eq!((one.sent_bytes, one.last_received), (300, None));
    assert_eq!(one.last_sent, Some(Duration::from_secs(2)));
    assert_eq!(fixture.accounts.total(PeerIndex::UNATTRIBUTED).received_packets, 5);
}

#[test]
fn counters_outlive_a_data_plane() {
    let mut fixture = Fixture::new();
    fixture.join(1);
    for plane in 1..=3 {
        fixture.carry(fixture.index(1), 10, 1);
        fixture.carry(PeerIndex::OVERFLOW, 0, 1);
        let routes = Arc::clone(&fixture.routes);
        fixture.accounts.finish_threads(&routes);
        fixture.accounts.finish_threads(&routes);
        fixture.advance(1, true);
        assert_eq!(fixture.listed(), [(1, 10 * plane, plane)]);
        assert_eq!(fixture.accounts.total(PeerIndex::OVERFLOW).received_packets, plane);
        fixture.start();
    }
}

#[test]
fn unsent_packets_are_counted_by_peer() {
    let mut fixture = Fixture::new();
    fixture.join(1);
    fixture.join(2);
    let count_unsent = |fixture: &Fixture, n, packets| {
        let egress = &fixture.accounts.threads[0].egress;
        egress.unsent(DropReason::SendRefused, fixture.index(n), packets);
    };
    fixture.carry(fixture.index(1), 9, 0);
    count_unsent(&fixture, 1, 3);
    fixture.advance(1, true);
    let one =
        |fixture: &Fixture, n| fixture.accounts.by_index[&fixture.index(n)].traffic(fixture.now);
    assert_eq!((one(&fixture, 1).unsent_packets, one(&fixture, 1).send_loss()), (3, Some(0.25)));
    assert_eq!((one(&fixture, 2).unsent_packets, one(&fixture, 2).send_loss()), (0, None));
    // The next data plane continues the count, and another peer with the index begins at zero.
    let routes = Arc::clone(&fixture.routes);
    fixture.accounts.finish_threads(&routes);
    fixture.start();
    count_unsent(&fixture, 1, 1);
    fixture.advance(1, true);
    assert_eq!(one(&fixture, 1).unsent_packets, 4);
    fixture.leave(1);
    fixture.advance(1, true);
    fixture.advance(KEPT.as_secs(), true);
    assert_eq!(fixture.accounts.departed.unsent_packets, 4);
    fixture.join(3);
    fixture.advance(1, true);
    assert_eq!(one(&fixture, 3).unsent_packets, 0);
}

#[test]
fn a_peer_that_comes_back_keeps_its_counters() {
    let mut fixture = Fixture::new();
    fixture.join(1);
    fixture.carry(fixture.index(1), 7, 7);
    fixture.leave(1);
    fixture.advance(1, true);
    fixture.advance(KEPT.as_secs() - 1, true);
    fixture.join(1);
    fixture.leave(1);
    fixture.advance(1, true);
    fixture.advance(KEPT.as_secs() - 1, true);
    assert_eq!(fixture.listed(), [(1, 7, 7)], "the minute begins anew when it leaves again");
}

#[test]
fn an_index_is_reused_with_its_counters_at_zero() {
    let mut fixture = Fixture::new();
    fixture.join(1);
    let index = fixture.index(1);
    fixture.carry(index, 7, 8);
    fixture.leave(1);
    fixture.advance(1, true);
    fixture.advance(KEPT.as_secs(), false);
    assert_eq!(fixture.listed(), [(1, 7, 8)], "a thread may still hold the index");
    fixture.join(2);
    assert_ne!(fixture.index(2), index);
    fixture.advance(1, true);
    assert_eq!(fixture.listed(), [(2, 0, 0)]);
    assert_eq!(fixture.accounts.departed, Traffic::new((7, 700), (8, 800), 0));
    fixture.join(3);
    assert_eq!(fixture.index(3), index);
    fixture.carry(index, 1, 1);
    fixture.advance(1, true);
    assert_eq!(fixture.listed(), [(2, 0, 0), (3, 1, 1)]);
    let routes = Arc::clone(&fixture.routes);
    fixture.accounts.finish_threads(&routes);
    fixture.start();
    fixture.carry(index, 1, 1);
    fixture.advance(1, true);
    assert_eq!(fixture.listed(), [(2, 0, 0), (3, 2, 2)]);
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
        fragments_of: None,
        last_sent: Some(Duration::from_millis(1_500)),
        last_received: None,
    };
    let text = serde_json::to_string(&peer).unwrap();
    assert!(text.ends_with(r#""last_sent":1.5,"last_received":null}"#), "{text}");
    assert_eq!(serde_json::from_str::<PeerTraffic>(&text).unwrap(), peer);
    // The statistics of an older daemon lack the field.
    let older = text.replace(r#""unsent_packets":5,"#, "");
    assert_eq!(serde_json::from_str::<PeerTraffic>(&older).unwrap().unsent_packets, 0);
}
