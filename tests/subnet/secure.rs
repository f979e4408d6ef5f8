//! etcd with TLS, with passwords, and with several members.
use std::time::{Duration, Instant};

use crate::support::certificates::Authority;
use crate::support::cluster::Cluster;
use crate::support::log::Log;
use crate::support::*;
use etcd_client::{
    Client, ConnectOptions, Permission, PermissionType, RoleRevokePermissionOptions,
};
use flannel_udp::subnet::store::{EtcdStore, Grant, StoreError, UnavailableKind};
use flannel_udp::subnet::{EtcdOptions, LeaseId, LeaseStore, Secret};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

async fn failure(options: EtcdOptions) -> (UnavailableKind, String) {
    match EtcdStore::new(options).unwrap().config().await {
        Err(StoreError::Unavailable { kind, detail }) => (kind, detail),
        other => panic!("{other:?}"),
    }
}

/// A server with a certificate. With `mutual` it asks clients for one too.
pub(crate) async fn tls_server(
    dir: &TempDir,
    authority: &Authority,
    mutual: bool,
) -> (Etcd, EtcdOptions) {
    let ca = authority.write(dir.path());
    let (cert, key) = authority.sign(dir.path(), "server");
    let ca_arg = format!("--trusted-ca-file={}", ca.display());
    let cert_arg = format!("--cert-file={}", cert.display());
    let key_arg = format!("--key-file={}", key.display());
    let mut args = vec![cert_arg.as_str(), key_arg.as_str()];
    if mutual {
        args.extend(["--client-cert-auth", ca_arg.as_str()]);
    }
    let etcd = Etcd::start_with(&args).await;
    let options = EtcdOptions { ca_file: Some(ca), ..etcd.options() };
    // The port is open before a leader is elected.
    let store = EtcdStore::new(options.clone()).unwrap();
    if !mutual {
        until("an answer", async || store.config().await.is_ok()).await;
    }
    (etcd, options)
}

#[tokio::test]
async fn authority_alone_is_enough() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new("one");
    let (etcd, options) = tls_server(&dir, &authority, false).await;
    let one = Running::start(etcd_store(options.clone()), self::options(1)).await;
    let two = Running::start(etcd_store(options.clone()), self::options(2)).await;
    one.wait_hop(&two.lease.subnet.network().to_string(), Some(2)).await;
    // For an endpoint without a scheme, the authority implies TLS.
    let plain = EtcdOptions { endpoints: vec![format!("127.0.0.1:{}", etcd.port)], ..options };
    assert!(EtcdStore::new(plain).unwrap().config().await.is_ok());
}

#[tokio::test]
async fn wrong_certificates_are_named() {
    let dir = TempDir::new().unwrap();
    let other_dir = TempDir::new().unwrap();
    let authority = Authority::new("one");
    let (etcd, mut options) = tls_server(&dir, &authority, true).await;
    let (found, detail) = failure(options.clone()).await;
    assert_eq!(found, UnavailableKind::Tls, "no certificate: {detail}");
    let unknown = Authority::new("unknown");
    let (cert, key) = unknown.sign(other_dir.path(), "client");
    (options.cert_file, options.key_file) = (Some(cert), Some(key));
    let (found, detail) = failure(options.clone()).await;
    assert_eq!(found, UnavailableKind::Tls, "a certificate of an unknown authority: {detail}");
    let (cert, key) = authority.sign(dir.path(), "client");
    (options.cert_file, options.key_file) = (Some(cert), Some(key));
    assert!(EtcdStore::new(options.clone()).unwrap().config().await.is_ok());
    options.ca_file = Some(unknown.write(other_dir.path()));
    let (found, detail) = failure(options.clone()).await;
    assert_eq!(found, UnavailableKind::Tls, "an unknown authority: {detail}");
    options.endpoints = vec![format!("http://127.0.0.1:{}", etcd.port)];
    let (found, detail) = failure(options).await;
    assert_ne!(found, UnavailableKind::Refused, "http to an https port: {detail}");
}

