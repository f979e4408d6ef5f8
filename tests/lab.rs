//! The lab: kernel paths between its hosts, verified traffic, and a complete removal.

use std::time::Duration;

use flannel_udp::lab::traffic::{Agent, EchoReport, SinkReport, TcpReport, UdpReport};
use flannel_udp::lab::traffic::{ECHO_PORT, SINK_PORT};
use flannel_udp::lab::{self, Lab, LabBuilder, Tunnel, UnderlayKind, ping, tool};

/// The options of a lab; `None`, after a line on standard error, where no lab can be built.
fn builder() -> Option<LabBuilder> {
    match lab::have_privilege() {
        Ok(_) => Some(Lab::builder().binary(env!("CARGO_BIN_EXE_flannel-udp"))),
        Err(missing) => {
            eprintln!("SKIPPED: no network namespaces here: {missing}");
            None
        }
    }
}

#[test]
fn plain_routes_carry_verified_traffic_and_nothing_is_left() {
    let Some(builder) = builder() else { return };
    let mut lab = builder.underlay(UnderlayKind::Nic).build().unwrap();
    let (prefix, directory) = (lab.prefix().to_owned(), lab.directory().to_owned());
    lab.route_plainly().unwrap();
    let (from, to) = (lab.host(0).container(), lab.host(1).container());
    let pong = ping::between(from, to, Duration::from_secs(2)).unwrap();
    assert_eq!(pong.ttl, 62, "two routers on the way back");
    exchange(&lab);
    drop(lab);
    assert!(!tool::run("ip", &["netns", "list"]).unwrap().contains(&prefix));
    assert!(!directory.exists());
}

#[test]
fn vxlan_carries_packets_between_three_hosts() {
    let Some(builder) = builder() else { return };
    let mut lab = builder.hosts(3).build().unwrap();
    if let Err(e) = lab.tunnel_with_vxlan() {
        eprintln!("SKIPPED: no VXLAN here: {e}");
        return;
    }
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        let (from, to) = (lab.host(from).container(), lab.host(to).container());
        let pong = ping::between(from, to, Duration::from_secs(2)).unwrap();
        assert_eq!(pong.ttl, 62);
    }
    exchange(&lab);
}

#[test]
fn tunnels_of_other_projects_carry_verified_traffic() {
    for tunnel in Tunnel::ALL {
        let Some(builder) = builder() else { return };
        let mut lab = builder.underlay(UnderlayKind::Nic).build().unwrap();
        let prefix = lab.prefix().to_owned();
        let processes = match lab.tunnel_with(tunnel) {
            Err(e @ lab::LabError::Missing { .. }) => {
                eprintln!("SKIPPED: {}: {e}", tunnel.name());
                continue;
            }
            other => other.unwrap(),
        };
        let (from, to) = (lab.host(0).container(), lab.host(1).container());
        ping::between(from, to, Duration::from_secs(5)).unwrap();
        exchange(&lab);
        drop(processes);
        drop(lab);
        assert!(!tool::run("ip", &["netns", "list"]).unwrap().contains(&prefix));
    }
}

#[test]
fn a_panic_leaves_nothing_behind() {
    let Some(builder) = builder() else { return };
    let (send, receive) = std::sync::mpsc::channel();
    let outcome = std::thread::spawn(move || {
        let lab = builder.build().unwrap();
        send.send((lab.prefix().to_owned(), lab.directory().to_owned())).unwrap();
        panic!("on purpose");
    })
    .join();
    assert!(outcome.is_err());
    let (prefix, directory) = receive.recv().unwrap();
    assert!(!tool::run("ip", &["netns", "list"]).unwrap().contains(&prefix));
    assert!(!directory.exists());
}

#[test]
fn etcd_has_two_members_and_survives_a_stop() {
    let Some(builder) = builder() else { return };
    let mut lab = builder.build().unwrap();
    match lab.start_etcd(2, lab::CONFIG) {
        Err(e @ lab::LabError::Missing { .. }) => return eprintln!("SKIPPED: {e}"),
        other => other.unwrap(),
    }
    assert_eq!(lab.etcd().unwrap().endpoints().len(), 2);
    let key = format!("{}/config", lab::ETCD_PREFIX);
    let expected = vec![(key, lab::CONFIG.to_owned())];
    assert_eq!(lab.keys(lab::ETCD_PREFIX).unwrap(), expected);
    lab.etcd().unwrap().stop().unwrap();
    assert!(lab.keys(lab::ETCD_PREFIX).is_err());
    lab.restart_etcd().unwrap();
    assert_eq!(lab.keys(lab::ETCD_PREFIX).unwrap(), expected);
}

/// A verified transfer, numbered packets and round trips from the first host to the second.
fn exchange(lab: &Lab) {
    let binary = lab.binary().unwrap();
    let (from, to) = (lab.host(0).container(), lab.host(1).container());
    let mut sink = Agent::start(&binary, to.netns(), "sink").unwrap();

    let words = format!("tcp --to {}:{SINK_PORT} --streams 2 --bytes 3000001", to.address());
    let mut tcp = Agent::start(&binary, from.netns(), &words).unwrap();
    let done = wait(|| {
        let report: TcpReport = tcp.report().unwrap();
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        (report.verified.len() == 2).then_some(report)
    });
    for (sum, verified) in done.checksums.iter().zip(&done.verified) {
        assert!(verified.is(3_000_001, *sum), "{verified:?}");
    }

    let words = format!("udp --to {}:{SINK_PORT} --rate 2000 --flows 3", to.address());
    let mut udp = Agent::start(&binary, from.netns(), &words).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let sent: UdpReport = udp.stop().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let sent = UdpReport { sent: udp.report::<UdpReport>().unwrap().sent, ..sent };
    let got: SinkReport = sink.report().unwrap();
    assert!(sent.sent > 100, "{sent:?}");
    assert_eq!((got.udp_packets, got.udp_disordered, got.udp_foreign), (sent.sent, 0, 0));
    assert_eq!(got.udp_bytes, sent.sent * 18);

    let words = format!("echo --to {}:{ECHO_PORT}", to.address());
    let mut echo = Agent::start(&binary, from.netns(), &words).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let seen: EchoReport = echo.report().unwrap();
    assert!(seen.answered > 10 && seen.lost == 0, "{seen:?}");
    assert!(seen.times.p50 > 1.0 && seen.times.p50 <= seen.times.p99, "{seen:?}");
}

fn wait<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    for _ in 0..200 {
        if let Some(value) = ready() {
            return value;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("not ready after ten seconds");
}
