//! `--check`: it names all that is wrong, has the daemon's exit codes, and changes nothing.

use flannel_udp::lab;

use crate::operations::start;
use crate::support::exclusive;
use crate::support::test_lab::TestLab;

const HERE: usize = 0;
const ELSEWHERE: usize = 1;

#[test]
fn check_names_all_that_is_wrong_and_changes_nothing() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::with_etcd(2);
    lab.join(HERE, &[]);
    let keys = lab.keys(lab::ETCD_PREFIX).expect("the keys");
    let (pid, log) = (lab.host(HERE).daemon().map(lab::Daemon::pid), lab.log(HERE));

    // With the settings of the daemon, which goes on.
    let (code, said) = start(&mut lab, HERE, &[], &["--check"]);
    assert_eq!((code, said.as_str()), (Some(0), "the configuration can be used\n"));
    assert_eq!((lab.host(HERE).daemon().map(lab::Daemon::pid), lab.log(HERE)), (pid, log));

    all_at_once(&mut lab);
    let (code, said) = start(&mut lab, ELSEWHERE, &["unshare", "-n"], &["--check"]);
    assert_eq!(code, Some(68), "{said}");
    assert!(said.contains("error: ") && said.contains("not checked: the network config"), "{said}");
    // The first error is the one that a starting daemon meets first.
    let wrong = ["--check", "--etcd-password=p"];
    let (code, said) = start(&mut lab, ELSEWHERE, &["unshare", "-n"], &wrong);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("2 errors"), "{said}");
    the_lease_store(&mut lab);

    assert_eq!(lab.keys(lab::ETCD_PREFIX).expect("the keys"), keys);
    for name in ["second.env", "second.env.origin", "second.sock", "leases"] {
        assert!(!lab.host(ELSEWHERE).directory().join(name).exists(), "{name}");
    }
    let netns = lab.host(ELSEWHERE).netns();
    let left = TestLab::run(netns, "ip", &["link"]) + &TestLab::run(netns, "iptables-save", &[]);
    assert!(!left.to_lowercase().contains("flannel"), "{left}");
}

/// Flags, variables and files, each with its own line.
fn all_at_once(lab: &mut TestLab) {
    let variables = ["env", "FLANNELD_WORKERS=many", "FLANNELD_IP_MASQ=bogus"];
    let flags = [
        "--check",
        "-ifcae=eth0",
        "--outer-tos=46",
        "--kube-subnet-mgr",
        "--public-ipv6=fd00::1",
        "--etcd-endpoints=bogus://x:1",
        "--etcd-cafile=/no-ca",
        "--etcd-certfile=/no-cert",
        "--etcd-keyfile=/no-key",
        "--stats-json=/dev/null/stats",
        "--socket=/dev/null/socket",
    ];
    let (code, said) = start(lab, ELSEWHERE, &variables, &flags);
    assert_eq!(code, Some(64), "{said}");
    for part in [
        "error: unexpected argument '--ifcae'",
        "error: invalid value '46' for '--outer-tos",
        "environment variable FLANNELD_WORKERS",
        "error: --kube-subnet-mgr belongs to",
        "error: --public-ipv6 is not supported",
        "unknown scheme `bogus`",
        "--etcd-cafile: open \"/no-ca\"",
        "--etcd-certfile: open \"/no-cert\"",
        "--etcd-keyfile: open \"/no-key\"",
        "error: --socket: cannot write /dev/null/socket",
        "warning: ignoring FLANNELD_IP_MASQ=\"bogus\"",
        "warning: --stats-json: cannot write /dev/null/stats",
        "not checked: the network config",
        "10 errors; the first has exit code 64",
    ] {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
    let (code, said) = start(lab, ELSEWHERE, &[], &["--check", "--etcd-password=p"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("1 error; exit code 78"), "{said}");
}

fn the_lease_store(lab: &mut TestLab) {
    lab.etcd().expect("etcd").freeze().expect("a frozen etcd");
    let (code, said) = start(lab, ELSEWHERE, &[], &["--check"]);
    lab.etcd().expect("etcd").thaw().expect("etcd");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("not checked: the network config"), "{said}");

    let config = format!("{}/config", lab::ETCD_PREFIX);
    for (text, part) in [
        ("not json", "the daemon will wait until it is corrected"),
        (r#"{"Network":"10.0.0.0/16","Backend":{"Type":"vxlan"}}"#, "vxlan"),
    ] {
        lab.put(&config, text).expect("a config");
        let (code, said) = start(lab, ELSEWHERE, &[], &["--check"]);
        assert_eq!(code, Some(65), "{said}");
        assert!(said.contains("error: the network config") && said.contains(part), "{said}");
    }
    lab.delete(&config).expect("no config");
    let (code, said) = start(lab, ELSEWHERE, &[], &["--check"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("not checked: the network config: there is none"), "{said}");
    lab.put(&config, lab::CONFIG).expect("the config");

    let leases = lab.host(ELSEWHERE).directory().join("leases");
    let flag = format!("--registry=file:{}", leases.display());
    let (code, said) = start(lab, ELSEWHERE, &[], &["--check", &flag]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("there is none in directory"), "{said}");
    let (code, said) = start(lab, ELSEWHERE, &[], &["--check", "--registry=file:/dev/null/leases"]);
    assert_eq!(code, Some(78), "{said}");
}
