//! TCP with accurate ECN (RFC 9768), whose segments all carry bits of a counter.

use crate::support::test_lab::TestLab;
use crate::support::{accounting, bulk, exclusive};

/// The counter starts at 5, so that each segment has AE and ECE until the first mark: they are joined as
/// those of any other connection are.
#[test]
fn segments_with_accurate_ecn_are_joined() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&[]);
    for host in 0..2 {
        let set = TestLab::run(lab.endpoint(host).netns, "sysctl", &["-w", "net.ipv4.tcp_ecn=3"]);
        if !set.contains("tcp_ecn = 3") {
            return eprintln!("SKIPPED: no accurate ECN here: {set}");
        }
    }
    bulk::transfer(lab.endpoint(0), lab.endpoint(1), 32 << 20, 1);
    accounting::check_balance(&mut lab);
    let stats = lab.host_mut(1).daemon_mut().expect("a daemon").stats().expect("its counters");
    let ingress = &stats["stats"]["ingress"];
    let count = |name: &str| ingress[name].as_u64().unwrap_or_else(|| panic!("{name}: {ingress}"));
    let per_write = count("carried_packets") as f64 / count("out_units") as f64;
    assert!(per_write > 3.0, "{per_write:.1} packets per write");
}
