//! The errors a sender gets: network unreachable at once, and every hop of a traceroute.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::support::world::World;
use crate::support::{books, gate, net};

#[test]
fn a_connect_to_nobodys_subnet_fails_at_once() {
    let Some(_turn) = gate::turn() else { return };
    let mut world = World::two_hosts(&[]);
    let nobody = Ipv4Addr::new(10, 0, 200, 1);
    for netns in [world.host(0).netns(), world.host(0).container().netns()] {
        let start = Instant::now();
        let error = net::connect(netns, (nobody, 80).into(), net::PATIENCE).expect_err("nobody");
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable, "{error}");
        assert!(start.elapsed() < Duration::from_millis(500), "after {:?}", start.elapsed());
    }
    let books = books::settled(&mut world, 0);
    assert!(books.egress.dropped("no-route") >= 2, "{books:?}");
}

#[test]
fn a_traceroute_shows_every_hop() {
    let Some(_turn) = gate::turn() else { return };
    let mut world = World::two_hosts(&[]);
    for (from, to) in [(0, 1), (1, 0)] {
        let (here, there) = (world.place(from), world.place(to));
        let target = there.address.to_string();
        let arguments = ["-n", "-q", "1", "-w", "2", "-N", "1", "-m", "8", &target];
        let shown = World::run(here.netns, "traceroute", &arguments);
        let hops: Vec<&str> =
            shown.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
        assert_eq!(hops.len(), 5, "two hosts, two daemons, the target: {shown}");
        assert!(hops.iter().all(|hop| *hop != "*"), "every hop answers: {shown}");
        assert_eq!(hops[4], target, "{shown}");
    }
    books::check(&mut world);
}
