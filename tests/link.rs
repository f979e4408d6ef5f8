//! The TUN device and the interface between hosts, with a real kernel, in separate network
//! namespaces.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flannel_udp::host::interface::{self, ExternalInterface, InterfaceOptions};
use flannel_udp::host::link::{OverlayDevice, Repair, ensure};
use flannel_udp::host::netlink::Netlink;
use flannel_udp::host::outer::{Hops, NextHopCheck, OuterNetwork, Overlay};
use flannel_udp::host::watch::{self, LinkEvent, UnderlayState};
use flannel_udp::route::HopVerdicts;
use flannel_udp::sys::netns::Netns;
use tokio::sync::{mpsc, watch as state};

/// A host: eth0 with an address and a default route, and a device in place of flannel0.
fn host() -> Option<Netns> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let netns = Netns::create(&format!("fu{}-link{number}", std::process::id()))
        .inspect_err(|e| skipped(format!("no network namespace here: {e}")))
        .ok()?;
    for command in [
        "link add eth0 type veth peer name switch",
        "link set switch up",
        "link set eth0 up",
        "address add 192.168.77.11/24 dev eth0",
        "address add 192.168.77.12/24 dev eth0",
        "route add default via 192.168.77.1",
    ] {
        ip(&netns, command);
    }
    add_tun(&netns);
    Some(netns)
}

fn add_tun(netns: &Netns) {
    ip(netns, "tuntap add dev flannel0 mode tun");
}

fn ip(netns: &Netns, command: &str) {
    let mut process = Command::new("ip");
    process.args(command.split(' '));
    assert!(netns.spawn(&mut process).unwrap().wait().unwrap().success(), "ip {command}");
}

fn show(netns: &Netns, command: &str) -> String {
    let mut process = Command::new("ip");
    process.args(command.split(' ')).stdout(std::process::Stdio::piped());
    let output = netns.spawn(&mut process).unwrap().wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn block_on<T: Send>(netns: &Netns, work: impl AsyncFnOnce() -> T + Send) -> T {
    netns
        .enter(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(work())
        })
        .unwrap()
}

async fn index_of(name: &str) -> u32 {
    let links = Netlink::connect().unwrap().links().await.unwrap();
    links.iter().find(|link| link.name == name).unwrap().index
}

fn overlay(index: u32) -> OverlayDevice {
    OverlayDevice {
        index,
        name: "flannel0".into(),
        address: Ipv4Addr::new(10, 0, 20, 0),
        subnet: "10.0.20.0/24".parse().unwrap(),
        network: "10.0.0.0/16".parse().unwrap(),
        mtu: 1472,
        blackhole: false,
    }
}

/// A check that nobody asks.
async fn unasked(address: Ipv4Addr) -> NextHopCheck {
    let (questions, verdicts) = (state::channel(None).1, state::channel(HopVerdicts::default()).0);
    let network = "10.0.0.0/16".parse().unwrap();
    let overlay = Overlay { network, subnet: None, device: None };
    let outer = OuterNetwork::connect(Vec::new()).await.unwrap();
    let hops = Hops { questions, verdicts };
    NextHopCheck::new(outer, hops, overlay, SocketAddrV4::new(address, 8285))
}

async fn chosen() -> ExternalInterface {
    interface::choose(&InterfaceOptions::default()).await.unwrap()
}

#[test]
fn the_default_routes_interface_is_chosen() {
    let Some(netns) = host() else { return };
    let interface = block_on(&netns, chosen);
    assert_eq!(interface.name, "eth0");
    assert_eq!(interface.address, Ipv4Addr::new(192, 168, 77, 11));
    assert_eq!(interface.mtu, 1500);
    let can_reach = InterfaceOptions {
        can_reach: Some(Ipv4Addr::new(192, 0, 2, 1)),
        ..InterfaceOptions::default()
    };
    let interface = block_on(&netns, async || interface::choose(&can_reach).await.unwrap());
    assert_eq!(interface.name, "eth0");
    ip(&netns, "route del default");
    let error = block_on(&netns, async || interface::choose(&InterfaceOptions::default()).await);
    let text = error.unwrap_err().to_string();
    assert!(text.contains("default route") && text.contains("eth0 [192.168.77.11/24"), "{text}");
}

