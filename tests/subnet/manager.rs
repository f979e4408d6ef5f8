//! The manager on both lease stores: the same tests with a real etcd and a real directory.

use std::collections::HashSet;
use std::time::Duration;

use flannel_udp::subnet::{AcquireError, Manager, NetworkConfig, Timing};
use tokio::time::{sleep, timeout};

use crate::support::*;
use crate::test_store::{TestStore, both};

both! {
    the_config_is_waited_for
    a_subnet_is_acquired_and_peers_are_watched
    hosts_that_start_together_get_different_subnets
    a_restart_finds_its_subnet
    the_subnet_file_is_a_preference
    a_lease_that_does_not_fit_is_released
    leases_are_renewed
    the_longest_margin_makes_no_storm_of_renewals
    a_deleted_lease_is_acquired_again
    the_address_may_change
    invalid_entries_change_nothing
    leases_expire
}

async fn the_config_is_waited_for(test_store: TestStore) {
    let manager = Manager::new(test_store.open(), options(1));
    let wait = manager.wait_for_config();
    tokio::pin!(wait);
    assert!(timeout(Duration::from_millis(300), &mut wait).await.is_err());
    test_store.put("config", "not json").await;
    assert!(timeout(Duration::from_millis(300), &mut wait).await.is_err());
    test_store.put("config", CONFIG).await;
    assert_eq!(wait.await.unwrap(), config());
    test_store.put("config", r#"{"Network":"10.0.0.0/16","Backend":{"Type":"vxlan"}}"#).await;
    assert!(manager.wait_for_config().await.unwrap_err().is_fatal());
}

async fn a_subnet_is_acquired_and_peers_are_watched(test_store: TestStore) {
    let mut one = Running::start(test_store.open(), options(1)).await;
    let name = one.lease.subnet.to_string().replace('/', "-");
    assert_eq!(test_store.value(&name).await.unwrap(), value(1), "byte for byte");
    let two = Running::start(test_store.open(), options(2)).await;
    assert_ne!(one.lease.subnet, two.lease.subnet);
    let (first, second) = (one.lease.subnet.network(), two.lease.subnet.network());
    one.wait_hop(&second.to_string(), Some(2)).await;
    two.wait_hop(&first.to_string(), Some(1)).await;
    assert_eq!(one.hop(&first.to_string()), None, "no route to oneself");
    one.wait("the peer in the status", |status| status.peers.len() == 1).await;
    let status = one.status.borrow().clone();
    assert_eq!(status.peers[0].public_ip, ip(2));
    assert!(status.connected && status.lease_expires.is_some());
    // Another host joins, moves and leaves.
    test_store.lease("10.0.250.0-24", 50).await;
    assert!(one.wait_hop("10.0.250.1", Some(50)).await < Duration::from_secs(1));
    test_store.lease("10.0.250.0-24", 51).await;
    assert!(one.wait_hop("10.0.250.1", Some(51)).await < Duration::from_secs(1));
    test_store.delete("10.0.250.0-24").await;
    assert!(one.wait_hop("10.0.250.1", None).await < Duration::from_secs(1));
    // A stop keeps the lease.
    two.stop().await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(one.hop(&second.to_string()), Some(2));
}

async fn hosts_that_start_together_get_different_subnets(test_store: TestStore) {
    const HOSTS: u8 = 30;
    let config = NetworkConfig::parse(
        br#"{"Network":"10.0.0.0/16","SubnetMin":"10.0.1.0","SubnetMax":"10.0.30.0"}"#,
    )
    .unwrap();
    let tasks: Vec<_> = (1..=HOSTS)
        .map(|host| {
            let (store, config) = (test_store.open(), config.clone());
            // All of them ask for the same subnet first.
            let mut options = options(host);
            options.previous = Some(cidr("10.0.7.0/24"));
            tokio::spawn(async move {
                Manager::new(store, options).acquire(&config).await.unwrap().subnet
            })
        })
        .collect();
    let mut subnets = HashSet::new();
    for task in tasks {
        let subnet = task.await.unwrap();
        assert!(config.may_lease(subnet));
        assert!(subnets.insert(subnet), "{subnet} was leased twice");
    }
    let error = Manager::new(test_store.open(), options(200)).acquire(&config).await.unwrap_err();
    assert!(matches!(error, AcquireError::OutOfSubnets));
    assert_eq!(error.to_string(), "out of subnets");
}

async fn a_restart_finds_its_subnet(test_store: TestStore) {
    let first = Running::start(test_store.open(), options(1)).await;
    let subnet = first.lease.subnet;
    let id = first.lease.id;
    first.stop().await;
    let second = Running::start(test_store.open(), options(1)).await;
    assert_eq!(second.lease.subnet, subnet);
    assert_ne!(second.lease.id, id, "with a new lease");
    if let TestStore::Etcd(etcd) = &test_store {
        assert_eq!(etcd.leases().await, 1, "and the old lease is revoked");
    }
}

async fn the_subnet_file_is_a_preference(test_store: TestStore) {
    let with = |host, previous| {
        let mut options = options(host);
        options.previous = Some(cidr(previous));
        let store = test_store.open();
        async move { Manager::new(store, options).acquire(&config()).await.unwrap().subnet }
    };
    assert_eq!(with(1, "10.0.11.0/24").await, cidr("10.0.11.0/24"));
    assert_ne!(
        with(2, "10.0.11.0/24").await,
        cidr("10.0.11.0/24"),
        "the subnet has another holder"
    );
    assert!(config().may_lease(with(3, "10.9.0.0/24").await), "not of this network");
    assert_eq!(with(1, "10.0.33.0/24").await, cidr("10.0.11.0/24"), "etcd comes first");
    test_store.lease("10.0.64.0-20", 4).await;
    assert_ne!(with(5, "10.0.70.0/24").await, cidr("10.0.70.0/24"), "overlaps another lease");
}

async fn a_lease_that_does_not_fit_is_released(test_store: TestStore) {
    test_store.lease("10.0.64.0-20", 1).await;
    let lease = Manager::new(test_store.open(), options(1)).acquire(&config()).await.unwrap();
    assert_eq!(lease.subnet.len(), 24);
    assert_eq!(test_store.value("10.0.64.0-20").await, None);
}

async fn leases_are_renewed(test_store: TestStore) {
    let mut one = Running::start(test_store.open(), short(options(1))).await;
    let name = one.lease.subnet.to_string().replace('/', "-");
    one.wait("three renewals", |status| status.renewals >= 3).await;
    assert_eq!(test_store.value(&name).await.unwrap(), value(1));
    assert_eq!(one.status.borrow().lease, one.lease.subnet);
    if let TestStore::Etcd(etcd) = &test_store {
        until("old leases to be revoked", async || etcd.leases().await <= 1).await;
    }
}

/// The longest margin that the daemon allows leaves one minute of a lease.
async fn the_longest_margin_makes_no_storm_of_renewals(test_store: TestStore) {
    let mut options = options(1);
    options.timing.renew_margin = Duration::from_secs(1439 * 60);
    let one = Running::start(test_store.open(), options).await;
    // Longer than the wait for the first check, at which the next renewal is planned.
    sleep(Duration::from_millis(800)).await;
    assert_eq!(one.status.borrow().renewals, 0);
}

async fn a_deleted_lease_is_acquired_again(test_store: TestStore) {
    let one = Running::start(test_store.open(), options(1)).await;
    let name = one.lease.subnet.to_string().replace('/', "-");
    for _ in 0..3 {
        test_store.delete(&name).await;
        let took =
            until("the lease to be back", async || test_store.value(&name).await.is_some()).await;
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    assert_eq!(one.status.borrow().lease, one.lease.subnet);
}

async fn the_address_may_change(test_store: TestStore) {
    let mut one = Running::start(test_store.open(), options(1)).await;
    let two = Running::start(test_store.open(), options(2)).await;
    let address = one.lease.subnet.network().to_string();
    two.wait_hop(&address, Some(1)).await;
    one.public_ip.send_replace(ip(9));
    two.wait_hop(&address, Some(9)).await;
    one.wait("the same subnet", |status| status.lease_held).await;
    assert_eq!(one.status.borrow().lease, one.lease.subnet);
}

async fn invalid_entries_change_nothing(test_store: TestStore) {
    test_store.put("subnets/early-junk", "x").await;
    let mut one = Running::start(test_store.open(), options(1)).await;
    test_store.lease("10.0.200.0-24", 20).await;
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
        test_store.put(&format!("subnets/{name}"), value).await;
    }
    one.wait("all of it to be seen", |status| status.skipped_keys == 8).await;
    assert_eq!(one.status.borrow().peers.len(), 1);
    assert_eq!(one.hop("10.0.200.1"), Some(20));
    for name in ["bogus", "10.0.202.0-32", "10.0.201.0-24"] {
        test_store.delete(name).await;
    }
    one.wait("three less", |status| status.skipped_keys == 5).await;
    assert_eq!(one.hop("10.0.200.1"), Some(20));
    test_store.lease("10.0.206.0-24", 26).await;
    one.wait_hop("10.0.206.1", Some(26)).await;
}

async fn leases_expire(test_store: TestStore) {
    let one = Running::start(test_store.open(), options(1)).await;
    let mut brief = options(2);
    brief.timing = Timing { ttl: Duration::from_secs(1), ..brief.timing };
    let lease = Manager::new(test_store.open(), brief).acquire(&config()).await.unwrap();
    let address = lease.subnet.network().to_string();
    one.wait_hop(&address, Some(2)).await;
    one.wait_hop(&address, None).await;
}
