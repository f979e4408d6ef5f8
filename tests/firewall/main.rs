//! The firewall rules with the host's real tools, in separate network namespaces.
//!
//! The expected text is flannel's, as `iptables-save` shows it.

mod notrack;
mod shared;
mod tools;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use flannel_udp::host::firewall::{CleanupScope, Firewall, PortSpec, RuleSpec, Toolbox, cleanup};
use flannel_udp::host::subnet_file::PreviousSubnetFile;
use flannel_udp::sys::netns::Netns;

const FILTER: &[&str] = &[
    r#"-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD"#,
    r#"-A FLANNEL-FWD -s 10.0.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT"#,
    r#"-A FLANNEL-FWD -d 10.0.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT"#,
];

const NAT: &[&str] = &[
    r#"-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG"#,
    r#"-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN"#,
    r#"-A FLANNEL-POSTRTG -s 10.0.7.0/24 -d 10.0.0.0/16 -m comment --comment "flanneld masq" -j RETURN"#,
    r#"-A FLANNEL-POSTRTG -s 10.0.0.0/16 -d 10.0.7.0/24 -m comment --comment "flanneld masq" -j RETURN"#,
    r#"-A FLANNEL-POSTRTG ! -s 10.0.0.0/16 -d 10.0.7.0/24 -m comment --comment "flanneld masq" -j RETURN"#,
    r#"-A FLANNEL-POSTRTG -s 10.0.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully"#,
    r#"-A FLANNEL-POSTRTG ! -s 10.0.0.0/16 -d 10.0.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully"#,
];

/// A network namespace, and a directory with the tools of one flavour of iptables or none.
struct Bench {
    netns: Netns,
    dir: tempfile::TempDir,
}

impl Bench {
    /// Returns `None` and reports the test as skipped where the machine lacks what it needs.
    fn new(flavour: &str, nft: bool) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("fu{}-fw{number}", std::process::id());
        let netns = Netns::create(&name)
            .inspect_err(|e| skipped(format!("no network namespace here: {e}")))
            .ok()?;
        let dir = tempfile::tempdir().unwrap();
        let bench = Self { netns, dir };
        if !flavour.is_empty() {
            for suffix in ["", "-save", "-restore"] {
                bench.link(&format!("{flavour}{suffix}"), &format!("iptables{suffix}"))?;
            }
            if !bench.works("iptables-save") || !bench.works_with("iptables", &["-t", "nat", "-S"])
            {
                skipped(format!("this kernel does not serve {flavour}"));
                return None;
            }
        }
        if nft {
            bench.link("nft", "nft")?;
        }
        Some(bench)
    }

    fn link(&self, program: &str, name: &str) -> Option<()> {
        let real = ["/usr/sbin", "/sbin", "/usr/bin"].map(|d| Path::new(d).join(program));
        let Some(real) = real.into_iter().find(|path| path.exists()) else {
            skipped(format!("{program} is not installed"));
            return None;
        };
        // Each flavour is one program with many names, so this links to the link of that name.
        std::os::unix::fs::symlink(real, self.dir.path().join(name)).unwrap();
        Some(())
    }

    fn tool(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn works(&self, name: &str) -> bool {
        self.works_with(name, &[])
    }

    fn works_with(&self, name: &str, args: &[&str]) -> bool {
        let mut command = Command::new(self.tool(name));
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        self.netns.spawn(&mut command).unwrap().wait().unwrap().success()
    }

    fn run(&self, name: &str, args: &[&str]) -> String {
        let mut command = Command::new(self.tool(name));
        command.args(args).stdout(Stdio::piped());
        let output = self.netns.spawn(&mut command).unwrap().wait_with_output().unwrap();
        assert!(output.status.success(), "{name} {args:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The rules of a table, as iptables-save prints them.
    fn saved(&self) -> BTreeMap<String, Vec<String>> {
        let mut tables = BTreeMap::<_, Vec<String>>::new();
        let mut table = String::new();
        for line in self.run("iptables-save", &[]).lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name.to_owned();
            } else if line.starts_with("-A") {
                tables.entry(table.clone()).or_default().push(line.to_owned());
            }
        }
        tables
    }

    fn rules(&self, table: &str) -> Vec<String> {
        self.saved().remove(table).unwrap_or_default()
    }

    /// Runs async work inside the namespace.
    fn block_on<T: Send>(&self, work: impl AsyncFnOnce(Toolbox) -> T + Send) -> T {
        let tools = Toolbox::only([self.dir.path().to_owned()]);
        self.netns
            .enter(|| {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(work(tools))
            })
            .unwrap()
    }

    fn install(&self, spec: RuleSpec) -> Firewall {
        self.block_on(async |tools| {
            Firewall::install(spec, &PreviousSubnetFile::default(), tools).await
        })
        .unwrap()
    }

    fn check(&self, mut firewall: Firewall) -> (bool, Firewall) {
        self.block_on(async |_| (firewall.check().await.unwrap(), firewall))
    }

    fn cleanup(&self, dry_run: bool) -> Vec<String> {
        let ours = CleanupScope::Networks(vec![spec().network]);
        self.block_on(async |tools| cleanup(&tools, &ours, dry_run).await).unwrap().removed
    }
}

