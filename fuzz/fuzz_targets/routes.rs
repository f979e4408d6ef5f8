//! Operations on the route table against a map that is searched from end to end.
#![no_main]
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use arbitrary::Arbitrary;
use flannel_udp::route::{Cidr, NextHop, table};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Operation {
    Insert(u16, u8, u8),
    Remove(u16, u8),
    Lookup(u32),
}

fuzz_target!(|input: (u8, u8, Vec<Operation>)| {
    let network = Cidr::new(Ipv4Addr::new(10, 5, 0, 0), 8 + input.0 % 17);
    let subnet_len = (network.len() + input.1 % 12).min(30);
    let (mut writer, reader) = table(network, subnet_len);
    let mut model: BTreeMap<Cidr, NextHop> = BTreeMap::new();
    let prefix =
        |low: u16, len: u8| Cidr::new(Ipv4Addr::from_bits(0x0a05_0000 | u32::from(low)), len % 33);
    let check = |model: &BTreeMap<Cidr, NextHop>, address: Ipv4Addr| {
        let best = model.iter().filter(|(prefix, _)| prefix.contains(address));
        let best = best.max_by_key(|(prefix, _)| prefix.len()).map(|(_, hop)| *hop);
        assert_eq!(reader.lookup(address), best.filter(|_| network.contains(address)));
    };
    for operation in input.2.into_iter().take(300) {
        match operation {
            Operation::Insert(low, len, host) => {
                let (prefix, hop) =
                    (prefix(low, len), NextHop { ip: Ipv4Addr::new(192, 0, 2, host), port: 8285 });
                if let Ok(before) = writer.insert(prefix, hop) {
                    assert_eq!(before, model.insert(prefix, hop));
                }
                check(&model, prefix.network());
            }
            Operation::Remove(low, len) => {
                let prefix = prefix(low, len);
                assert_eq!(writer.remove(prefix), model.remove(&prefix));
                check(&model, prefix.network());
            }
            Operation::Lookup(bits) => {
                check(&model, Ipv4Addr::from_bits(0x0a05_0000 ^ (bits & 0x0003_ffff)))
            }
        }
    }
    assert_eq!(reader.len(), model.len());
});