/// A device with several queues loses the kernel's default queueing discipline and keeps an
/// operator's.
#[test]
fn a_default_queueing_discipline_is_removed_and_a_chosen_one_kept() {
    let Some(netns) = host() else { return };
    ip(&netns, "link del flannel0");
    ip(&netns, "tuntap add dev flannel0 mode tun multi_queue");
    ip(&netns, "link set flannel0 up");
    let ensured = || {
        block_on(&netns, async || {
            let netlink = Netlink::connect().unwrap();
            ensure(&netlink, &overlay(index_of("flannel0").await), true).await.unwrap();
        });
        show(&netns, "-details link show flannel0")
    };
    assert!(show(&netns, "link show flannel0").contains("qdisc mq"));
    let shown = ensured();
    assert!(shown.contains("qdisc noqueue"), "{shown}");
    let mut tc = Command::new("tc");
    tc.args(["qdisc", "replace", "dev", "flannel0", "root", "handle", "1:", "mq"]);
    assert!(netns.spawn(&mut tc).unwrap().wait().unwrap().success());
    let shown = ensured();
    assert!(shown.contains("qdisc mq"), "{shown}");
}

#[test]
fn flannel0_is_set_up_as_flannel_does() {
    let Some(netns) = host() else { return };
    let repairs = block_on(&netns, async || {
        let netlink = Netlink::connect().unwrap();
        let overlay = OverlayDevice { blackhole: true, ..overlay(index_of("flannel0").await) };
        let first = ensure(&netlink, &overlay, true).await.unwrap();
        assert_eq!(ensure(&netlink, &overlay, true).await.unwrap(), Default::default());
        // Below IPv6's least MTU and back, up and down.
        for damage in ["link set flannel0 mtu 1279", "link set flannel0 mtu 1279 down"] {
            ip(&netns, damage);
            assert!(
                ensure(&netlink, &overlay, true)
                    .await
                    .unwrap()
                    .repairs
                    .contains(&Repair::Mtu(1279))
            );
            assert_eq!(ensure(&netlink, &overlay, true).await.unwrap(), Default::default());
            assert_eq!(show(&netns, "-6 -o address show dev flannel0"), "", "{damage}");
        }
        first.repairs
    });
    assert_eq!(repairs.len(), 5);
    assert_eq!(show(&netns, "route show 10.0.0.0/16").trim(), "10.0.0.0/16 dev flannel0 linkdown");
    let addresses = show(&netns, "-4 -o address show dev flannel0");
    assert!(addresses.contains("inet 10.0.20.0/32 scope global flannel0"), "{addresses}");
    assert!(!addresses.contains("brd") && !addresses.contains("peer"), "{addresses}");
    assert!(show(&netns, "link show flannel0").contains("mtu 1472"));
    assert!(show(&netns, "route").contains("blackhole 10.0.20.0/24"));
    assert!(show(&netns, "-details link show flannel0").contains("addrgenmode none"));
    assert_eq!(show(&netns, "-6 -o address show dev flannel0"), "");
}

/// A kernel without IPv6 has nothing to set, as has one that keeps IPv6 off an interface of a small MTU.
#[test]
fn flannel0_comes_up_where_there_is_no_ipv6() {
    let Some(netns) = host() else { return };
    ip(&netns, "link set flannel0 mtu 1279");
    let repairs = block_on(&netns, async || {
        let netlink = Netlink::connect().unwrap();
        let overlay = OverlayDevice { mtu: 1_279, ..overlay(index_of("flannel0").await) };
        let refused = netlink.set_no_link_local(overlay.index).await.unwrap_err();
        assert_eq!(refused.errno(), Some(libc::EAFNOSUPPORT));
        ensure(&netlink, &overlay, true).await.unwrap().repairs
    });
    assert!(repairs.contains(&Repair::Up), "{repairs:?}");
    assert!(show(&netns, "link show flannel0").contains(",UP"));
}

/// Waits for an event of the watcher.
async fn expect(
    events: &mut mpsc::UnboundedReceiver<LinkEvent>,
    wanted: impl Fn(&LinkEvent) -> bool,
) -> LinkEvent {
    let found = tokio::time::timeout(Duration::from_secs(8), async {
        loop {
            let event = events.recv().await.expect("the watcher has ended");
            if wanted(&event) {
                return event;
            }
        }
    });
    found.await.expect("no such event within 8 s")
}

