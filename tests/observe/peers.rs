//! Traffic by peer: each peer's own, and together all that was carried.

use std::net::Ipv4Addr;
use std::time::Duration;

use flannel_udp::dataplane::{OtherTraffic, PeerTraffic};
use flannel_udp::lab::{self, DaemonOptions, Lab};
use serde_json::Value;

use crate::inspect;
use crate::support::world::World;
use crate::support::{bulk, flow, gate, net, wait_for};

#[test]
fn peers_add_up_to_what_was_carried() {
    let Some(_turn) = gate::turn() else { return };
    for flags in [&[][..], &["--offload=off", "--source-check=off"], &["--workers=2"]] {
        let mut world = three_hosts(flags);
        bulk::transfer(world.place(0), world.place(1), 8 << 20, 1);
        flow::in_order(world.place(2), world.place(0), 500, |_| 400);
        let books = settled_when(&mut world, 0, |books, world| {
            books.peer(world, 2).received_packets >= 500
        });
        let (one, two) = (books.peer(&world, 1), books.peer(&world, 2));
        assert!(one.sent_bytes > 8 << 20 && one.received_packets > 10, "{flags:?} {one:?}");
        assert!(two.received_packets >= 500 && two.received_bytes > 500 * 400, "{two:?}");
        assert!(two.sent_packets < 100, "{flags:?} {two:?}");
        assert!(one.last_sent.is_some_and(|ago| ago < Duration::from_secs(30)), "{one:?}");
        assert_eq!(books.other, OtherTraffic::default(), "{flags:?}: all of it belongs to a peer");
    }
}

#[test]
fn counters_survive_the_data_plane_and_the_peer() {
    let Some(_turn) = gate::turn() else { return };
    let mut world = three_hosts(&[]);
    flow::in_order(world.place(0), world.place(1), 300, |_| 100);
    let sent = |books: &Books, world: &World| books.peer(world, 1).sent_packets;
    let before = settled_when(&mut world, 0, |books, world| sent(books, world) >= 300);
    let before = sent(&before, &world);
    lab::tool::ip_in(world.host(0).netns_name(), "link del flannel0").expect("no device");
    wait_for("the device again", Duration::from_secs(10), || {
        lab::tool::ip_in(world.host(0).netns_name(), "-4 route show")
            .is_ok_and(|routes| routes.contains("dev flannel0"))
    });
    world.meet(0, 1);
    flow::in_order(world.place(0), world.place(1), 300, |_| 100);
    settled_when(&mut world, 0, |books, world| sent(books, world) >= before + 300);
    // Its lease outlives it, so it is still listed with what it had.
    world.stop_daemon(1).expect("its end");
    assert!(settled(&mut world, 0).peer(&world, 1).sent_packets >= before + 300);
}

#[test]
fn what_the_kernel_does_not_send_is_told_by_peer() {
    let Some(_turn) = gate::turn() else { return };
    let mut world = three_hosts(&[]);
    let told = |world: &World, host| {
        let answer = inspect::json(world, 0, &["peers"]);
        let address = world.host(host).address().to_string();
        let peers = answer["peers"].as_array().expect("peers").clone();
        peers.into_iter().find(|peer| peer["public_ip"] == address).expect("the peer")
    };
    let (bad, node) = (world.host(2).address(), world.host(0).netns_name().to_owned());
    assert_eq!(told(&world, 2)["send_loss"], 0.0, "it has met this host");
    lab::tool::ip_in(&node, &format!("route add prohibit {bad}")).expect("no way there");
    let (here, there) = (world.place(0), world.place(2));
    let socket = net::udp(here.netns, here.address);
    for _ in 0..500 {
        socket.send_to(&[0; 100], (there.address, 9)).expect("a packet for the overlay");
    }
    flow::in_order(world.place(0), world.place(1), 300, |_| 100);
    let books =
        settled_when(&mut world, 0, |books, world| books.peer(world, 2).unsent_packets >= 500);
    let unsent = books.peer(&world, 2).unsent_packets;
    assert_eq!(books.peer(&world, 1).unsent_packets, 0);
    let refused = &books.egress["drops"]["send-refused"];
    assert_eq!(refused.as_u64(), Some(unsent), "each drop of a send is some peer's");
    let (one, two) = (told(&world, 1), told(&world, 2));
    assert_eq!((&one["traffic"]["unsent_packets"], &one["send_loss"]), (&0.into(), &0.0.into()));
    assert_eq!(two["traffic"]["unsent_packets"], unsent, "{two:#}");
    let share = two["send_loss"].as_f64().expect("a part");
    assert!(share > 0.9 && share < 1.0, "a few packets had been sent: {two:#}");
    let table = inspect::told(&world, 0, &["peers", "--interval=0"]);
    let row = table.lines().find(|line| line.contains(&bad.to_string())).expect("its row");
    assert!(row.contains(&format!("{unsent} (")), "{table}");
}

