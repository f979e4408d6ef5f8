//! Changes of a store's content by others: emptied, restored, filled, revoked, not even files.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::log::Log;
use crate::support::*;
use tokio::time::sleep;

/// Time limit between etcd's return and a correct route table.
const BOUND: Duration = Duration::from_secs(2);

fn key(subnet: flannel_udp::route::Cidr) -> String {
    format!("subnets/{}", subnet.to_string().replace('/', "-"))
}

#[tokio::test]
async fn restarted_empty() {
    let mut etcd = Etcd::start().await;
    etcd.put_leased("subnets/10.0.200.0-24", value(20), 600).await;
    let mut one = Running::start(etcd.store(), options(1)).await;
    let two = Running::start(etcd.store(), options(2)).await;
    let address = two.lease.subnet.network().to_string();
    one.wait_hop(&address, Some(2)).await;
    etcd.wipe();
    one.wait("the loss", |status| !status.connected).await;
    assert_eq!(one.hop("10.0.200.1"), Some(20));
    etcd.revive().await;
    // Both acquire their subnets again; the peer that does not return loses its route.
    let began = Instant::now();
    one.wait_hop("10.0.200.1", None).await;
    one.wait_hop(&address, Some(2)).await;
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    for (host, running) in [(1, &one), (2, &two)] {
        let found = async || etcd.get(&key(running.lease.subnet)).await.map(|found| found.0);
        until("its lease", async || found().await == Some(value(host))).await;
        assert_eq!(running.status.borrow().lease, running.lease.subnet);
    }
}

/// The revision goes back, and then past the last known one, with another history.
#[tokio::test]
async fn restored_from_an_older_snapshot() {
    let mut etcd = Etcd::start().await;
    etcd.put_leased("subnets/10.0.200.0-24", value(20), 600).await;
    let snapshot = etcd.data().with_file_name("snapshot");
    etcdctl(&["--endpoints", &etcd.url(), "snapshot", "save", snapshot.to_str().unwrap()]);
    let one = Running::start(etcd.store(), options(1)).await;
    etcd.put_leased("subnets/10.0.201.0-24", value(21), 600).await;
    one.wait_hop("10.0.201.1", Some(21)).await;
    etcd.wipe();
    let data = etcd.data();
    etcdctl(&[
        "snapshot",
        "restore",
        snapshot.to_str().unwrap(),
        "--data-dir",
        data.to_str().unwrap(),
        "--name",
        "one",
        "--initial-cluster",
        "one=http://localhost:2380",
        "--initial-advertise-peer-urls",
        "http://localhost:2380",
    ]);
    // Wait until the new history is longer than the known one.
    let proxy_time = Instant::now();
    etcd.revive().await;
    for host in 30..60 {
        etcd.put("other", value(host)).await;
    }
    etcd.put_leased("subnets/10.0.202.0-24", value(22), 600).await;
    let began = Instant::now();
    one.wait_hop("10.0.202.1", Some(22)).await;
    one.wait_hop("10.0.201.1", None).await;
    assert!(began.elapsed() < BOUND, "{:?} {:?}", began.elapsed(), proxy_time.elapsed());
    assert_eq!(one.hop("10.0.200.1"), Some(20));
    let found = async || etcd.get(&key(one.lease.subnet)).await.map(|found| found.0);
    until("our lease", async || found().await == Some(value(1))).await;
}

