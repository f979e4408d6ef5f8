use super::*;
use crate::route::{RouteTable, table};
use crate::subnet::LeaseId;

struct TestTable {
    peers: Peers,
    table: Arc<RouteTable>,
}

fn test_table() -> TestTable {
    let config = NetworkConfig::parse(br#"{"Network":"10.0.0.0/16"}"#).unwrap();
    let (writer, table) = table(config.network, config.subnet_len);
    let own = "10.0.1.0/24".parse().unwrap();
    TestTable { peers: Peers::new(&config, writer, own, Ipv4Addr::new(192, 168, 0, 1)), table }
}

fn put(name: &str, value: &str, revision: i64) -> StoreRecord {
    StoreRecord {
        name: name.into(),
        value: value.into(),
        revision,
        lease: Some(LeaseId(7)),
        fault: None,
    }
}

fn peer(name: &str, host: u8, revision: i64) -> StoreRecord {
    let value = LeaseValue::new(Ipv4Addr::new(192, 168, 0, host)).encode();
    put(name, std::str::from_utf8(&value).unwrap(), revision)
}

impl TestTable {
    fn put(&mut self, record: StoreRecord) {
        self.peers.apply(&[StoreChange::Put(record)]);
    }

    fn delete(&mut self, name: &str) {
        self.peers.apply(&[StoreChange::Delete { name: name.into(), revision: 0 }]);
    }

    fn hop(&self, address: &str) -> Option<u8> {
        let hop = self.table.lookup(address.parse().unwrap())?;
        assert_eq!(hop.port, 8285);
        Some(hop.ip.octets()[3])
    }
}

/// A row per effect that an etcd change has on routes.
#[test]
fn changes_become_routes() {
    let mut test = test_table();
    test.put(peer("10.0.7.0-24", 7, 1));
    assert_eq!(test.hop("10.0.7.9"), Some(7));
    test.put(peer("10.0.7.0-24", 8, 2));
    assert_eq!(test.hop("10.0.7.9"), Some(8), "a changed public IP replaces the next hop");
    test.put(peer("10.0.128.0-17", 9, 3));
    assert_eq!(test.hop("10.0.200.1"), Some(9), "another prefix length is a route too");
    test.put(peer("10.0.200.0-24", 10, 4));
    assert_eq!(test.hop("10.0.200.1"), Some(10), "the longest prefix wins");
    test.delete("10.0.200.0-24");
    assert_eq!(test.hop("10.0.200.1"), Some(9));
    test.delete("10.0.222.0-24");
    assert_eq!(test.peers.routes(), 2, "removing what is unknown changes nothing");
}

#[test]
fn an_invalid_entry_changes_no_other_route() {
    let mut test = test_table();
    test.put(peer("10.0.7.0-24", 7, 1));
    for (name, value) in [
        ("10.0.8.0-24", "garbage"),
        ("10.0.8.0-24", r#"{"PublicIP":null}"#),
        ("10.0.8.0-24", "{}"),
        ("10.0.8.0-24", r#"{"PublicIP":"192.168.0.9","BackendType":"vxlan"}"#),
        ("bogus", r#"{"PublicIP":"192.168.0.9"}"#),
        ("10.0.8.0-32", r#"{"PublicIP":"192.168.0.9"}"#),
        ("172.16.0.0-24", r#"{"PublicIP":"192.168.0.9"}"#),
        ("10.0.0.0-8", r#"{"PublicIP":"192.168.0.9"}"#),
    ] {
        test.put(put(name, value, 2));
        assert_eq!(test.peers.skipped(), 1, "{name} {value}");
        assert_eq!((test.peers.routes(), test.hop("10.0.7.1")), (1, Some(7)));
        test.delete(name);
        assert_eq!(test.peers.skipped(), 0);
    }
    // A valid value over an invalid one restores the route; an invalid value over a valid one
    // removes that route only.
    test.put(put("10.0.8.0-24", "garbage", 3));
    test.put(peer("10.0.8.0-24", 8, 4));
    assert_eq!(test.hop("10.0.8.1"), Some(8));
    test.put(put("10.0.8.0-24", "garbage", 5));
    assert_eq!((test.hop("10.0.8.1"), test.hop("10.0.7.1")), (None, Some(7)));
}

#[test]
fn a_list_replaces_all_entries() {
    let mut test = test_table();
    test.peers.reset(&[peer("10.0.7.0-24", 7, 1), peer("10.0.8.0-24", 8, 2), put("x", "", 3)]);
    assert_eq!((test.peers.routes(), test.peers.skipped()), (2, 1));
    test.peers.reset(&[peer("10.0.8.0-24", 9, 5), peer("10.0.9.0-24", 9, 6)]);
    assert_eq!(test.hop("10.0.7.1"), None, "what is absent is gone");
    assert_eq!(test.hop("10.0.8.1"), Some(9), "a changed value is seen, not only a new name");
    assert_eq!(test.hop("10.0.9.1"), Some(9));
    assert_eq!(test.peers.skipped(), 0);
}

#[test]
fn own_entries_are_no_routes() {
    let mut test = test_table();
    test.put(peer("10.0.1.0-24", 1, 1));
    test.put(peer("10.0.5.0-24", 1, 2));
    assert_eq!((test.peers.routes(), test.peers.skipped()), (0, 0), "never a route to ourselves");
    test.put(peer("10.0.1.0-24", 2, 3));
    assert_eq!(test.peers.routes(), 0, "nor one for the subnet that we serve");
    test.peers.set_own("10.0.2.0/24".parse().unwrap(), Ipv4Addr::new(192, 168, 0, 1));
    assert_eq!(test.hop("10.0.1.1"), Some(2), "until it is another's");
    assert_eq!(test.peers.peers()[0].key, "10.0.1.0-24");
}

#[test]
fn two_names_of_one_subnet() {
    let mut test = test_table();
    test.put(peer("10.0.7.5-24", 5, 9));
    assert_eq!(test.hop("10.0.7.1"), Some(5), "an unaligned name is masked");
    test.put(peer("10.0.7.0-24", 7, 1));
    assert_eq!(test.hop("10.0.7.1"), Some(7), "the canonical name wins");
    test.delete("10.0.7.0-24");
    assert_eq!(test.hop("10.0.7.1"), Some(5), "and leaves the other behind");
    test.put(peer("10.0.7.0-24&fc00::-64", 6, 10));
    assert_eq!(test.hop("10.0.7.1"), Some(6), "else the one written last");
    test.delete("10.0.7.0-24&fc00::-64");
    test.delete("10.0.7.5-24");
    assert_eq!(test.peers.routes(), 0);
}

#[test]
fn peers_are_shared_until_they_change() {
    let mut test = test_table();
    test.put(peer("10.0.7.0-24", 7, 1));
    let before = test.peers.peers();
    test.put(peer("10.0.7.0-24", 7, 2));
    assert!(Arc::ptr_eq(&before, &test.peers.peers()), "a renewal is no change");
}

/// Verdicts that find these next hops in the overlay network, and those good.
fn verdicts(bad: &[u8], good: &[u8]) -> HopVerdicts {
    let hop = |host: &u8| Ipv4Addr::new(192, 168, 0, *host);
    let decided = bad.iter().map(|h| (hop(h), true)).chain(good.iter().map(|h| (hop(h), false)));
    HopVerdicts {
        suspect: vec!["192.168.0.0/28".parse().unwrap()],
        enters_overlay: decided.collect(),
        own: [Ipv4Addr::new(192, 168, 0, 99)].into(),
    }
}

#[test]
fn a_lease_is_withheld_until_its_next_hop_is_known_to_be_usable() {
    let mut test = test_table();
    test.peers.apply_verdicts(verdicts(&[], &[]));
    for (name, host) in [("10.0.7.0-24", 7), ("10.0.8.0-24", 8), ("10.0.77.0-24", 77)] {
        test.put(peer(name, host, 1));
    }
    assert_eq!(test.hop("10.0.77.1"), Some(77), "no suspect");
    assert_eq!((test.hop("10.0.7.1"), test.hop("10.0.8.1")), (None, None), "not checked yet");
    assert!(test.peers.awaits_verdict() && test.peers.withheld().is_empty());
    let asked: Vec<u8> = test.peers.questions().iter().map(|hop| hop.octets()[3]).collect();
    assert_eq!(asked, [7, 8]);

    test.peers.apply_verdicts(verdicts(&[7], &[8]));
    assert_eq!((test.hop("10.0.7.1"), test.hop("10.0.8.1")), (None, Some(8)));
    assert!(!test.peers.awaits_verdict());
    let withheld = test.peers.withheld();
    assert_eq!(withheld.len(), 1);
    assert_eq!(
        (withheld[0].subnet.to_string(), withheld[0].why),
        ("10.0.7.0/24".into(), Withheld::IntoOverlay)
    );
    assert_eq!(test.peers.peers().len(), 2, "peers are those with a route");

    // The routes of the kernel change.
    test.peers.apply_verdicts(verdicts(&[8], &[7]));
    assert_eq!((test.hop("10.0.7.1"), test.hop("10.0.8.1")), (Some(7), None));
    // A lease moves to a next hop of this host itself, and then to a good one.
    test.put(peer("10.0.8.0-24", 99, 2));
    assert_eq!(test.hop("10.0.8.1"), None);
    assert_eq!(test.peers.withheld()[0].why, Withheld::OwnAddress);
    test.put(peer("10.0.8.0-24", 7, 3));
    assert_eq!((test.hop("10.0.8.1"), test.peers.withheld().len()), (Some(7), 0));
    test.peers.apply_verdicts(verdicts(&[7], &[]));
    test.delete("10.0.7.0-24");
    test.delete("10.0.8.0-24");
    assert_eq!((test.peers.withheld().len(), test.peers.routes()), (0, 1));
}
