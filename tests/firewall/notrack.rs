//! The rules that keep the UDP port out of connection tracking, and what a flood does with and without them.

use std::net::{Ipv4Addr, UdpSocket};

use flannel_udp::host::firewall::RuleSpec;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Bench, each_flavour, spec};

fn untracked() -> RuleSpec {
    let socket = "127.0.0.1:8285".parse().unwrap();
    RuleSpec { notrack: Some(socket), masquerade: false, forward: false, ..spec() }
}

#[test]
fn rules_are_installed_restored_and_removed() {
    each_flavour(|bench| {
        let firewall = bench.install(untracked());
        let comment = "-m comment --comment \"flannel-udp notrack";
        let expected = [
            format!(
                "-A PREROUTING -d 127.0.0.1/32 -p udp -m udp --dport 8285 {comment} 10.0.0.0/16\" \
                 -j FLANNEL-NOTRACK"
            ),
            format!(
                "-A OUTPUT -s 127.0.0.1/32 -p udp -m udp --sport 8285 {comment} 10.0.0.0/16\" \
                 -j FLANNEL-NOTRACK"
            ),
            format!(
                "-A FLANNEL-NOTRACK -d 127.0.0.1/32 -p udp -m udp --dport 8285 {comment} 10.0.0.0/16\" \
                 -j CT --notrack"
            ),
            format!(
                "-A FLANNEL-NOTRACK -s 127.0.0.1/32 -p udp -m udp --sport 8285 {comment} 10.0.0.0/16\" \
                 -j CT --notrack"
            ),
        ];
        assert_eq!(bench.rules("raw"), expected);
        bench.run("iptables", &["-t", "raw", "-F", "FLANNEL-NOTRACK"]);
        let (repaired, firewall) = bench.check(firewall);
        assert!(repaired);
        let (again, _) = bench.check(firewall);
        assert!(!again);
        assert_eq!(bench.rules("raw"), expected);
        bench.install(RuleSpec { notrack: None, ..untracked() });
        assert!(!bench.run("iptables-save", &[]).contains("notrack"));
        bench.install(untracked());
        assert!(!bench.cleanup(false).is_empty());
        assert!(!bench.run("iptables-save", &[]).contains("NOTRACK"));
    });
    let Some(bench) = Bench::new("", true) else { return };
    let (repaired, _) = bench.check(bench.install(untracked()));
    assert!(!repaired);
    let listing = bench.run("nft", &["-s", "list", "ruleset"]);
    for rule in
        ["ip daddr 127.0.0.1 udp dport 8285 notrack", "ip saddr 127.0.0.1 udp sport 8285 notrack"]
    {
        assert!(listing.contains(rule), "{rule}\n{listing}");
    }
    assert_eq!(bench.cleanup(false).len(), 1);
    assert_eq!(bench.run("nft", &["list", "ruleset"]), "");
}

/// Datagrams from 1,000 forged addresses: an entry of the table for each, or none.
#[test]
fn a_flood_from_forged_addresses_takes_entries_unless_it_is_untracked() {
    let Some(bench) = Bench::new("iptables-nft", true) else { return };
    bench.block_on(async |_| {
        flannel_udp::lab::tool::run("ip", &["link", "set", "lo", "up"]).expect("loopback");
    });
    // Without a rule that asks for it the kernel tracks nothing.
    let tracked = "add table ip t; add chain ip t c { type filter hook input priority 0; }; \
                   add rule ip t c ct state invalid counter";
    bench.run("nft", &[tracked]);
    let flood = || {
        bench.netns.enter(|| {
            let _socket = UdpSocket::bind("127.0.0.1:8285").expect("the port");
            let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).expect("raw");
            let before = count();
            for n in 0..1_000_u32 {
                let source = Ipv4Addr::from_bits(0x7f01_0000 + n);
                let to = std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
                raw.send_to(&datagram(source), &to.into()).expect("a datagram");
            }
            count() - before
        })
    };
    let without = flood().expect("the namespace");
    bench.install(untracked());
    let with = flood().expect("the namespace");
    println!("entries: {without} without the rules, {with} with them");
    assert!(without >= 1_000, "{without}");
    assert_eq!(with, 0);
}

/// Entries of the namespace's table.
fn count() -> i64 {
    let path = "/proc/sys/net/netfilter/nf_conntrack_count";
    std::fs::read_to_string(path).expect("connection tracking").trim().parse().expect("a number")
}

/// An empty UDP datagram to 127.0.0.1:8285. The kernel fills in the header's checksum (raw(7)).
fn datagram(source: Ipv4Addr) -> [u8; 28] {
    let mut packet = [0; 28];
    (packet[0], packet[3], packet[8], packet[9]) = (0x45, 28, 64, 17);
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    packet[20..24].copy_from_slice(&[0x20, 0x5d, 0x20, 0x5d]);
    packet[25] = 8;
    packet
}
