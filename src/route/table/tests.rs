use proptest::prelude::*;

use super::*;

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn hop(n: u8) -> NextHop {
    NextHop { ip: Ipv4Addr::new(192, 168, 0, n), port: 8285 }
}

fn addr(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

#[test]
fn equal_leases() {
    let (mut writer, table) = table(cidr("10.0.0.0/16"), 24);
    assert_eq!(table.lookup(addr("10.0.1.1")), None);
    writer.insert(cidr("10.0.1.0/24"), hop(1)).unwrap();
    writer.insert(cidr("10.0.2.0/24"), hop(2)).unwrap();
    assert_eq!(table.lookup(addr("10.0.1.0")), Some(hop(1)));
    assert_eq!(table.lookup(addr("10.0.1.255")), Some(hop(1)));
    assert_eq!(table.lookup(addr("10.0.2.7")), Some(hop(2)));
    assert_eq!(table.lookup(addr("10.0.3.7")), None);
    assert_eq!(table.lookup(addr("10.1.1.1")), None);
    assert_eq!(writer.insert(cidr("10.0.1.0/24"), hop(3)), Ok(Some(hop(1))));
    assert_eq!(table.lookup(addr("10.0.1.9")), Some(hop(3)));
    assert_eq!(writer.remove(cidr("10.0.1.0/24")), Some(hop(3)));
    assert_eq!(table.lookup(addr("10.0.1.9")), None);
    assert_eq!(table.len(), 1);
}

#[test]
fn longest_prefix_wins_in_any_order_of_insertion() {
    let prefixes =
        ["10.0.0.0/17", "10.0.1.0/24", "10.0.1.128/25", "10.0.1.130/31", "10.0.1.130/32"];
    for rotation in 0..prefixes.len() {
        let (mut writer, table) = table(cidr("10.0.0.0/16"), 24);
        for i in 0..prefixes.len() {
            let i = (i + rotation) % prefixes.len();
            writer.insert(cidr(prefixes[i]), hop(i as u8)).unwrap();
        }
        assert_eq!(table.lookup(addr("10.0.2.1")), Some(hop(0)));
        assert_eq!(table.lookup(addr("10.0.1.1")), Some(hop(1)));
        assert_eq!(table.lookup(addr("10.0.1.129")), Some(hop(2)));
        assert_eq!(table.lookup(addr("10.0.1.131")), Some(hop(3)));
        assert_eq!(table.lookup(addr("10.0.1.130")), Some(hop(4)));
        assert_eq!(table.lookup(addr("10.0.128.1")), None);
    }
}

#[test]
fn outside_the_network_is_refused() {
    let (mut writer, table) = table(cidr("10.0.0.0/16"), 24);
    for prefix in ["172.16.0.0/24", "10.0.0.0/15", "0.0.0.0/0"] {
        assert!(writer.insert(cidr(prefix), hop(1)).is_err(), "{prefix}");
    }
    assert!(table.is_empty());
}

#[test]
fn extreme_layouts() {
    for (network, subnet_len) in
        [("0.0.0.0/0", 24), ("10.0.0.0/8", 30), ("10.0.0.0/28", 30), ("10.1.2.3/32", 32)]
    {
        let network = cidr(network);
        let (mut writer, table) = table(network, subnet_len);
        writer.insert(Cidr::new(network.last(), 32), hop(1)).unwrap();
        assert_eq!(table.lookup(network.last()), Some(hop(1)), "{network}");
        writer.insert(network, hop(2)).unwrap();
        assert!(writer.remove(Cidr::new(network.last(), 32)).is_some());
        if network.len() < 32 {
            assert_eq!(table.lookup(network.last()), Some(hop(2)), "{network}");
            assert_eq!(table.lookup(network.network()), Some(hop(2)), "{network}");
        }
    }
}

/// Readers run while the writer flips a route between two hops: they see one or the other.
#[test]
fn readers_see_old_or_new() {
    let (mut writer, table) = table(cidr("10.0.0.0/16"), 24);
    writer.insert(cidr("10.0.0.0/16"), hop(9)).unwrap();
    writer.insert(cidr("10.0.1.0/26"), hop(0)).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while table.revision() < 20_000 {
                let found = table.lookup(addr("10.0.1.5")).expect("never without a route");
                assert!(found.ip.octets()[3] < 3 || found == hop(9), "{found}");
            }
        });
        for i in 0u32..20_000 {
            match i % 4 {
                0 => writer.insert(cidr("10.0.1.0/26"), hop(1)).map(|_| ()).unwrap(),
                1 => writer.remove(cidr("10.0.1.0/26")).map(|_| ()).unwrap(),
                2 => writer.insert(cidr("10.0.1.0/24"), hop(2)).map(|_| ()).unwrap(),
                _ => writer.remove(cidr("10.0.1.0/24")).map(|_| ()).unwrap(),
            }
        }
        reader.join().unwrap();
    });
}

proptest! {
    /// Any sequence of changes leaves the table equal to a slow model of longest-prefix match.
    #[test]
    fn agrees_with_a_model(
        subnet_len in 17u8..=30,
        steps in prop::collection::vec((any::<u16>(), 16u8..=32, 0u8..8, any::<bool>()), 1..60),
        probes in prop::collection::vec(any::<u16>(), 60),
    ) {
        let network = cidr("10.7.0.0/16");
        let (mut writer, table) = table(network, subnet_len);
        let mut model = prefix_trie::PrefixMap::<(u32, u8), NextHop>::new();
        let base = network.network().to_bits();
        let mut edges = vec![];
        for (low, len, n, add) in steps {
            let prefix = Cidr::new(Ipv4Addr::from_bits(base | u32::from(low)), len);
            let key = (prefix.network().to_bits(), len);
            if add {
                writer.insert(prefix, hop(n)).unwrap();
                model.insert(key, hop(n));
            } else {
                prop_assert_eq!(writer.remove(prefix), model.remove(&key));
            }
            edges.extend([prefix.network().to_bits(), prefix.last().to_bits()]);
        }
        for probe in probes.iter().map(|&low| base | u32::from(low)).chain(edges) {
            let expected = model.get_lpm(&(probe, 32)).map(|(_, hop)| *hop);
            prop_assert_eq!(table.lookup(Ipv4Addr::from_bits(probe)), expected);
        }
        prop_assert_eq!(table.len(), model.iter().count());
    }
}