/// Waits until the interface between hosts is in use and `wanted`.
async fn in_use(
    events: &mut mpsc::UnboundedReceiver<LinkEvent>,
    wanted: impl Fn(&ExternalInterface) -> bool,
) {
    let is = |event: &LinkEvent| matches!(event, LinkEvent::Underlay(UnderlayState::InUse(i)) if wanted(i));
    expect(events, is).await;
}

/// Waits until the address of this host is waited for, for a reason with `text`.
async fn waiting(events: &mut mpsc::UnboundedReceiver<LinkEvent>, text: &str) {
    let is = |event: &LinkEvent| matches!(event, LinkEvent::Underlay(UnderlayState::Waiting(why)) if why.contains(text));
    expect(events, is).await;
}

/// Each flag, through changes of the host's addresses that a real kernel makes and reports.
#[test]
fn a_lost_underlay_address_is_looked_for_as_the_flags_say() {
    let Some(netns) = host() else { return };
    let inside = &netns;
    for command in [
        "link property add dev eth0 altname card0",
        "address add 10.9.9.9/24 dev eth0",
        "link add br0 type bridge",
        "link set br0 up",
    ] {
        ip(inside, command);
    }
    let first = Ipv4Addr::new(192, 168, 77, 11);
    block_on(&netns, async || {
        let overlay = overlay(index_of("flannel0").await);
        let watched = async |options: InterfaceOptions| {
            let (overlays, receiver) = state::channel(overlay.clone());
            let (sender, events) = mpsc::unbounded_channel();
            let underlay = interface::choose(&options).await.unwrap();
            assert_eq!((underlay.name.as_str(), underlay.address), ("eth0", first));
            let next_hops = unasked(underlay.address).await;
            tokio::spawn(watch::run(receiver, underlay, options, next_hops, sender));
            (overlays, events)
        };
        let named = |value: &str| InterfaceOptions {
            iface: vec![value.into()],
            ..InterfaceOptions::default()
        };

        // The address that a flag names is waited for, and found wherever it is.
        let (_by_address, mut events) = watched(named("192.168.77.11")).await;
        // The card is found by its other name, and its address on the bridge over it.
        let (_by_name, mut by_name) = watched(named("card0")).await;
        ip(inside, "address flush dev eth0");
        ip(inside, "address add 169.254.7.7/16 dev eth0");
        waiting(&mut events, "--iface=192.168.77.11: no interface of this host has this").await;
        waiting(&mut by_name, "eth0 has only the link-local address 169.254.7.7").await;
        ip(inside, "link set eth0 master br0");
        ip(inside, "address add 192.168.77.11/24 dev br0");
        for events in [&mut events, &mut by_name] {
            in_use(events, |now| (now.name.as_str(), now.address) == ("br0", first)).await;
        }

        // Routed to this host, on its loopback interface: the MTU is that of the way out.
        ip(inside, "address add 10.8.8.8/32 dev lo");
        ip(inside, "address add 10.9.9.9/24 dev br0");
        ip(inside, "route add default via 10.9.9.1");
        ip(inside, "link set br0 mtu 1300");
        let lo = interface::choose(&named("10.8.8.8")).await.unwrap();
        assert_eq!((lo.name.as_str(), lo.mtu), ("lo", 1300));
        let (overlays, receiver) = state::channel(overlay);
        let (sender, mut events) = mpsc::unbounded_channel();
        let next_hops = unasked(lo.address).await;
        tokio::spawn(watch::run(receiver, lo, named("10.8.8.8"), next_hops, sender));
        ip(inside, "link set br0 mtu 1200");
        in_use(&mut events, |now| now.mtu == 1200).await;
        drop(overlays);
    });
}

