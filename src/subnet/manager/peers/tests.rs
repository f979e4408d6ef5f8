use super::*;
use crate::route::{RouteTable, table};
use crate::subnet::LeaseId;

struct Bed {
    peers: Peers,
    table: Arc<RouteTable>,
}

fn bed() -> Bed {
    let config = NetworkConfig::parse(br#"{"Network":"10.0.0.0/16"}"#).unwrap();
    let (writer, table) = table(config.network, config.subnet_len);
    let own = "10.0.1.0/24".parse().unwrap();
    Bed { peers: Peers::new(&config, writer, own, Ipv4Addr::new(192, 168, 0, 1)), table }
}

fn put(name: &str, value: &str, revision: i64) -> Record {
    Record { name: name.into(), value: value.into(), revision, lease: Some(LeaseId(7)) }
}

fn peer(name: &str, host: u8, revision: i64) -> Record {
    let value = LeaseValue::new(Ipv4Addr::new(192, 168, 0, host)).encode();
    put(name, std::str::from_utf8(&value).unwrap(), revision)
}

impl Bed {
    fn put(&mut self, record: Record) {
        self.peers.apply(&[Change::Put(record)]);
    }

    fn delete(&mut self, name: &str) {
        self.peers.apply(&[Change::Delete { name: name.into(), revision: 0 }]);
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
    let mut bed = bed();
    bed.put(peer("10.0.7.0-24", 7, 1));
    assert_eq!(bed.hop("10.0.7.9"), Some(7));
    bed.put(peer("10.0.7.0-24", 8, 2));
    assert_eq!(bed.hop("10.0.7.9"), Some(8), "a changed public IP replaces the next hop");
    bed.put(peer("10.0.128.0-17", 9, 3));
    assert_eq!(bed.hop("10.0.200.1"), Some(9), "another prefix length is a route too");
    bed.put(peer("10.0.200.0-24", 10, 4));
    assert_eq!(bed.hop("10.0.200.1"), Some(10), "the longest prefix wins");
    bed.delete("10.0.200.0-24");
    assert_eq!(bed.hop("10.0.200.1"), Some(9));
    bed.delete("10.0.222.0-24");
    assert_eq!(bed.peers.routes(), 2, "removing what is unknown changes nothing");
}

#[test]
fn junk_changes_nobodys_routes() {
    let mut bed = bed();
    bed.put(peer("10.0.7.0-24", 7, 1));
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
        bed.put(put(name, value, 2));
        assert_eq!(bed.peers.skipped(), 1, "{name} {value}");
        assert_eq!((bed.peers.routes(), bed.hop("10.0.7.1")), (1, Some(7)));
        bed.delete(name);
        assert_eq!(bed.peers.skipped(), 0);
    }
    // A good value over a bad one heals, a bad value over a good one costs that route only.
    bed.put(put("10.0.8.0-24", "garbage", 3));
    bed.put(peer("10.0.8.0-24", 8, 4));
    assert_eq!(bed.hop("10.0.8.1"), Some(8));
    bed.put(put("10.0.8.0-24", "garbage", 5));
    assert_eq!((bed.hop("10.0.8.1"), bed.hop("10.0.7.1")), (None, Some(7)));
}

#[test]
fn a_list_is_the_whole_truth() {
    let mut bed = bed();
    bed.peers.reset(&[peer("10.0.7.0-24", 7, 1), peer("10.0.8.0-24", 8, 2), put("x", "", 3)]);
    assert_eq!((bed.peers.routes(), bed.peers.skipped()), (2, 1));
    bed.peers.reset(&[peer("10.0.8.0-24", 9, 5), peer("10.0.9.0-24", 9, 6)]);
    assert_eq!(bed.hop("10.0.7.1"), None, "what is absent is gone");
    assert_eq!(bed.hop("10.0.8.1"), Some(9), "a changed value is seen, not only a new name");
    assert_eq!(bed.hop("10.0.9.1"), Some(9));
    assert_eq!(bed.peers.skipped(), 0);
}

#[test]
fn own_entries_are_no_routes() {
    let mut bed = bed();
    bed.put(peer("10.0.1.0-24", 1, 1));
    bed.put(peer("10.0.5.0-24", 1, 2));
    assert_eq!((bed.peers.routes(), bed.peers.skipped()), (0, 0), "never a route to ourselves");
    bed.put(peer("10.0.1.0-24", 2, 3));
    assert_eq!(bed.peers.routes(), 0, "nor one for the subnet that we serve");
    bed.peers.set_own("10.0.2.0/24".parse().unwrap(), Ipv4Addr::new(192, 168, 0, 1));
    assert_eq!(bed.hop("10.0.1.1"), Some(2), "until it is another's");
    assert_eq!(bed.peers.peers()[0].key, "10.0.1.0-24");
}

#[test]
fn two_names_of_one_subnet() {
    let mut bed = bed();
    bed.put(peer("10.0.7.5-24", 5, 9));
    assert_eq!(bed.hop("10.0.7.1"), Some(5), "an unaligned name is masked");
    bed.put(peer("10.0.7.0-24", 7, 1));
    assert_eq!(bed.hop("10.0.7.1"), Some(7), "the canonical name wins");
    bed.delete("10.0.7.0-24");
    assert_eq!(bed.hop("10.0.7.1"), Some(5), "and leaves the other behind");
    bed.put(peer("10.0.7.0-24&fc00::-64", 6, 10));
    assert_eq!(bed.hop("10.0.7.1"), Some(6), "else the one written last");
    bed.delete("10.0.7.0-24&fc00::-64");
    bed.delete("10.0.7.5-24");
    assert_eq!(bed.peers.routes(), 0);
}

#[test]
fn peers_are_shared_until_they_change() {
    let mut bed = bed();
    bed.put(peer("10.0.7.0-24", 7, 1));
    let before = bed.peers.peers();
    bed.put(peer("10.0.7.0-24", 7, 2));
    assert!(Arc::ptr_eq(&before, &bed.peers.peers()), "a renewal is no change");
}
