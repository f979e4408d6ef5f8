//! Holders of a subnet: other hosts, hosts with one address, clones, reservations; on both stores.

use std::time::{Duration, Instant};

use flannel_udp::subnet::admin::{self, AdminError, HoldingTerm};
use flannel_udp::subnet::store::Grant;
use flannel_udp::subnet::{
    AcquireError, Instance, LeaseId, Manager, ManagerOptions, RunError, SubnetFileOrigin,
    SubnetStatus,
};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::support::*;
use crate::test_store::{TestStore, both};

both! {
    a_reservation_remains_one
    a_lease_with_another_holder_is_lost
    another_holder_ends_the_manager_if_so_configured
    two_hosts_of_one_address_are_refused
    hosts_of_one_address_that_start_together_are_detected
    a_cloned_subnet_file_is_not_trusted
    operators_list_reserve_and_release
    a_subnet_of_a_stopped_host_may_be_released
    an_own_entry_of_a_dual_stack_network_is_kept
}

/// The entry that a dual-stack flanneld left is this host's, whatever form its key has.
async fn an_own_entry_of_a_dual_stack_network_is_kept(test_store: TestStore) {
    const NAME: &str = "10.0.3.0-24&fc00:0:0:3::-64";
    let dual = |host: u8| format!(r#"{{"PublicIP":"{}","PublicIPv6":"fd00::{host}"}}"#, ip(host));
    test_store.lease("10.0.4.0-24&fc00:0:0:4::-64", 2).await;
    test_store.lease(NAME, 1).await;
    let store = test_store.open();
    let record = store.get(NAME).await.unwrap().unwrap();
    let grant = Grant { id: LeaseId(4711), ttl: Duration::from_secs(100) };
    store.replace(NAME, record.revision, dual(1).as_bytes(), Some(grant)).await.unwrap();
    let mut one = Running::start(test_store.open(), short(options(1))).await;
    assert_eq!(one.lease.subnet, cidr("10.0.3.0/24"));
    one.wait("a renewal", |status| status.renewals >= 1).await;
    assert_eq!(test_store.value(NAME).await, Some(dual(1)), "the address is kept beside the name");
    assert_eq!(test_store.value("10.0.3.0-24").await, None, "it has one entry");
    one.wait_hop("10.0.4.1", Some(2)).await;
    // Another writer restores, removes and takes it: it is watched like any other entry.
    test_store.put(&format!("subnets/{NAME}"), "garbage").await;
    until("the value to be restored", async || {
        test_store.value(NAME).await.is_some_and(|value| value.contains(&ip(1).to_string()))
    })
    .await;
    one.public_ip.send_replace(ip(9));
    until("the new address", async || {
        test_store.value(NAME).await.is_some_and(|value| value.contains(&ip(9).to_string()))
    })
    .await;
    test_store.lease(NAME, 66).await;
    one.wait("another subnet", |status| status.lease != cidr("10.0.3.0/24")).await;
    // An operator's reservation keeps the name too.
    one.stop().await;
    admin::reserve(&*store, &config(), cidr("10.0.3.0/24"), ip(66)).await.unwrap();
    let record = store.get(NAME).await.unwrap().unwrap();
    assert_eq!(record.lease, None);
}

async fn a_reservation_remains_one(test_store: TestStore) {
    test_store.put("subnets/10.0.7.0-24", &format!(r#"{{"PublicIP":"{}"}}"#, ip(1))).await;
    let mut one = Running::start(test_store.open(), short(options(1))).await;
    assert_eq!(one.lease.subnet, cidr("10.0.7.0/24"));
    assert_eq!((one.lease.expires, one.lease.id), (None, None));
    assert_eq!(
        test_store.value("10.0.7.0-24").await.unwrap(),
        value(1),
        "rewritten as flannel writes"
    );
    sleep(Duration::from_millis(2500)).await;
    let record = test_store.open().get("10.0.7.0-24").await.unwrap().unwrap();
    assert_eq!(record.lease, None, "still without a lease");
    one.public_ip.send_replace(ip(9));
    until("the value to follow", async || test_store.value("10.0.7.0-24").await == Some(value(9)))
        .await;
    assert_eq!(test_store.open().get("10.0.7.0-24").await.unwrap().unwrap().lease, None);
    one.wait("a held lease", |status| status.lease_held).await;
}

async fn a_lease_with_another_holder_is_lost(test_store: TestStore) {
    let mut one = Running::start(test_store.open(), options(1)).await;
    let old = one.lease.subnet;
    let name = old.to_string().replace('/', "-");
    test_store.lease(&name, 66).await;
    one.wait("another subnet", |status| status.lease != old && status.lease_held).await;
    assert_eq!(test_store.value(&name).await.unwrap(), value(66), "the holder keeps it");
    one.wait_hop(&old.network().to_string(), Some(66)).await;
    let new = one.status.borrow().lease;
    assert_eq!(test_store.value(&new.to_string().replace('/', "-")).await.unwrap(), value(1));
}

async fn another_holder_ends_the_manager_if_so_configured(test_store: TestStore) {
    let mut options = options(1);
    options.exit_on_lease_loss = true;
    let mut one = Running::start(test_store.open(), options).await;
    test_store.lease(&one.lease.subnet.to_string().replace('/', "-"), 66).await;
    match one.end().await {
        Err(RunError::LeaseLost { subnet, holder }) => {
            assert_eq!((subnet, holder), (one.lease.subnet, ip(66)));
        }
        other => panic!("{other:?}"),
    }
}

async fn two_hosts_of_one_address_are_refused(test_store: TestStore) {
    let mut one = Running::start(test_store.open(), options(1)).await;
    let mut twin = options(2);
    twin.public_ip = ip(1);
    let error = Manager::new(test_store.open(), twin.clone()).acquire(&config()).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, AcquireError::DuplicatePublicIp(_)), "{text}");
    for part in ["192.168.77.1", "host2", &options(1).instance.fingerprint().to_string()] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    one.wait("the first to keep it", |status| status.lease_held).await;
    let subnet = one.lease.subnet;
    assert_eq!(one.status.borrow().lease, subnet);
    // Once the first host has ended, the second one gets the address and its subnet.
    one.stop().await;
    let lease = Manager::new(test_store.open(), twin).acquire(&config()).await.unwrap();
    assert_eq!(lease.subnet, subnet);
}

async fn hosts_of_one_address_that_start_together_are_detected(test_store: TestStore) {
    for _ in 0..5 {
        let tasks: Vec<_> = (1..=2)
            .map(|host| {
                let store = test_store.open();
                let options = ManagerOptions { public_ip: ip(1), ..options(host) };
                tokio::spawn(async move {
                    // As the daemon does: it continues to keep its lease.
                    let mut manager = Manager::new(store, options);
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
        for record in test_store.open().list().await.unwrap().records {
            test_store.delete(&record.name).await;
        }
    }
}

async fn a_cloned_subnet_file_is_not_trusted(test_store: TestStore) {
    let dir = TempDir::new().unwrap();
    let path = SubnetFileOrigin::path(&dir.path().join("subnet.env"));
    let subnet = cidr("10.0.11.0/24");
    let identity = test_store.open().identity().await.unwrap();
    let again = test_store.open().identity().await.unwrap();
    assert_eq!(identity, again, "a store keeps its name");
    let mut open = std::fs::File::options();
    let record = open.read(true).write(true).create(true).truncate(false).open(&path).unwrap();
    SubnetFileOrigin::here(&identity, subnet).save(&record).unwrap();
    let mismatch = |here: SubnetFileOrigin| SubnetFileOrigin::load(&path).unwrap().mismatch(&here);
    assert_eq!(
        mismatch(SubnetFileOrigin::here(&again, subnet)),
        None,
        "the same machine, the same store"
    );
    assert!(
        mismatch(SubnetFileOrigin::new("another machine", &identity, subnet)).is_some(),
        "a cloned disk"
    );
    let elsewhere = match &test_store {
        // Another data directory, port and peer address: another cluster.
        TestStore::Etcd(_) => {
            let list = format!("other=http://127.0.0.1:{}", free_port());
            let url = list.strip_prefix("other=").unwrap();
            let other = Etcd::start_with(&[
                "--name",
                "other",
                "--initial-cluster",
                &list,
                "--initial-advertise-peer-urls",
                url,
                "--listen-peer-urls",
                url,
            ])
            .await;
            other.store().identity().await.unwrap()
        }
        TestStore::File(_) => {
            TestStore::File(TempDir::new().unwrap()).open().identity().await.unwrap()
        }
    };
    assert!(
        mismatch(SubnetFileOrigin::here(&elsewhere, subnet))
            .unwrap()
            .contains("another lease store")
    );
}

async fn operators_list_reserve_and_release(test_store: TestStore) {
    let store = test_store.open();
    let store = &*store;
    let subnet = cidr("10.0.7.0/24");
    admin::reserve(store, &config(), subnet, ip(1)).await.unwrap();
    admin::reserve(store, &config(), subnet, ip(1)).await.unwrap();
    assert_eq!(test_store.value("10.0.7.0-24").await.unwrap(), value(1));
    let refused = async |subnet: &str, host| {
        admin::reserve(store, &config(), cidr(subnet), ip(host)).await.unwrap_err()
    };
    assert!(matches!(refused("10.0.7.0/24", 2).await, AdminError::Taken { .. }));
    assert!(matches!(refused("10.0.8.0/24", 1).await, AdminError::HostHolds { .. }));
    assert!(matches!(refused("10.0.8.0/25", 2).await, AdminError::NotLeasable { .. }));
    assert!(matches!(refused("10.9.8.0/24", 2).await, AdminError::NotLeasable { .. }));
    // The host starts and finds its subnet.
    let one = Running::start(test_store.open(), options(1)).await;
    assert_eq!((one.lease.subnet, one.lease.expires), (subnet, None));
    // A running host's lease becomes a reservation, and remains one.
    let mut two = Running::start(test_store.open(), options(2)).await;
    let second = two.lease.subnet;
    test_store.put("subnets/junk", "junk").await;
    let rows = admin::list(store).await.unwrap();
    let terms: Vec<_> = rows.iter().map(|row| row.lease.as_ref().map(|l| l.term)).collect();
    assert_eq!(rows.len(), 3);
    assert!(terms.contains(&Ok(HoldingTerm::Reserved)));
    assert!(terms.iter().any(|term| matches!(term, Ok(HoldingTerm::Left(_)))), "{rows:?}");
    assert!(rows[2].lease.is_err(), "entries that are not leases come last");
    let alive = admin::release(store, second, false).await.unwrap_err();
    assert!(matches!(alive, AdminError::Alive { .. }), "{alive}");
    admin::reserve(store, &config(), second, ip(2)).await.unwrap();
    two.wait("the reservation", |status| status.lease_expires.is_none()).await;
    two.stop().await;
    assert_eq!(admin::release(store, second, false).await.unwrap().len(), 1);
    assert_eq!(test_store.value(&second.to_string().replace('/', "-")).await, None);
    let none = admin::release(store, second, true).await.unwrap_err();
    assert!(matches!(none, AdminError::NotFound(_)));
}

async fn a_subnet_of_a_stopped_host_may_be_released(test_store: TestStore) {
    let store = test_store.open();
    let one = Running::start(test_store.open(), options(1)).await;
    let subnet = one.lease.subnet;
    let name = subnet.to_string().replace('/', "-");
    let holding = async || admin::list(&*store).await.unwrap().remove(0).lease.unwrap();
    one.stop().await;
    let left = holding().await;
    assert!(left.stopped && left.instance.is_some(), "{left:?}");
    assert!(matches!(left.term, HoldingTerm::Left(left) if left > Duration::from_secs(86_000)));
    assert_eq!(test_store.value(&name).await.unwrap(), value(1), "stock flanneld sees a renewal");
    // After a reboot the host is another instance: it gets its subnet, and at once, for the other has stopped.
    let rebooted = || ManagerOptions {
        instance: Instance::new("host1".into(), &["after the boot"]),
        ..options(1)
    };
    let began = Instant::now();
    let again = Running::start(test_store.open(), rebooted()).await;
    assert!(began.elapsed() < options(1).timing.contest, "{:?}", began.elapsed());
    assert_eq!(again.lease.subnet, subnet);
    assert!(!holding().await.stopped);
    let refused = admin::release(&*store, subnet, false).await.unwrap_err().to_string();
    assert!(refused.contains("may be running") && refused.contains("--force"), "{refused}");
    // A daemon that crashes says nothing.
    drop(again);
    sleep(Duration::from_millis(100)).await;
    let refused = admin::release(&*store, subnet, false).await.unwrap_err();
    assert!(matches!(refused, AdminError::Alive { .. }), "{refused}");
    // Two daemons on one host: the one that stops does not mark the lease of the other.
    let first = Running::start(test_store.open(), rebooted()).await;
    let mut second = Running::start(test_store.open(), rebooted()).await;
    first.stop().await;
    second.wait("a lease", |status| status.lease_held).await;
    until("the lease of a running daemon", async || !holding().await.stopped).await;
    second.stop().await;
    assert_eq!(admin::release(&*store, subnet, false).await.unwrap().len(), 1);
    assert_eq!(test_store.value(&name).await, None);
    if let TestStore::Etcd(etcd) = &test_store {
        assert_eq!(etcd.leases().await, 0, "no lease of etcd is left behind");
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_store_that_is_silent() {
    let etcd = Etcd::start().await;
    let one = Running::start(etcd.store(), options(1)).await;
    etcd.signal("-STOP");
    let began = Instant::now();
    one.stop().await;
    let took = began.elapsed();
    etcd.signal("-CONT");
    assert!(took < Duration::from_secs(2), "{took:?}");
}
