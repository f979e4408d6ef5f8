//! The manager against both registries: the same tests, a real etcd and a real directory.
#![allow(missing_docs)]

mod subnet_support;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use flannel_udp::subnet::admin::{self, AdminError, HoldingTerm};
use flannel_udp::subnet::registry::{FileOptions, FileRegistry, Registry};
use flannel_udp::subnet::{
    AcquireError, Manager, ManagerOptions, NetworkConfig, Origin, RunError, SubnetStatus, Timing,
};
use subnet_support::*;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Something that leases are kept in, and a third party's hand in it.
enum Bed {
    Etcd(Etcd),
    File(TempDir),
}

impl Bed {
    fn registry(&self) -> Arc<dyn Registry> {
        match self {
            Self::Etcd(etcd) => etcd.registry(),
            Self::File(dir) => {
                let options = FileOptions { poll: Duration::from_millis(300) };
                Arc::new(FileRegistry::open(dir.path(), options).unwrap())
            }
        }
    }

    async fn put(&self, key: &str, value: &str) {
        match self {
            Self::Etcd(etcd) => etcd.put(key, value).await,
            Self::File(dir) => {
                std::fs::create_dir_all(dir.path().join("subnets")).unwrap();
                let new = dir.path().join(".new-by-hand");
                std::fs::write(&new, value).unwrap();
                std::fs::rename(new, dir.path().join(key)).unwrap();
            }
        }
    }

    /// As `put`, by another host's registry: with a lease.
    async fn lease(&self, name: &str, host: u8) {
        let grant = flannel_udp::subnet::registry::Grant {
            id: flannel_udp::subnet::LeaseId(fastrand::i64(1..1 << 40)),
            ttl: Duration::from_secs(100),
        };
        let registry = self.registry();
        if let Some(old) = registry.get(name).await.unwrap() {
            registry
                .replace(name, old.revision, value(host).as_bytes(), Some(grant))
                .await
                .unwrap();
        } else {
            registry.create(name, value(host).as_bytes(), Some(grant)).await.unwrap();
        }
    }

    async fn delete(&self, name: &str) {
        let registry = self.registry();
        let record = registry.get(name).await.unwrap().unwrap();
        registry.remove(name, record.revision).await.unwrap();
    }

    async fn value(&self, name: &str) -> Option<String> {
        let record = self.registry().get(name).await.unwrap()?;
        Some(String::from_utf8(record.value).unwrap())
    }
}

macro_rules! both {
    ($($name:ident)*) => {
        mod on_etcd { $(
            #[tokio::test]
            async fn $name() {
                super::$name(super::Bed::Etcd(super::Etcd::start().await)).await;
            }
        )* }
        mod on_files { $(
            #[tokio::test]
            async fn $name() {
                super::$name(super::Bed::File(tempfile::TempDir::new().unwrap())).await;
            }
        )* }
    };
}

both! {
    the_config_is_waited_for
    a_subnet_is_taken_and_peers_are_followed
    hosts_that_start_together_get_different_subnets
    a_restart_finds_its_subnet
    the_subnet_file_is_a_wish
    an_unfitting_lease_is_given_back
    a_reservation_stays_one
    leases_are_renewed
    a_deleted_lease_is_taken_again
    a_foreign_holder_means_lost
    a_foreign_holder_ends_it_if_so_told
    two_hosts_of_one_address_are_refused
    twins_that_start_together_are_told_apart
    a_cloned_subnet_file_is_not_believed
    operators_list_reserve_and_release
    the_address_may_change
    junk_changes_nothing
    leases_expire
}