fn spec() -> RuleSpec {
    RuleSpec {
        network: "10.0.0.0/16".parse().unwrap(),
        subnet: "10.0.7.0/24".parse().unwrap(),
        masquerade: true,
        forward: true,
        port: None,
        notrack: None,
        fully_random: true,
        nftables: false,
    }
}

/// The rules of a second daemon on the same host.
fn second() -> RuleSpec {
    RuleSpec {
        network: "10.9.0.0/16".parse().unwrap(),
        subnet: "10.9.48.0/24".parse().unwrap(),
        ..spec()
    }
}

fn protected(spec: RuleSpec, port: u16) -> RuleSpec {
    let interfaces = ("eth0".into(), "flannel0".into());
    let (underlay, device) = interfaces;
    RuleSpec { port: Some(PortSpec { underlay, device, ..PortSpec::new(port) }), ..spec }
}

/// Runs a test with every flavour of iptables that this machine has.
fn each_flavour(test: impl Fn(Bench)) {
    for flavour in ["iptables-nft", "iptables-legacy"] {
        if let Some(bench) = Bench::new(flavour, false) {
            test(bench);
        }
    }
}

#[test]
fn every_combination_of_flags_installs_the_text_of_flannel() {
    each_flavour(|bench| {
        for (masquerade, forward) in [(true, true), (true, false), (false, true), (false, false)] {
            bench.install(RuleSpec { masquerade, forward, ..spec() });
            let saved = bench.saved();
            let text = |table: &str| saved.get(table).cloned().unwrap_or_default();
            assert_eq!(text("nat"), if masquerade { NAT } else { &[] }, "{masquerade} {forward}");
            assert_eq!(text("filter"), if forward { FILTER } else { &[] });
        }
        bench.install(RuleSpec { fully_random: false, ..spec() });
        let expected: Vec<_> = NAT.iter().map(|rule| rule.replace(" --random-fully", "")).collect();
        assert_eq!(bench.rules("nat"), expected);
    });
}

#[test]
fn jumps_are_appended_and_foreign_rules_kept() {
    each_flavour(|bench| {
        let foreign = ["-A", "FORWARD", "-s", "192.0.2.1/32", "-j", "DROP"];
        bench.run("iptables", &foreign);
        bench.install(spec());
        assert_eq!(bench.rules("filter")[0], foreign.join(" "));
        // A foreign rule after the jump: installing the rules again moves the jump to the end.
        let second = ["-A", "FORWARD", "-s", "192.0.2.2/32", "-j", "DROP"];
        bench.run("iptables", &second);
        bench.install(spec());
        let expected: Vec<_> = [foreign.join(" "), second.join(" ")]
            .into_iter()
            .chain(FILTER.iter().map(|s| (*s).into()))
            .collect();
        assert_eq!(bench.rules("filter"), expected);
        // A foreign rule before the jump: the periodic check leaves it in place.
        bench.run("iptables", &["-I", "FORWARD", "-s", "192.0.2.3/32", "-j", "DROP"]);
        let firewall = bench.install(spec());
        bench.run("iptables", &["-I", "FLANNEL-FWD", "-s", "192.0.2.4/32", "-j", "DROP"]);
        let (repaired, _) = bench.check(firewall);
        assert!(!repaired);
    });
}