#[test]
fn the_watcher_repairs_flannel0_and_reports_other_changes() {
    let Some(netns) = host() else { return };
    let inside = &netns;
    block_on(&netns, async || {
        let first = overlay(index_of("flannel0").await);
        let (overlays, receiver) = state::channel(first.clone());
        let (sender, mut events) = mpsc::unbounded_channel();
        let options =
            InterfaceOptions { iface: vec!["eth0".into()], ..InterfaceOptions::default() };
        let underlay = interface::choose(&options).await.unwrap();
        let next_hops = unasked(underlay.address).await;
        let watcher = tokio::spawn(watch::run(receiver, underlay, options, next_hops, sender));
        expect(&mut events, |e| matches!(e, LinkEvent::Repaired(r) if r.len() == 4)).await;

        for (damage, repair) in [
            ("address flush dev flannel0", Repair::Address(first.address)),
            ("route del 10.0.0.0/16", Repair::Route(first.network)),
            ("link set flannel0 mtu 1300", Repair::Mtu(1300)),
            ("link set flannel0 down", Repair::Up),
        ] {
            ip(inside, damage);
            expect(&mut events, |e| matches!(e, LinkEvent::Repaired(r) if r.contains(&repair)))
                .await;
        }
        let route = show(inside, "route show 10.0.0.0/16");
        assert!(route.contains("dev flannel0"), "{route}");

        // Routes of other programs are reported while they exist.
        ip(inside, "route add 10.0.9.0/24 dev eth0");
        let event = expect(&mut events, |e| matches!(e, LinkEvent::Conflicts(c) if c.len() == 1));
        let LinkEvent::Conflicts(conflicts) = event.await else { unreachable!() };
        assert_eq!(conflicts[0].to_string(), "10.0.9.0/24 dev eth0");
        ip(inside, "route del 10.0.9.0/24");
        expect(&mut events, |e| matches!(e, LinkEvent::Conflicts(c) if c.is_empty())).await;
        // A bridge in this host's own subnet is not a conflict.
        ip(inside, "route add 10.0.20.0/24 dev eth0");

        // The interface between hosts.
        ip(inside, "link set eth0 mtu 1400");
        in_use(&mut events, |underlay| underlay.mtu == 1400).await;
        ip(inside, "address del 192.168.77.12/24 dev eth0");
        ip(inside, "address add 10.9.9.9/24 dev eth0");
        ip(inside, "address del 192.168.77.11/24 dev eth0");
        waiting(&mut events, "10.9.9.9 of eth0 takes its place").await;
        in_use(&mut events, |underlay| underlay.address == Ipv4Addr::new(10, 9, 9, 9)).await;
        ip(inside, "link del eth0");
        waiting(&mut events, "--iface=eth0: no interface of this host has this name").await;

        // The deletion of the device is reported at once, and a new device is accepted.
        let before = tokio::time::Instant::now();
        ip(inside, "link del flannel0");
        expect(&mut events, |e| *e == LinkEvent::Gone(first.index)).await;
        assert!(before.elapsed() < Duration::from_secs(1));
        add_tun(inside);
        let second = overlay(index_of("flannel0").await);
        overlays.send(second.clone()).unwrap();
        expect(&mut events, |e| matches!(e, LinkEvent::Repaired(r) if r.len() == 4)).await;

        // Another lease: nothing of the old one remains.
        let third = OverlayDevice {
            address: Ipv4Addr::new(10, 0, 5, 0),
            subnet: "10.0.5.0/24".parse().unwrap(),
            ..second
        };
        overlays.send(third).unwrap();
        expect(&mut events, |e| matches!(e, LinkEvent::Repaired(r) if r.len() == 1)).await;
        // The old address and routes are removed after the new ones are added, a moment later.
        let addresses = async || {
            while show(inside, "-4 -o address show dev flannel0").contains("10.0.20.0") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            show(inside, "-4 -o address show dev flannel0")
        };
        let addresses = tokio::time::timeout(Duration::from_secs(5), addresses()).await.unwrap();
        assert!(addresses.contains("10.0.5.0/32"), "{addresses}");

        drop(overlays);
        watcher.await.unwrap().unwrap();
    });
}

/// Reports a skipped test, or fails it where no test may be skipped.
fn skipped(why: impl std::fmt::Display) {
    use std::io::Write;
    let required = std::env::var_os("FLANNEL_UDP_REQUIRE_ROOT").is_some_and(|v| v != "0");
    assert!(!required, "cannot run here: {why}");
    // The test harness captures the output of eprintln.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