async fn the_config_is_waited_for(bed: Bed) {
    let manager = Manager::new(bed.registry(), options(1));
    let wait = manager.wait_for_config();
    tokio::pin!(wait);
    assert!(timeout(Duration::from_millis(300), &mut wait).await.is_err());
    bed.put("config", "not json").await;
    assert!(timeout(Duration::from_millis(300), &mut wait).await.is_err());
    bed.put("config", CONFIG).await;
    assert_eq!(wait.await.unwrap(), config());
    bed.put("config", r#"{"Network":"10.0.0.0/16","Backend":{"Type":"vxlan"}}"#).await;
    assert!(manager.wait_for_config().await.unwrap_err().is_fatal());
}

async fn a_subnet_is_taken_and_peers_are_followed(bed: Bed) {
    let one = Running::start(bed.registry(), options(1)).await;
    let name = one.lease.subnet.to_string().replace('/', "-");
    assert_eq!(bed.value(&name).await.unwrap(), value(1), "byte for byte");
    let two = Running::start(bed.registry(), options(2)).await;
    assert_ne!(one.lease.subnet, two.lease.subnet);
    let (first, second) = (one.lease.subnet.network(), two.lease.subnet.network());
    one.wait_hop(&second.to_string(), Some(2)).await;
    two.wait_hop(&first.to_string(), Some(1)).await;
    assert_eq!(one.hop(&first.to_string()), None, "no route to oneself");
    let status = one.status.borrow().clone();
    assert_eq!(status.peers.len(), 1);
    assert_eq!(status.peers[0].public_ip, ip(2));
    assert!(status.connected && status.lease_expires.is_some());
    // A stranger joins, moves and leaves.
    bed.lease("10.0.250.0-24", 50).await;
    assert!(one.wait_hop("10.0.250.1", Some(50)).await < Duration::from_secs(1));
    bed.lease("10.0.250.0-24", 51).await;
    assert!(one.wait_hop("10.0.250.1", Some(51)).await < Duration::from_secs(1));
    bed.delete("10.0.250.0-24").await;
    assert!(one.wait_hop("10.0.250.1", None).await < Duration::from_secs(1));
    // A stop leaves the lease.
    two.stop().await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(one.hop(&second.to_string()), Some(2));
}

async fn hosts_that_start_together_get_different_subnets(bed: Bed) {
    const HOSTS: u8 = 30;
    let config = NetworkConfig::parse(
        br#"{"Network":"10.0.0.0/16","SubnetMin":"10.0.1.0","SubnetMax":"10.0.30.0"}"#,
    )
    .unwrap();
    let tasks: Vec<_> = (1..=HOSTS)
        .map(|host| {
            let (registry, config) = (bed.registry(), config.clone());
            // All of them want the same subnet first.
            let mut options = options(host);
            options.previous = Some(cidr("10.0.7.0/24"));
            tokio::spawn(async move {
                Manager::new(registry, options).acquire(&config).await.unwrap().subnet
            })
        })
        .collect();
    let mut subnets = HashSet::new();
    for task in tasks {
        let subnet = task.await.unwrap();
        assert!(config.may_lease(subnet));
        assert!(subnets.insert(subnet), "{subnet} was given out twice");
    }
    let error = Manager::new(bed.registry(), options(200)).acquire(&config).await.unwrap_err();
    assert!(matches!(error, AcquireError::OutOfSubnets));
    assert_eq!(error.to_string(), "out of subnets");
}

async fn a_restart_finds_its_subnet(bed: Bed) {
    let first = Running::start(bed.registry(), options(1)).await;
    let subnet = first.lease.subnet;
    let id = first.lease.id;
    first.stop().await;
    let second = Running::start(bed.registry(), options(1)).await;
    assert_eq!(second.lease.subnet, subnet);
    assert_ne!(second.lease.id, id, "with a lease of its own");
    if let Bed::Etcd(etcd) = &bed {
        assert_eq!(etcd.leases().await, 1, "and the old one revoked");
    }
}

async fn the_subnet_file_is_a_wish(bed: Bed) {
    let with = |host, previous| {
        let mut options = options(host);
        options.previous = Some(cidr(previous));
        let registry = bed.registry();
        async move { Manager::new(registry, options).acquire(&config()).await.unwrap().subnet }
    };
    assert_eq!(with(1, "10.0.11.0/24").await, cidr("10.0.11.0/24"));
    assert_ne!(with(2, "10.0.11.0/24").await, cidr("10.0.11.0/24"), "etcd knows better");
    assert!(config().may_lease(with(3, "10.9.0.0/24").await), "not of this network");
    assert_eq!(with(1, "10.0.33.0/24").await, cidr("10.0.11.0/24"), "etcd comes first");
    bed.lease("10.0.64.0-20", 4).await;
    assert_ne!(with(5, "10.0.70.0/24").await, cidr("10.0.70.0/24"), "overlaps another's");
}

async fn an_unfitting_lease_is_given_back(bed: Bed) {
    bed.lease("10.0.64.0-20", 1).await;
    let lease = Manager::new(bed.registry(), options(1)).acquire(&config()).await.unwrap();
    assert_eq!(lease.subnet.len(), 24);
    assert_eq!(bed.value("10.0.64.0-20").await, None);
}

async fn a_reservation_stays_one(bed: Bed) {
    bed.put("subnets/10.0.7.0-24", &format!(r#"{{"PublicIP":"{}"}}"#, ip(1))).await;
    let mut one = Running::start(bed.registry(), short(options(1))).await;
    assert_eq!(one.lease.subnet, cidr("10.0.7.0/24"));
    assert_eq!((one.lease.expires, one.lease.id), (None, None));
    assert_eq!(bed.value("10.0.7.0-24").await.unwrap(), value(1), "rewritten as flannel writes");
    sleep(Duration::from_millis(2500)).await;
    let record = bed.registry().get("10.0.7.0-24").await.unwrap().unwrap();
    assert_eq!(record.lease, None, "still no lease under it");
    one.public_ip.send_replace(ip(9));
    until("the value to follow", async || bed.value("10.0.7.0-24").await == Some(value(9))).await;
    assert_eq!(bed.registry().get("10.0.7.0-24").await.unwrap().unwrap().lease, None);
    one.wait("no trouble", |status| status.lease_held).await;
}

async fn leases_are_renewed(bed: Bed) {
    let mut one = Running::start(bed.registry(), short(options(1))).await;
    let name = one.lease.subnet.to_string().replace('/', "-");
    one.wait("three renewals", |status| status.renewals >= 3).await;
    assert_eq!(bed.value(&name).await.unwrap(), value(1));
    assert_eq!(one.status.borrow().lease, one.lease.subnet);
    if let Bed::Etcd(etcd) = &bed {
        until("old leases to be revoked", async || etcd.leases().await <= 1).await;
    }
}

async fn a_deleted_lease_is_taken_again(bed: Bed) {
    let one = Running::start(bed.registry(), options(1)).await;
    let name = one.lease.subnet.to_string().replace('/', "-");
    for _ in 0..3 {
        bed.delete(&name).await;
        let took = until("the lease to be back", async || bed.value(&name).await.is_some()).await;
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    assert_eq!(one.status.borrow().lease, one.lease.subnet);
}

async fn a_foreign_holder_means_lost(bed: Bed) {
    let mut one = Running::start(bed.registry(), options(1)).await;
    let old = one.lease.subnet;
    let name = old.to_string().replace('/', "-");
    bed.lease(&name, 66).await;
    one.wait("another subnet", |status| status.lease != old && status.lease_held).await;
    assert_eq!(bed.value(&name).await.unwrap(), value(66), "the holder keeps it");
    one.wait_hop(&old.network().to_string(), Some(66)).await;
    let new = one.status.borrow().lease;
    assert_eq!(bed.value(&new.to_string().replace('/', "-")).await.unwrap(), value(1));
}

async fn a_foreign_holder_ends_it_if_so_told(bed: Bed) {
    let mut options = options(1);
    options.exit_on_lease_loss = true;
    let mut one = Running::start(bed.registry(), options).await;
    bed.lease(&one.lease.subnet.to_string().replace('/', "-"), 66).await;
    match one.end().await {
        Err(RunError::LeaseLost { subnet, holder }) => {
            assert_eq!((subnet, holder), (one.lease.subnet, ip(66)));
        }
        other => panic!("{other:?}"),
    }
}

async fn two_hosts_of_one_address_are_refused(bed: Bed) {
    let mut one = Running::start(bed.registry(), options(1)).await;
    let mut twin = options(2);
    twin.public_ip = ip(1);
    let error = Manager::new(bed.registry(), twin.clone()).acquire(&config()).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, AcquireError::DuplicatePublicIp(_)), "{text}");
    for part in ["192.168.77.1", "host2", &options(1).instance.print().to_string()] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    one.wait("the first to keep it", |status| status.lease_held).await;
    let subnet = one.lease.subnet;
    assert_eq!(one.status.borrow().lease, subnet);
    // Once the first is gone for good, the address and its subnet are the other's.
    one.stop().await;
    let lease = Manager::new(bed.registry(), twin).acquire(&config()).await.unwrap();
    assert_eq!(lease.subnet, subnet);
}

async fn twins_that_start_together_are_told_apart(bed: Bed) {
    for _ in 0..5 {
        let tasks: Vec<_> = (1..=2)
            .map(|host| {
                let registry = bed.registry();
                let options = ManagerOptions { public_ip: ip(1), ..options(host) };
                tokio::spawn(async move {
                    // As a daemon does it: it goes on to keep what it has.
                    let mut manager = Manager::new(registry, options);
                    let lease = manager.acquire(&config()).await.map_err(|e| e.to_string())?;
                    let (writer, _) = flannel_udp::route::table(config().network, 24);
                    let (status, _keep) = tokio::sync::watch::channel(SubnetStatus::new(&lease));
                    let stop = sleep(Duration::from_millis(2500));
                    manager.run(writer, status, stop).await.map_err(|e| e.to_string())?;
                    Ok::<_, String>(lease.subnet)
                })
            })
            .collect();
        let mut outcomes = Vec::new();
        for task in tasks {
            outcomes.push(task.await.unwrap());
        }
        let kept: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
        assert_eq!(kept.len(), 1, "{outcomes:?}");
        let text = outcomes.iter().find_map(|outcome| outcome.as_ref().err()).unwrap();
        assert!(text.contains("two hosts announce the public IP 192.168.77.1"), "{text}");
        for record in bed.registry().list().await.unwrap().records {
            bed.delete(&record.name).await;
        }
    }
}

async fn a_cloned_subnet_file_is_not_believed(bed: Bed) {
    let dir = TempDir::new().unwrap();
    let path = Origin::path(&dir.path().join("subnet.env"));
    let with = |host| {
        let mut options = options(host);
        options.previous = Some(cidr("10.0.11.0/24"));
        options.origin_file = Some(path.clone());
        let registry = bed.registry();
        async move { Manager::new(registry, options).acquire(&config()).await.unwrap().subnet }
    };
    assert_eq!(with(1).await, cidr("10.0.11.0/24"), "no note: stock flanneld wrote the file");
    bed.delete("10.0.11.0-24").await;
    assert_eq!(with(2).await, cidr("10.0.11.0/24"), "our own note");
    bed.delete("10.0.11.0-24").await;
    Origin::new("another machine", "", cidr("10.0.11.0/24")).save(&path).unwrap();
    assert_ne!(with(3).await, cidr("10.0.11.0/24"), "a cloned disk");
    Origin::new("", "another registry", cidr("10.0.11.0/24")).save(&path).unwrap();
    assert_ne!(with(4).await, cidr("10.0.11.0/24"), "another cluster");
}

async fn operators_list_reserve_and_release(bed: Bed) {
    let registry = bed.registry();
    let registry = &*registry;
    let subnet = cidr("10.0.7.0/24");
    admin::reserve(registry, &config(), subnet, ip(1)).await.unwrap();
    admin::reserve(registry, &config(), subnet, ip(1)).await.unwrap();
    assert_eq!(bed.value("10.0.7.0-24").await.unwrap(), value(1));
    let refused = async |subnet: &str, host| {
        admin::reserve(registry, &config(), cidr(subnet), ip(host)).await.unwrap_err()
    };
    assert!(matches!(refused("10.0.7.0/24", 2).await, AdminError::Taken { .. }));
    assert!(matches!(refused("10.0.8.0/24", 1).await, AdminError::HostHolds { .. }));
    assert!(matches!(refused("10.0.8.0/25", 2).await, AdminError::NotLeasable { .. }));
    assert!(matches!(refused("10.9.8.0/24", 2).await, AdminError::NotLeasable { .. }));
    // The host comes and finds its subnet.
    let one = Running::start(bed.registry(), options(1)).await;
    assert_eq!((one.lease.subnet, one.lease.expires), (subnet, None));
    // A running host's lease becomes a reservation, and stays one.
    let mut two = Running::start(bed.registry(), options(2)).await;
    let second = two.lease.subnet;
    bed.put("subnets/junk", "junk").await;
    let rows = admin::list(registry).await.unwrap();
    let terms: Vec<_> = rows.iter().map(|row| row.lease.as_ref().map(|l| l.term)).collect();
    assert_eq!(rows.len(), 3);
    assert!(terms.contains(&Ok(HoldingTerm::Reserved)));
    assert!(terms.iter().any(|term| matches!(term, Ok(HoldingTerm::Left(_)))), "{rows:?}");
    assert!(rows[2].lease.is_err(), "junk comes last");
    let alive = admin::release(registry, second, false).await.unwrap_err();
    assert!(matches!(alive, AdminError::Alive { .. }), "{alive}");
    admin::reserve(registry, &config(), second, ip(2)).await.unwrap();
    two.wait("the reservation", |status| status.lease_expires.is_none()).await;
    two.stop().await;
    assert_eq!(admin::release(registry, second, false).await.unwrap().len(), 1);
    assert_eq!(bed.value(&second.to_string().replace('/', "-")).await, None);
    let none = admin::release(registry, second, true).await.unwrap_err();
    assert!(matches!(none, AdminError::NotFound(_)));
}

async fn the_address_may_change(bed: Bed) {
    let mut one = Running::start(bed.registry(), options(1)).await;
    let two = Running::start(bed.registry(), options(2)).await;
    let address = one.lease.subnet.network().to_string();
    two.wait_hop(&address, Some(1)).await;
    one.public_ip.send_replace(ip(9));
    two.wait_hop(&address, Some(9)).await;
    one.wait("the same subnet", |status| status.lease_held).await;
    assert_eq!(one.status.borrow().lease, one.lease.subnet);
}

async fn junk_changes_nothing(bed: Bed) {
    bed.put("subnets/early-junk", "x").await;
    let mut one = Running::start(bed.registry(), options(1)).await;
    bed.lease("10.0.200.0-24", 20).await;
    one.wait_hop("10.0.200.1", Some(20)).await;
    let good = value(66);
    let vxlan = good.replace('}', r#","BackendType":"vxlan"}"#);
    for (name, value) in [
        ("10.0.201.0-24", "garbage"),
        ("bogus", good.as_str()),
        ("10.0.202.0-32", &good),
        ("10.0.203.0-24", &vxlan),
        ("172.16.0.0-24", &good),
        ("10.0.204.0-24", "{}"),
        ("10.0.205.0-24", ""),
    ] {
        bed.put(&format!("subnets/{name}"), value).await;
    }
    one.wait("all of it to be seen", |status| status.skipped_keys == 8).await;
    assert_eq!(one.status.borrow().peers.len(), 1);
    assert_eq!(one.hop("10.0.200.1"), Some(20));
    for name in ["bogus", "10.0.202.0-32", "10.0.201.0-24"] {
        bed.delete(name).await;
    }
    one.wait("three less", |status| status.skipped_keys == 5).await;
    assert_eq!(one.hop("10.0.200.1"), Some(20));
    bed.lease("10.0.206.0-24", 26).await;
    one.wait_hop("10.0.206.1", Some(26)).await;
}

async fn leases_expire(bed: Bed) {
    let one = Running::start(bed.registry(), options(1)).await;
    let mut brief = options(2);
    brief.timing = Timing { ttl: Duration::from_secs(1), ..brief.timing };
    let lease = Manager::new(bed.registry(), brief).acquire(&config()).await.unwrap();
    let address = lease.subnet.network().to_string();
    one.wait_hop(&address, Some(2)).await;
    one.wait_hop(&address, None).await;
}

/// A lease of two seconds that is renewed twice in its life.
fn short(mut options: flannel_udp::subnet::ManagerOptions) -> flannel_udp::subnet::ManagerOptions {
    options.timing.ttl = Duration::from_secs(2);
    options.timing.renew_margin = Duration::from_millis(1200);
    options
}