/// The authority is replaced on both ends while the manager runs.
#[tokio::test]
async fn certificates_may_be_replaced() {
    let dir = TempDir::new().unwrap();
    let old = Authority::new("old");
    let (mut etcd, mut options) = tls_server(&dir, &old, true).await;
    let (cert, key) = old.sign(dir.path(), "client");
    (options.cert_file, options.key_file) = (Some(cert), Some(key));
    let mut one = Running::start(etcd_store(options.clone()), self::options(1)).await;
    etcd.kill();
    one.wait("the loss", |status| !status.connected).await;
    let new = Authority::new("new");
    new.write(dir.path());
    new.sign(dir.path(), "server");
    etcd.revive().await;
    sleep(Duration::from_millis(500)).await;
    new.sign(dir.path(), "client");
    let began = Instant::now();
    one.wait("the return", |status| status.connected).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// A reload names a file that cannot be used and keeps the connection; one that works is followed by a new connection.
#[tokio::test]
async fn a_reload_reads_the_certificates_again() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new("one");
    let (etcd, mut options) = tls_server(&dir, &authority, true).await;
    let (cert, key) = authority.sign(dir.path(), "client");
    (options.cert_file, options.key_file) = (Some(cert.clone()), Some(key.clone()));
    let store = etcd_store(options);
    store.config().await.unwrap();
    let good = std::fs::read(&key).unwrap();
    std::fs::write(&key, "").unwrap();
    let why = store.reload().unwrap_err();
    assert!(why.contains("--etcd-keyfile") && why.contains("the file is empty"), "{why}");
    store.config().await.expect("the connection stays");
    std::fs::write(&key, good).unwrap();
    let files = store.reload().unwrap();
    assert!(files.len() == 3 && files.contains(&cert) && files.contains(&key), "{files:?}");
    std::fs::write(&key, "").unwrap();
    let error = store.config().await.expect_err("a new connection reads the files").to_string();
    assert!(error.contains("the file is empty"), "{error}");
    drop(etcd);
}