/// Three hosts with a daemon and a container each, each of which has met the first.
fn three_hosts(flags: &[&str]) -> World {
    let mut world = World::build(Lab::builder().hosts(3));
    world.create_file_registry(lab::CONFIG).expect("the directory");
    world.start_daemons(&DaemonOptions::with_flags(flags)).expect("the daemons");
    for host in 0..3 {
        world.add_container(host).expect("a container");
    }
    world.meet(0, 1);
    world.meet(0, 2);
    world
}

/// What one daemon knows about its peers.
#[derive(Debug)]
struct Books {
    peers: Vec<PeerTraffic>,
    other: OtherTraffic,
    egress: Value,
}

impl Books {
    fn peer(&self, world: &World, host: usize) -> PeerTraffic {
        let address: Ipv4Addr = world.host(host).address();
        let peer = self.peers.iter().find(|peer| peer.address == address);
        peer.unwrap_or_else(|| panic!("{address} is not in {self:?}")).clone()
    }

    /// Packets and bytes sent, packets and bytes received, peers and others together.
    fn sum(&self) -> [u64; 4] {
        let others = [self.other.beyond, self.other.mismatched, self.other.departed];
        let others =
            others.map(|t| [t.sent_packets, t.sent_bytes, t.received_packets, t.received_bytes]);
        let peers = self
            .peers
            .iter()
            .map(|p| [p.sent_packets, p.sent_bytes, p.received_packets, p.received_bytes]);
        peers.chain(others).fold([0; 4], |sum, part| std::array::from_fn(|i| sum[i] + part[i]))
    }
}

/// The peers of `host`, once they add up and are as wanted: what has arrived may be counted later.
#[track_caller]
fn settled_when(world: &mut World, host: usize, wanted: impl Fn(&Books, &World) -> bool) -> Books {
    let mut books = settled(world, host);
    wait_for("all that was sent to be counted", Duration::from_secs(3), || {
        books = settled(world, host);
        wanted(&books, world)
    });
    books
}

/// The peers of `host`, once they add up: a packet may be in a daemon's hands while it counts.
#[track_caller]
fn settled(world: &mut World, host: usize) -> Books {
    let mut books = None;
    wait_for("peers that add up", Duration::from_secs(3), || {
        let stats = world.host_mut(host).daemon_mut().expect("a daemon").stats().expect("stats");
        let read = |field: &str| -> Value { stats[field].clone() };
        let carried = [
            &stats["egress"]["carried_packets"],
            &stats["egress"]["carried_bytes"],
            &stats["ingress"]["carried_packets"],
            &stats["ingress"]["carried_bytes"],
        ]
        .map(|count| count.as_u64().expect("a count"));
        let now = Books {
            peers: serde_json::from_value(read("peers")).expect("peers"),
            other: serde_json::from_value(read("other_traffic")).expect("other traffic"),
            egress: read("egress"),
        };
        let whole = now.sum() == carried;
        if !whole {
            eprintln!("carried {carried:?}, {now:?}");
        }
        books = Some(now);
        whole
    });
    books.expect("books")
}
