//! Invalid keys and values under the prefix of leases: no route changes, and each is logged once.

use std::time::Duration;

use crate::support::flow::Background;
use crate::support::test_lab::{TestLab, lease_key};
use crate::support::{accounting, exclusive, wait_for};

#[test]
fn junk_is_named_once_and_changes_no_route() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&[]);
    let steady = Background::start(lab.endpoint(0), lab.endpoint(1));
    let own = lab.subnet(1).to_string().replace('/', "-");
    // Outside the range from which daemons choose, so that none is ever a daemon's own.
    let junk = [
        ("10.0.103.0-24", "gibberish"),
        ("10.0.104.0-24", r#"{"PublicIP":"nonsense"}"#),
        ("10.0.105.0-24", ""),
        ("10.0.106.0-32", GOOD),
        ("bogus", GOOD),
        ("10.0.107.0-24/x", GOOD),
        ("10.0.108.0-24", r#"{"PublicIP":"10.211.55.99","BackendType":"vxlan"}"#),
        ("192.168.7.0-24", GOOD),
    ];
    for (key, value) in junk {
        lab.put(&lease_key(key), value).expect("a junk key");
        for host in 0..2 {
            wait_for(&format!("a warning about {key}"), Duration::from_secs(3), || {
                warnings(&lab, host, key) > 0
            });
        }
    }
    // The deletion of an invalid key is invalid too: stock flannel then drops all its routes.
    for (key, _) in junk {
        lab.delete(&lease_key(key)).expect("the end of a junk key");
    }
    lab.meet(0, 1);
    std::thread::sleep(Duration::from_millis(500));
    for host in 0..2 {
        for (key, _) in junk {
            assert_eq!(warnings(&lab, host, key), 1, "warnings about {key} on {host}");
        }
        let log = lab.log(host);
        let removed = log.lines().find(|line| line.contains("removed") && !line.contains("WARN"));
        assert_eq!(removed, None, "no route is removed");
        assert_eq!(warnings(&lab, host, &own), 0, "nothing is wrong with {own}");
    }
    assert!(steady.finish() > 100, "a flow that lasted");
    accounting::check_balance(&mut lab);
}

#[test]
fn junk_that_exists_before_the_start_is_ignored() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::with_etcd(2);
    for (key, value) in [("10.0.103.0-24", "gibberish"), ("bogus", GOOD), ("10.0.109.0-32", GOOD)] {
        lab.put(&lease_key(key), value).expect("a junk key");
    }
    lab.join(0, &[]);
    lab.join(1, &[]);
    lab.meet(0, 1);
    assert_eq!(warnings(&lab, 0, "bogus"), 1);
    accounting::check_balance(&mut lab);
}

/// How many warnings of the daemon on `host` name the key.
fn warnings(lab: &TestLab, host: usize, key: &str) -> usize {
    let part = |c: char| c.is_ascii_alphanumeric() || "/-.".contains(c);
    let names_it =
        |line: &&str| line.contains("WARN") && line.split(|c| !part(c)).any(|word| word == key);
    lab.log(host).lines().filter(names_it).count()
}

const GOOD: &str = r#"{"PublicIP":"10.211.55.99","PublicIPv6":null}"#;