fn etcdctl(args: &[&str]) {
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(args)
        .output()
        .expect("cannot run etcdctl: these tests need it (Debian: etcd-client)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn ten_thousand_keys() {
    const KEYS: u32 = 10_000;
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let lease = client.lease_grant(600, None).await.unwrap().id();
    let mut subnets = (0..KEYS).map(|n| format!("10.{}.{}.0-24", n / 256, n % 256));
    loop {
        let puts: Vec<_> = subnets
            .by_ref()
            .take(100)
            .map(|name| {
                let options = etcd_client::PutOptions::new().with_lease(lease);
                etcd_client::TxnOp::put(
                    format!("{PREFIX}/subnets/{name}"),
                    value(20),
                    Some(options),
                )
            })
            .collect();
        if puts.is_empty() {
            break;
        }
        client.txn(etcd_client::Txn::new().and_then(puts)).await.unwrap();
    }
    let log = Log::start();
    let config = flannel_udp::subnet::NetworkConfig::parse(br#"{"Network":"10.0.0.0/8"}"#).unwrap();
    let began = Instant::now();
    let one = Running::start_in(etcd.store(), options(1), &config).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(one.table.len(), KEYS as usize);
    assert!(log.take().len() < 12);
    // All of them change at once, and are removed at once.
    client.lease_revoke(lease).await.unwrap();
    let took = until("an empty table", async || one.table.is_empty()).await;
    assert!(took < BOUND, "{took:?}");
    assert!(log.take().len() < 60);
    let metrics = metrics(&etcd).await;
    let asked = metrics
        .lines()
        .filter(|line| line.starts_with("grpc_server_handled_total"))
        .filter(|line| line.contains("LeaseTimeToLive"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum::<f64>();
    assert!(asked <= 3.0, "{asked} leases were asked for their time to live");
}

async fn metrics(etcd: &Etcd) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", etcd.port)).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// Renewal needs no watch, and an outage at the time of a renewal only delays it.
#[tokio::test]
async fn down_when_a_renewal_is_due() {
    let mut etcd = Etcd::start().await;
    let mut options = options(1);
    options.timing.ttl = Duration::from_secs(4);
    options.timing.renew_margin = Duration::from_secs(2);
    let mut one = Running::start(etcd.store(), options).await;
    sleep(Duration::from_millis(1000)).await;
    etcd.kill();
    sleep(Duration::from_millis(2000)).await;
    let before = one.status.borrow().renewals;
    etcd.revive().await;
    let began = Instant::now();
    one.wait("a renewal", |status| status.renewals > before).await;
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    assert_eq!(etcd.get(&key(one.lease.subnet)).await.unwrap().0, value(1));
    assert_eq!(one.status.borrow().lease, one.lease.subnet);
}

/// An operator revokes the lease: the entry is gone, and is created again at once.
#[tokio::test]
async fn own_lease_revoked() {
    let etcd = Etcd::start().await;
    let one = Running::start(etcd.store(), options(1)).await;
    let (_, _, lease) = etcd.get(&key(one.lease.subnet)).await.unwrap();
    etcd.client().await.lease_revoke(lease).await.unwrap();
    let took = until("the entry", async || etcd.get(&key(one.lease.subnet)).await.is_some()).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// An old lease that other keys are attached to is not revoked.
#[tokio::test]
async fn a_lease_with_other_keys_is_left_alone() {
    let etcd = Etcd::start().await;
    let lease = etcd.put_leased("subnets/10.0.9.0-24", value(1), 600).await;
    let options = etcd_client::PutOptions::new().with_lease(lease);
    etcd.client().await.put("/elsewhere", "precious", Some(options)).await.unwrap();
    let one = Running::start(etcd.store(), options_of(1)).await;
    assert_eq!(one.lease.subnet, cidr("10.0.9.0/24"));
    let kept = etcd.client().await.get("/elsewhere", None).await.unwrap();
    assert_eq!(kept.kvs().len(), 1);
    assert_ne!(etcd.get("subnets/10.0.9.0-24").await.unwrap().2, lease);
}

fn options_of(host: u8) -> flannel_udp::subnet::ManagerOptions {
    options(host)
}

/// Nothing but leases is written under the prefix, all of them readable by flannel.
#[tokio::test]
async fn nothing_else_is_written() {
    let etcd = Etcd::start().await;
    let one = Running::start(etcd.store(), options(1)).await;
    let two = Running::start(etcd.store(), options(2)).await;
    let get = etcd_client::GetOptions::new().with_all_keys();
    let reply = etcd.client().await.get("", Some(get)).await.unwrap();
    let mut found: Vec<(String, String)> = reply
        .kvs()
        .iter()
        .map(|kv| (kv.key_str().unwrap().to_owned(), kv.value_str().unwrap().to_owned()))
        .collect();
    found.sort();
    let mut expected = vec![
        (format!("{PREFIX}/{}", key(one.lease.subnet)), value(1)),
        (format!("{PREFIX}/{}", key(two.lease.subnet)), value(2)),
    ];
    expected.sort();
    assert_eq!(found, expected);
}

/// Whatever stands under the name of an entry costs that entry only. The directory itself is a link.
#[tokio::test]
async fn what_is_no_file_costs_its_entry_only() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let dir = tempfile::TempDir::new().unwrap();
    let real = dir.path().join("real");
    std::fs::create_dir_all(real.join("subnets")).unwrap();
    symlink(&real, dir.path().join("link")).unwrap();
    let options_of_store = flannel_udp::subnet::store::FileOptions::new(dir.path().join("link"));
    let open = || -> std::sync::Arc<dyn flannel_udp::subnet::LeaseStore> {
        std::sync::Arc::new(
            flannel_udp::subnet::store::FileStore::open(options_of_store.clone()).unwrap(),
        )
    };
    let log = Log::start();
    let mut one = Running::start(open(), options(1)).await;
    let at = |name: &str| real.join("subnets").join(name);
    let fifo = |path: &std::path::Path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    fifo(&at("10.0.201.0-24"));
    std::fs::write(dir.path().join("good"), value(66)).unwrap();
    symlink(dir.path().join("good"), at("10.0.202.0-24")).unwrap();
    std::fs::create_dir(at("10.0.203.0-24")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("10.0.204.0-24")).unwrap();
    symlink("10.0.205.0-24", at("10.0.205.0-24")).unwrap();
    fifo(&real.join("terms/10.0.206.0-24"));
    std::fs::write(at("10.0.206.0-24"), value(66)).unwrap();
    std::fs::write(real.join("subnets").join(std::ffi::OsStr::from_bytes(b"10.\xff")), "x")
        .unwrap();
    std::fs::write(at("10.0.207.0-24"), value(27)).unwrap();
    one.wait_hop("10.0.207.1", Some(27)).await;
    one.wait("all of it to be seen", |status| status.skipped_keys == 7).await;
    assert_eq!(one.table.len(), 1);
    let said = log.take().join("\n");
    for part in [
        "10.0.201.0-24: a FIFO",
        "10.0.202.0-24: a symbolic link",
        "10.0.203.0-24: a directory",
        "10.0.204.0-24: a socket",
        "10.0.205.0-24: a symbolic link",
        "10.0.206.0-24: a FIFO",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // They hold their subnets, and go as any other entry.
    let store = open();
    let record = store.get("10.0.201.0-24").await.unwrap().unwrap();
    let created = store.create("10.0.201.0-24", b"x", None).await;
    assert!(matches!(created, Err(flannel_udp::subnet::StoreError::Conflict)), "{created:?}");
    store.remove("10.0.201.0-24", record.revision).await.unwrap();
    one.wait("one less", |status| status.skipped_keys == 6).await;
    // So does whatever stands under our own: the lease is written again.
    let own = at(&one.lease.subnet.to_string().replace('/', "-"));
    std::fs::remove_file(&own).unwrap();
    fifo(&own);
    until("our lease", async || own.symlink_metadata().is_ok_and(|meta| meta.is_file())).await;
}
