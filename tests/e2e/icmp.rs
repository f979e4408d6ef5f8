//! The ICMP errors that a sender receives: network unreachable at once, and every hop of a traceroute.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::support::test_lab::TestLab;
use crate::support::{accounting, exclusive, net};

#[test]
fn a_connect_to_an_unleased_subnet_fails_at_once() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&[]);
    let unleased = Ipv4Addr::new(10, 0, 200, 1);
    for netns in [lab.host(0).netns(), lab.host(0).container().netns()] {
        let start = Instant::now();
        let error =
            net::connect(netns, (unleased, 80).into(), net::TIMEOUT).expect_err("no such subnet");
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable, "{error}");
        assert!(start.elapsed() < Duration::from_millis(500), "after {:?}", start.elapsed());
    }
    let counters = accounting::balanced(&mut lab, 0);
    assert!(counters.egress.dropped("no-route") >= 2, "{counters:?}");
}

#[test]
fn a_traceroute_shows_every_hop() {
    let Some(_exclusive) = exclusive() else { return };
    let mut lab = TestLab::two_hosts(&[]);
    for (from, to) in [(0, 1), (1, 0)] {
        let (here, there) = (lab.endpoint(from), lab.endpoint(to));
        let target = there.address.to_string();
        let arguments = ["-n", "-q", "1", "-w", "2", "-N", "1", "-m", "8", &target];
        let shown = TestLab::run(here.netns, "traceroute", &arguments);
        let hops: Vec<&str> =
            shown.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(hops.len(), 5, "two hosts, two daemons, the target: {shown}");
        assert!(hops.iter().all(|hop| *hop != "*"), "every hop answers: {shown}");
        assert_eq!(hops[4], target, "{shown}");
    }
    accounting::check_balance(&mut lab);
}