#[test]
fn missing_rules_are_restored() {
    each_flavour(|bench| {
        let mut firewall = bench.install(spec());
        for damage in [
            &["-t nat -D POSTROUTING 1"][..],
            &["-t nat -F FLANNEL-POSTRTG"],
            &["-t nat -D FLANNEL-POSTRTG 3"],
            &["-F FORWARD", "-F FLANNEL-FWD", "-X FLANNEL-FWD"],
            &["-t nat -F", "-t nat -X"],
            // The order within the chain matters: RETURN after MASQUERADE would have no effect.
            &[
                "-t nat -D FLANNEL-POSTRTG 2",
                "-t nat -A FLANNEL-POSTRTG -s 10.0.7.0/24 -d 10.0.0.0/16 -m comment --comment flanneld~masq -j RETURN",
            ],
        ] {
            for command in damage {
                let words: Vec<_> = command.split(' ').map(|word| word.replace('~', " ")).collect();
                bench.run("iptables", &words.iter().map(String::as_str).collect::<Vec<_>>());
            }
            let (repaired, same) = bench.check(firewall);
            assert!(repaired, "{damage:?}");
            let (again, same) = bench.check(same);
            assert!(!again, "{damage:?} repaired twice");
            firewall = same;
            assert_eq!((bench.rules("nat"), bench.rules("filter")), (owned(NAT), owned(FILTER)));
        }
    });
}

#[test]
fn rules_of_a_previous_network_are_removed() {
    each_flavour(|bench| {
        let old = spec();
        bench.install(old.clone());
        let new = second();
        let previous = PreviousSubnetFile {
            network: Some(old.network),
            subnet: Some(old.subnet),
            problems: vec![],
        };
        bench.block_on(async |tools| Firewall::install(new, &previous, tools).await).unwrap();
        let saved = bench.run("iptables-save", &[]);
        assert!(!saved.contains("10.0.") && saved.contains("10.9.48.0/24"), "{saved}");
    });
}

#[test]
fn cleanup_leaves_foreign_rules() {
    each_flavour(|bench| {
        let foreign = "-A FORWARD -s 192.0.2.1/32 -j DROP";
        bench.run("iptables", &foreign.split(' ').collect::<Vec<_>>());
        let before = bench.saved();
        bench.install(spec());
        // Rules as flannel before 0.18 installed them, without a separate chain.
        let old = ["-m", "comment", "--comment", "flanneld masq", "-j", "MASQUERADE"];
        bench.run(
            "iptables",
            &[&["-t", "nat", "-A", "POSTROUTING", "-s", "10.0.0.0/16"], &old[..]].concat(),
        );
        let would = bench.cleanup(true);
        assert_eq!(would.len(), NAT.len() + FILTER.len() + 1 + 2, "{would:#?}");
        assert_eq!(bench.cleanup(false), would);
        assert_eq!(bench.saved(), before);
        assert!(!bench.run("iptables-save", &[]).contains("FLANNEL"));
        assert!(bench.cleanup(false).is_empty());
    });
}

/// Listing a table of legacy iptables creates it, and whoever leaves must not leave one behind.
#[test]
fn cleanup_creates_no_legacy_table() {
    let Some(bench) = Bench::new("iptables-legacy", true) else { return };
    assert!(bench.cleanup(false).is_empty());
    let names = bench.block_on(async |_| {
        std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default()
    });
    // The bench itself has asked for the table nat.
    assert_eq!(names, "nat\n");
}