pub(crate) async fn with_auth(args: &[&str]) -> (Etcd, EtcdOptions) {
    let etcd = Etcd::start_with(args).await;
    let mut client = etcd.client().await;
    client.user_add("root", "s3cret-root", None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("flannel", "s3cret", None).await.unwrap();
    client.role_add("flannel").await.unwrap();
    let all = Permission::new(PermissionType::Readwrite, PREFIX).with_prefix();
    client.role_grant_permission("flannel", all).await.unwrap();
    client.user_grant_role("flannel", "flannel").await.unwrap();
    client.auth_enable().await.unwrap();
    let options = EtcdOptions {
        username: Some("flannel".into()),
        password: Some(Secret::new("s3cret")),
        ..etcd.options()
    };
    (etcd, options)
}

pub(crate) async fn root(etcd: &Etcd) -> Client {
    let options = ConnectOptions::new().with_user("root", "s3cret-root");
    Client::connect([etcd.url()], Some(options)).await.unwrap()
}

#[tokio::test]
async fn tokens_expire_and_servers_forget_them() {
    let (mut etcd, options) = with_auth(&["--auth-token-ttl", "1"]).await;
    let store = etcd_store(options);
    let mut hurried = self::options(1);
    hurried.timing.ttl = Duration::from_secs(6);
    hurried.timing.renew_margin = Duration::from_secs(3);
    let mut one = Running::start(store.clone(), hurried).await;
    // No request for longer than the life of a token, and then a renewal.
    one.wait("a renewal after the token's end", |status| status.renewals >= 1).await;
    assert!(store.config().await.is_ok());
    let put = async |etcd: &Etcd, host: u8| {
        let key = format!("{PREFIX}/subnets/10.0.20{}.0-24", host % 10);
        root(etcd).await.put(key, value(host), None).await.unwrap();
    };
    put(&etcd, 21).await;
    one.wait_hop("10.0.201.1", Some(21)).await;
    etcd.kill();
    one.wait("the loss", |status| !status.connected).await;
    etcd.revive().await;
    put(&etcd, 22).await;
    let took = one.wait_hop("10.0.202.1", Some(22)).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn passwords_are_checked_and_kept_secret() {
    let (_etcd, options) = with_auth(&[]).await;
    let wrong = EtcdOptions { password: Some(Secret::new("hunter2")), ..options.clone() };
    assert!(!format!("{wrong:?}").contains("hunter2"));
    let (found, detail) = failure(wrong).await;
    assert_eq!(found, UnavailableKind::Authentication, "{detail}");
    assert!(!detail.contains("hunter2"));
    let anonymous = EtcdOptions { username: None, password: None, ..options.clone() };
    let (found, detail) = failure(anonymous).await;
    assert_eq!(found, UnavailableKind::Authentication, "{detail}");
    let elsewhere = EtcdOptions { prefix: "/elsewhere".into(), ..options };
    let (found, detail) = failure(elsewhere).await;
    assert_eq!(found, UnavailableKind::Permission, "{detail}");
    // A user name, though authentication is disabled.
    let open = Etcd::start().await;
    let needless = EtcdOptions {
        username: Some("flannel".into()),
        password: Some(Secret::new("s3cret")),
        ..open.options()
    };
    assert!(EtcdStore::new(needless).unwrap().config().await.is_ok());
}

/// A store that answers and refuses is named for that, with its cure, until it does what it should.
#[tokio::test]
async fn a_store_that_refuses_says_why() {
    let log = Log::start();
    let (etcd, options) = with_auth(&[]).await;
    let store = etcd_store(options);
    store.check_write().await.unwrap();
    let mut hurried = self::options(1);
    hurried.timing.ttl = Duration::from_secs(6);
    hurried.timing.renew_margin = Duration::from_secs(5);
    let refusal = hurried.refusal.subscribe();
    // A role that may read only: the lease cannot be acquired.
    may(&etcd, PermissionType::Read).await;
    let found = store.check_write().await.unwrap_err();
    assert_eq!(found.kind(), Some(UnavailableKind::Permission), "{found}");
    let mut start = tokio::spawn(Running::start(store.clone(), hurried));
    assert!(timeout(Duration::from_secs(1), &mut start).await.is_err());
    assert_eq!(*refusal.borrow(), Some(UnavailableKind::Permission));
    may(&etcd, PermissionType::Readwrite).await;
    let mut one = start.await.unwrap();
    assert_eq!(*refusal.borrow(), None);
    // The same with a lease in hand: it cannot be renewed.
    may(&etcd, PermissionType::Read).await;
    until("the refusal", async || *refusal.borrow() == Some(UnavailableKind::Permission)).await;
    may(&etcd, PermissionType::Readwrite).await;
    until("the end of the refusal", async || refusal.borrow().is_none()).await;
    one.wait("the lease", |status| status.lease_held).await;
    let lines = log.take();
    let says = |line: &String| {
        line.contains("refuses: permission denied")
            && line.contains("etcdctl role grant-permission")
    };
    assert!(lines.iter().any(says), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("cannot reach")), "{lines:#?}");
}

/// Sets what the user may do with the keys of the network.
pub(crate) async fn may(etcd: &Etcd, what: PermissionType) {
    let mut admin = root(etcd).await;
    let prefix = RoleRevokePermissionOptions::new().with_prefix();
    admin.role_revoke_permission("flannel", PREFIX, Some(prefix)).await.unwrap();
    let what = Permission::new(what, PREFIX).with_prefix();
    admin.role_grant_permission("flannel", what).await.unwrap();
}

/// etcd without room refuses writes and answers reads.
#[tokio::test]
async fn a_store_without_room_is_named() {
    let etcd = full_server().await;
    let store = etcd.store();
    let full = store.check_write().await.unwrap_err();
    assert_eq!(full.kind(), Some(UnavailableKind::Full), "{full}");
    assert!(full.to_string().contains("database space exceeded"), "{full}");
    store.list().await.unwrap();
}

/// A server that has used up its space.
pub(crate) async fn full_server() -> Etcd {
    let etcd = Etcd::start_with(&["--quota-backend-bytes", "200000"]).await;
    etcd.put("config", CONFIG).await;
    let client = etcd.client().await;
    // The server measures its size when it writes to disk, ten times per second.
    until("the alarm", async || {
        let key = format!("/fill/{}", fastrand::u64(..));
        client.clone().put(key, vec![b'x'; 20_000], None).await.is_err()
    })
    .await;
    etcd
}

/// A name that no name server knows is that, and not an etcd that does not answer.
#[tokio::test]
async fn a_name_without_an_address_is_named() {
    let endpoints = vec!["http://no-such-host.invalid:2379".to_owned()];
    let (found, detail) = failure(EtcdOptions { endpoints, ..EtcdOptions::default() }).await;
    assert_eq!(found, UnavailableKind::Name, "{detail}");
    assert!(detail.contains("no-such-host.invalid"), "{detail}");
}

#[tokio::test]
async fn the_leader_may_change() {
    let mut cluster = Cluster::start(3).await;
    let options = EtcdOptions { endpoints: cluster.endpoints(), ..EtcdOptions::default() };
    let mut one = Running::start(etcd_store(options), self::options(1)).await;
    let leader = cluster.leader().await;
    cluster.members[leader].kill();
    let next = cluster.leader().await;
    let began = Instant::now();
    cluster.members[next].put("subnets/10.0.201.0-24", value(21)).await;
    one.wait_hop("10.0.201.1", Some(21)).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // And a transfer of leadership, without a loss.
    cluster.members[leader].revive().await;
    let to = (next + 1) % 3;
    let status = cluster.members[to].client().await.status().await.unwrap();
    let id = status.header().unwrap().member_id();
    cluster.members[next].client().await.move_leader(id).await.unwrap();
    cluster.members[to].put("subnets/10.0.202.0-24", value(22)).await;
    one.wait_hop("10.0.202.1", Some(22)).await;
    one.wait("the lease", |status| status.lease_held).await;
}

/// The member that serves the watch loses its peers: it runs, but has no leader.
#[tokio::test]
async fn a_member_without_a_leader_is_left() {
    let mut cluster = Cluster::start(3).await;
    let good = Etcd::start().await;
    let leaderless = cluster.members[0].url();
    cluster.members[1].kill();
    cluster.members[2].kill();
    let options =
        EtcdOptions { endpoints: vec![leaderless.clone(), good.url()], ..EtcdOptions::default() };
    let began = Instant::now();
    let one = Running::start(etcd_store(options), self::options(1)).await;
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    good.put("subnets/10.0.201.0-24", value(21)).await;
    assert!(one.wait_hop("10.0.201.1", Some(21)).await < Duration::from_secs(2));
    // With enough time, the member itself reports that it has no leader.
    sleep(Duration::from_secs(1)).await;
    let (found, detail) =
        failure(EtcdOptions { endpoints: vec![leaderless], ..EtcdOptions::default() }).await;
    assert!(
        matches!(found, UnavailableKind::NoLeader | UnavailableKind::Timeout),
        "{found:?} {detail}"
    );
}

/// A put whose answer was lost is not taken for another client's.
#[tokio::test]
async fn an_answer_may_be_lost() {
    let etcd = Etcd::start().await;
    let store = etcd.store();
    let grant = Grant { id: LeaseId(4711), ttl: Duration::from_secs(60) };
    let first = store.create("10.0.7.0-24", b"x", Some(grant)).await.unwrap();
    // The same request again, as after a time-out.
    let again = store.create("10.0.7.0-24", b"x", Some(grant)).await.unwrap();
    assert_eq!(first, again);
    let other = Grant { id: LeaseId(4712), ttl: Duration::from_secs(60) };
    let refused = store.create("10.0.7.0-24", b"x", Some(other)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict));
    assert_eq!(etcd.leases().await, 1, "the loser's lease is revoked");
}
