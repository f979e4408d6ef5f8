//! Faults of a real etcd, each with the time limit within which the manager recovers.
use std::time::{Duration, Instant};

use crate::support::log::{Log, cpu_ticks};
use crate::support::proxy::{Mode, Proxy};
use crate::support::*;
use flannel_udp::subnet::store::{StoreError, UnavailableKind};
use flannel_udp::subnet::{LeaseStore, Manager};
use tokio::time::{sleep, timeout};

/// Time limit between etcd's return and a correct route table.
const BOUND: Duration = Duration::from_secs(2);

fn key(subnet: flannel_udp::route::Cidr) -> String {
    format!("subnets/{}", subnet.to_string().replace('/', "-"))
}

/// A host that reaches etcd through a proxy, and has a peer in its table.
async fn behind_proxy(etcd: &Etcd, host: u8) -> (Proxy, Running) {
    etcd.put_leased("subnets/10.0.200.0-24", value(20), 600).await;
    let proxy = Proxy::to(etcd.port).await;
    let mut options = etcd.options();
    options.endpoints = vec![proxy.url()];
    let running = Running::start(etcd_store(options), self::options(host)).await;
    assert_eq!(running.hop("10.0.200.1"), Some(20));
    (proxy, running)
}

#[tokio::test]
async fn unreachable_at_start_is_logged_and_retried() {
    let log = Log::start();
    let mut etcd = Etcd::new(&[]);
    let store = etcd.store();
    let manager = Manager::new(store, options(1));
    let wait = manager.wait_for_config();
    tokio::pin!(wait);
    assert!(timeout(Duration::from_secs(2), &mut wait).await.is_err());
    let lines = log.take();
    assert!((1..=5).contains(&lines.len()), "{lines:#?}");
    assert!(lines[0].contains("refused"), "{}", lines[0]);
    etcd.revive().await;
    assert!(timeout(Duration::from_millis(1200), &mut wait).await.is_err());
    etcd.put("confg", CONFIG).await;
    assert!(timeout(Duration::from_millis(1200), &mut wait).await.is_err());
    let lines = log.take();
    let missing: Vec<_> = lines.iter().filter(|line| line.contains("config not found")).collect();
    assert!(missing.iter().any(|line| line.contains("/coreos.com/network/confg")), "{lines:#?}");
    etcd.put("config", CONFIG).await;
    assert_eq!(timeout(BOUND, wait).await.unwrap().unwrap(), config());
}

#[tokio::test]
async fn stopped_and_back() {
    let mut etcd = Etcd::start().await;
    etcd.put_leased("subnets/10.0.200.0-24", value(20), 600).await;
    let mut one = Running::start(etcd.store(), options(1)).await;
    let log = Log::start();
    etcd.kill();
    one.wait("the loss", |status| !status.connected).await;
    let ticks = cpu_ticks();
    sleep(Duration::from_secs(4)).await;
    let ticks = cpu_ticks() - ticks;
    assert!(ticks <= 20, "{ticks} ticks of 10 ms in 4 s without etcd");
    assert_eq!(one.hop("10.0.200.1"), Some(20), "forwarding continues");
    let lines = log.take();
    assert!((1..=8).contains(&lines.len()), "{lines:#?}");
    etcd.revive().await;
    etcd.put_leased("subnets/10.0.201.0-24", value(21), 600).await;
    let took = one.wait_hop("10.0.201.1", Some(21)).await;
    assert!(took < BOUND, "{took:?}");
    one.wait("connected", |status| status.connected).await;
    assert_eq!(one.hop("10.0.200.1"), Some(20));
    let lines = log.take();
    assert!(lines.iter().any(|line| line.contains("the lease store answers again")), "{lines:#?}");
    let found = etcd.get(&key(one.lease.subnet)).await.unwrap();
    assert_eq!(found.0, value(1));
}

/// The connection is cut, leases come and go, and the history of these changes is compacted.
#[tokio::test]
async fn cut_for_longer_than_the_history() {
    let etcd = Etcd::start().await;
    let (proxy, mut one) = behind_proxy(&etcd, 1).await;
    let log = Log::start();
    proxy.set(Mode::Cut);
    one.wait("the loss", |status| !status.connected).await;
    etcd.delete("subnets/10.0.200.0-24").await;
    etcd.put_leased("subnets/10.0.201.0-24", value(21), 600).await;
    etcd.put_leased("subnets/10.0.202.0-24", value(22), 600).await;
    etcd.compact().await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((one.hop("10.0.200.1"), one.hop("10.0.201.1")), (Some(20), None));
    proxy.set(Mode::Pass);
    let took = one.wait_hop("10.0.201.1", Some(21)).await;
    assert!(took < BOUND, "{took:?}");
    assert_eq!((one.hop("10.0.200.1"), one.hop("10.0.202.1")), (None, Some(22)));
    etcd.put_leased("subnets/10.0.203.0-24", value(23), 600).await;
    assert!(one.wait_hop("10.0.203.1", Some(23)).await < Duration::from_secs(1));
    let ticks = cpu_ticks();
    sleep(Duration::from_secs(2)).await;
    let ticks = cpu_ticks() - ticks;
    assert!(ticks <= 10, "{ticks} ticks of 10 ms in 2 s of nothing");
    let lines = log.take();
    assert!(lines.len() <= 12, "{lines:#?}");
}