#[test]
fn nftables_rules_are_equivalent_and_restored() {
    let Some(bench) = Bench::new("", true) else { return };
    let firewall = bench.install(spec());
    assert_eq!(firewall.tool(), "nftables");
    let listing = bench.run("nft", &["-s", "list", "ruleset"]);
    for rule in [
        "type nat hook postrouting priority srcnat; policy accept;",
        "ip saddr 10.0.7.0/24 ip daddr 10.0.0.0/16 return",
        "ip saddr 10.0.0.0/16 ip daddr 10.0.7.0/24 return",
        "ip saddr != 10.0.0.0/16 ip daddr 10.0.7.0/24 return",
        "ip saddr 10.0.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random",
        "ip saddr != 10.0.0.0/16 ip daddr 10.0.0.0/16 masquerade fully-random",
        "ip saddr 10.0.0.0/16 accept",
        "ip daddr 10.0.0.0/16 accept",
    ] {
        assert!(listing.contains(rule), "{rule}\n{listing}");
    }
    let (repaired, firewall) = bench.check(firewall);
    assert!(!repaired);
    bench.run("nft", &["flush", "chain", "ip", "flannel-ipv4", "postrtg"]);
    let (repaired, firewall) = bench.check(firewall);
    assert!(repaired);
    bench.run("nft", &["delete", "table", "ip", "flannel-ipv4"]);
    let (repaired, _) = bench.check(firewall);
    assert!(repaired);
    assert_eq!(bench.run("nft", &["-s", "list", "ruleset"]), listing);
    bench.run("nft", &["add", "table", "ip", "theirs"]);
    assert_eq!(bench.cleanup(false).len(), 1);
    assert_eq!(bench.run("nft", &["-s", "list", "ruleset"]).trim(), "table ip theirs {\n}");
}

#[test]
fn switching_to_nftables_removes_the_iptables_rules() {
    let Some(bench) = Bench::new("iptables-nft", true) else { return };
    bench.install(spec());
    bench.install(RuleSpec { nftables: true, ..spec() });
    assert!(!bench.run("iptables-save", &[]).contains("flanneld"));
    bench.install(spec());
    assert_eq!(bench.rules("nat"), NAT);
    assert!(!bench.works_with("nft", &["list", "table", "ip", "flannel-ipv4"]));
}

#[test]
fn a_missing_tool_matters_only_if_a_rule_is_wanted() {
    let Some(bench) = Bench::new("", false) else { return };
    let install = |spec: RuleSpec| {
        bench.block_on(async |tools| {
            Firewall::install(spec, &PreviousSubnetFile::default(), tools).await
        })
    };
    let nothing = RuleSpec { masquerade: false, forward: false, ..spec() };
    assert_eq!(install(nothing).unwrap().tool(), "none");
    let message = install(spec()).unwrap_err().to_string();
    assert!(message.contains("--ip-masq") && message.contains("neither iptables"), "{message}");
    let message = install(RuleSpec { nftables: true, ..spec() }).unwrap_err().to_string();
    assert!(message.contains("EnableNFTables"), "{message}");
    assert!(bench.cleanup(false).is_empty());
    // Forward rules are on by default: a host without a firewall tool runs without them, and gets
    // them as soon as a tool is installed.
    let mut firewall = install(RuleSpec { masquerade: false, ..spec() }).unwrap();
    assert_eq!(firewall.tool(), "none");
    let (outcome, firewall) = bench.block_on(async |_| (firewall.check().await.is_err(), firewall));
    assert!(outcome);
    if bench.link("nft", "nft").is_some() {
        let (repaired, firewall) = bench.check(firewall);
        assert!(repaired);
        assert_eq!(firewall.tool(), "nftables");
    }
}

fn owned(rules: &[&str]) -> Vec<String> {
    rules.iter().map(|rule| (*rule).to_owned()).collect()
}

/// Reports a skipped test, or fails it where no test may be skipped.
fn skipped(why: impl std::fmt::Display) {
    use std::io::Write;
    let required = std::env::var_os("FLANNEL_UDP_REQUIRE_ROOT").is_some_and(|v| v != "0");
    assert!(!required, "cannot run here: {why}");
    // The test harness captures the output of eprintln.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
