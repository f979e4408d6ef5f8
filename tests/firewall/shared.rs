//! Several daemons on one host, which share flannel's chains.

use flannel_udp::host::firewall::{CleanupScope, RuleSpec, cleanup};

use super::{Bench, NAT, each_flavour, owned, protected, second, spec};

/// Two daemons with two networks, ports and subnet files, which flannel documents.
#[test]
fn each_daemon_leaves_the_rules_of_the_other_alone() {
    each_flavour(|bench| {
        two_daemons(&bench, &|| bench.saved().values().flatten().cloned().collect(), false);
    });
    if let Some(bench) = Bench::new("", true) {
        let listed = || {
            let listing = bench.run("nft", &["-s", "list", "ruleset"]);
            listing.lines().map(str::to_owned).collect()
        };
        two_daemons(&bench, &listed, true);
    }
}

fn two_daemons(bench: &Bench, listed: &dyn Fn() -> Vec<String>, nftables: bool) {
    let first = protected(RuleSpec { nftables, ..spec() }, 8285);
    let other = protected(RuleSpec { nftables, ..second() }, 8286);
    let about = |network: &str| {
        let lines = listed();
        lines.into_iter().filter(|line| line.contains(network)).collect::<Vec<_>>()
    };
    let one = bench.install(first.clone());
    let alone = about("10.0.");
    let mut two = bench.install(other);
    assert_eq!(about("10.0."), alone, "the second one's start");
    let second_ones = about("10.9.");
    assert_eq!(alone.len(), second_ones.len());
    // Neither is ever busy with the other's rules.
    let mut one = one;
    for _ in 0..2 {
        let (repaired, same) = bench.check(one);
        assert!(!repaired, "{:#?}", listed());
        let (again, other) = bench.check(two);
        assert!(!again, "{:#?}", listed());
        (one, two) = (same, other);
    }
    // Another start of the first one, with another subnet.
    bench.install(RuleSpec { subnet: "10.0.8.0/24".parse().unwrap(), ..first });
    assert_eq!(about("10.9."), second_ones, "the first one's second start");
    assert_eq!(about("10.0.").len(), alone.len());
    assert!(about("10.0.7.").is_empty(), "{:#?}", listed());
    let marks = |lines: Vec<String>| {
        lines.iter().filter(|line| line.contains("0x4000") || line.contains("0x00004000")).count()
    };
    assert_eq!(marks(listed()), 1, "{:#?}", listed());
    // The end of the first one.
    bench.cleanup(false);
    assert!(about("10.0.").is_empty(), "{:#?}", listed());
    assert_eq!(about("10.9."), second_ones, "the first one's clean-up");
    assert_eq!(marks(listed()), 1);
    let (repaired, _) = bench.check(two);
    assert!(!repaired);
    let all = bench.block_on(async |tools| cleanup(&tools, &CleanupScope::All, false).await);
    assert!(all.unwrap().left.is_empty());
    assert!(
        !listed().iter().any(|line| line.to_lowercase().contains("flannel")),
        "{:#?}",
        listed()
    );
}

/// Beside them the jump of an earlier version, which every UDP packet took on behalf of all daemons.
#[test]
fn only_packets_to_the_port_take_the_jump() {
    let jumps = |bench: &Bench, network: &str| -> Vec<String> {
        let to_chain = |rule: &String| rule.ends_with("-j FLANNEL-PORT") && rule.contains(network);
        let mut found: Vec<_> = bench.rules("mangle").into_iter().filter(to_chain).collect();
        found.sort();
        found
    };
    let own = |network: &str, port: u16| {
        ["FORWARD", "INPUT"].map(|hook| {
            format!(
                "-A {hook} ! -i eth0 -p udp -m udp --dport {port} -m comment --comment \
                 \"flannel-udp port {network}\" -j FLANNEL-PORT"
            )
        })
    };
    each_flavour(|bench| {
        bench.install(protected(spec(), 8285));
        for hook in ["INPUT", "FORWARD"] {
            let earlier = ["-p", "udp", "-m", "comment", "--comment", "flannel-udp port"];
            let start = ["-t", "mangle", "-A", hook];
            bench.run("iptables", &[&start[..], &earlier, &["-j", "FLANNEL-PORT"]].concat());
        }
        assert_eq!(jumps(&bench, "").len(), 4);
        let mut two = bench.install(protected(second(), 8286));
        assert_eq!(jumps(&bench, "").len(), 4, "those of the earlier version are gone");
        assert_eq!(jumps(&bench, "10.0.0.0/16"), own("10.0.0.0/16", 8285));
        // Another port and another interface between hosts.
        let mut other = protected(spec(), 8287);
        other.port.as_mut().unwrap().underlay = "eth1".into();
        bench.install(other);
        let expected = own("10.0.0.0/16", 8287).map(|rule| rule.replace("eth0", "eth1"));
        assert_eq!(jumps(&bench, "10.0.0.0/16"), expected);
        assert_eq!(jumps(&bench, "10.9.0.0/16"), own("10.9.0.0/16", 8286));
        bench.run("iptables", &["-t", "mangle", "-F", "INPUT"]);
        for missing in [true, false] {
            let (repaired, same) = bench.check(two);
            assert_eq!(repaired, missing);
            two = same;
        }
        bench.cleanup(false);
        assert_eq!(jumps(&bench, ""), own("10.9.0.0/16", 8286));
        // Rules that are no longer wanted.
        bench.install(second());
        assert_eq!(bench.rules("mangle"), Vec::<String>::new());
    });
}

/// Stock flanneld restarted: it clears flannel's chains, and installs its own rules.
#[test]
fn rules_that_flanneld_cleared_come_back_beside_its_own() {
    each_flavour(|bench| {
        let firewall = bench.install(spec());
        bench.run("iptables", &["-t", "nat", "-F", "FLANNEL-POSTRTG"]);
        let theirs = [
            "-m mark --mark 0x4000/0x4000 -m comment --comment flanneld~masq -j RETURN",
            "-s 10.9.0.0/16 ! -d 224.0.0.0/4 -m comment --comment flanneld~masq -j MASQUERADE",
        ];
        for rule in theirs {
            let words: Vec<_> = rule.split(' ').map(|word| word.replace('~', " ")).collect();
            let words = words.iter().map(String::as_str);
            let start = ["-t", "nat", "-A", "FLANNEL-POSTRTG"];
            bench.run("iptables", &start.into_iter().chain(words).collect::<Vec<_>>());
        }
        let (repaired, _) = bench.check(firewall);
        assert!(repaired);
        let mut expected = owned(NAT);
        expected.insert(
            2,
            r#"-A FLANNEL-POSTRTG -s 10.9.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE"#
                .into(),
        );
        assert_eq!(bench.rules("nat"), expected);
    });
}