/// The watch's connection stays open, but nothing arrives on it any more.
#[tokio::test]
async fn silently_dead_watch() {
    let etcd = Etcd::start().await;
    let (proxy, one) = behind_proxy(&etcd, 1).await;
    proxy.set(Mode::OldSilent);
    etcd.put_leased("subnets/10.0.201.0-24", value(21), 600).await;
    let took = one.wait_hop("10.0.201.1", Some(21)).await;
    // A probe after 2 s of silence, and a second watch one second later.
    assert!(took < Duration::from_millis(3600), "{took:?}");
    assert_eq!(one.status.borrow().watch_restarts, 1);
}

/// Packets are dropped for a while, and connections stay open.
#[tokio::test]
async fn black_hole_and_back() {
    let etcd = Etcd::start().await;
    let (proxy, mut one) = behind_proxy(&etcd, 1).await;
    proxy.set(Mode::Silent);
    one.wait("the loss", |status| !status.connected).await;
    etcd.put_leased("subnets/10.0.201.0-24", value(21), 600).await;
    etcd.delete("subnets/10.0.200.0-24").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(one.hop("10.0.200.1"), Some(20));
    proxy.set(Mode::OldSilent);
    let took = one.wait_hop("10.0.201.1", Some(21)).await;
    assert!(took < BOUND, "{took:?}");
    assert_eq!(one.hop("10.0.200.1"), None);
}

/// The process hangs: the kernel accepts connections for it, and no request is answered.
#[tokio::test]
async fn frozen_server() {
    let etcd = Etcd::start().await;
    let mut one = Running::start(etcd.store(), options(1)).await;
    etcd.signal("-STOP");
    one.wait("the loss", |status| !status.connected).await;
    etcd.signal("-CONT");
    etcd.put_leased("subnets/10.0.201.0-24", value(21), 600).await;
    let took = one.wait_hop("10.0.201.1", Some(21)).await;
    assert!(took < BOUND, "{took:?}");
}

#[tokio::test]
async fn slow_answers() {
    let etcd = Etcd::start().await;
    let (proxy, mut one) = behind_proxy(&etcd, 1).await;
    let log = Log::start();
    let before = proxy.connections.load(std::sync::atomic::Ordering::Relaxed);
    proxy.set(Mode::Slow(Duration::from_millis(700)));
    sleep(Duration::from_secs(8)).await;
    etcd.put_leased("subnets/10.0.201.0-24", value(21), 600).await;
    let took = one.wait_hop("10.0.201.1", Some(21)).await;
    assert!(took < Duration::from_secs(6), "{took:?}");
    one.wait("no loss", |status| status.lease_held).await;
    let dials = proxy.connections.load(std::sync::atomic::Ordering::Relaxed) - before;
    assert!(dials <= 4, "{dials} new connections to a server that is only slow");
    assert!(log.take().len() <= 6);
}

/// The first endpoint is dead, black-holed, or of a member that has lost its leader.
#[tokio::test]
async fn one_bad_endpoint_among_good_ones() {
    let etcd = Etcd::start().await;
    let hole = Proxy::to(etcd.port).await;
    hole.set(Mode::Silent);
    let dead = format!("http://127.0.0.1:{}", free_port());
    for (host, bad) in [(1, dead), (2, hole.url())] {
        let mut options = etcd.options();
        options.endpoints.insert(0, bad.clone());
        let began = Instant::now();
        let one = Running::start(etcd_store(options), self::options(host)).await;
        let limit = if host == 1 { 2 } else { 12 };
        assert!(began.elapsed() < Duration::from_secs(limit), "{bad}: {:?}", began.elapsed());
        let name = format!("10.0.20{host}.0");
        etcd.put_leased(&format!("subnets/{name}-24"), value(host + 20), 600).await;
        assert!(one.wait_hop(&name, Some(host + 20)).await < Duration::from_secs(1));
    }
}

/// The endpoint that serves the watch goes silent, and the manager uses the other one.
#[tokio::test]
async fn the_watch_moves_to_the_other_endpoint() {
    let etcd = Etcd::start().await;
    let (first, second) = (Proxy::to(etcd.port).await, Proxy::to(etcd.port).await);
    let mut options = etcd.options();
    options.endpoints = vec![first.url(), second.url()];
    let one = Running::start(etcd_store(options), self::options(1)).await;
    for (number, (bad, good, mode)) in
        [(&first, &second, Mode::Cut), (&second, &first, Mode::Silent)].into_iter().enumerate()
    {
        good.set(Mode::Pass);
        bad.set(mode);
        let host = 30 + number as u8;
        etcd.put_leased(&format!("subnets/10.0.{host}.0-24"), value(host), 600).await;
        let took = one.wait_hop(&format!("10.0.{host}.1"), Some(host)).await;
        let limit = if mode == Mode::Cut { BOUND } else { Duration::from_secs(9) };
        assert!(took < limit, "{mode:?}: {took:?}");
    }
}

#[tokio::test]
async fn errors_are_classified() {
    let dead = etcd_store(flannel_udp::subnet::EtcdOptions {
        endpoints: vec![format!("127.0.0.1:{}", free_port())],
        ..Default::default()
    });
    assert_eq!(failure(&*dead).await, UnavailableKind::Refused);
    let etcd = Etcd::start().await;
    let hole = Proxy::to(etcd.port).await;
    hole.set(Mode::Silent);
    let silent = etcd_store(flannel_udp::subnet::EtcdOptions {
        endpoints: vec![hole.url()],
        request_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_millis(300),
        ..Default::default()
    });
    assert_eq!(failure(&*silent).await, UnavailableKind::Timeout);
}

async fn failure(store: &dyn LeaseStore) -> UnavailableKind {
    match store.config().await {
        Err(StoreError::Unavailable { kind, .. }) => kind,
        other => panic!("{other:?}"),
    }
}
