//! A host whose containers send nothing.

use std::thread;
use std::time::Duration;

use crate::support::test_lab::TestLab;
use crate::support::{accounting, exclusive};

/// flannel0 has no IPv6 link-local address, from which the kernel would solicit routers and report
/// memberships into the overlay.
#[test]
fn an_idle_host_sends_no_ipv6_into_the_overlay() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::with_etcd(2);
    lab.join(0, &[]);
    // A router solicitation follows the link within a second.
    thread::sleep(Duration::from_millis(1_500));
    let netns = lab.host(0).netns();
    let link = TestLab::run(netns, "ip", &["-details", "link", "show", "dev", "flannel0"]);
    assert!(link.contains(",UP") && link.contains("addrgenmode none"), "{link}");
    assert_eq!(TestLab::run(netns, "ip", &["-6", "address", "show", "dev", "flannel0"]), "");
    assert_eq!(accounting::balanced(&mut lab, 0).egress.dropped("not-ipv4"), 0);
}
