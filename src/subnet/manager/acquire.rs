//! Acquiring a subnet.
//!
//! flannel's three steps (`pkg/subnet/etcd/local_manager.go`): the subnet that the lease store
//! assigns to this host, the one in the subnet file, and a free one. Each step ends in one
//! conditional write, and a host that loses a race starts again from a new list. So hosts that
//! start together never share a subnet, and none fails while a subnet is free.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::held::{HeldLease, LeaseTerm, entry_name, entry_value};
use super::wait::answer;
use super::{ManagerOptions, Timing};
use crate::route::Cidr;
use crate::subnet::instance::Fingerprint;
use crate::subnet::store::{Grant, LeaseStore, StoreError, StoreRecord, StoreSnapshot};
use crate::subnet::{LeaseKey, LeaseValue, NetworkConfig, allocate};

/// Why this host has no subnet.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// Every subnet of the range is taken.
    #[error("out of subnets")]
    OutOfSubnets,
    /// Another host that is alive announces this host's public IP. The text names both hosts.
    #[error("{0}")]
    DuplicatePublicIp(String),
    /// The lease store gave an answer that does not fit the request.
    #[error("{0}")]
    Store(StoreError),
}

/// Acquires a subnet; waits for a lease store that does not answer.
pub(super) async fn acquire(
    store: &dyn LeaseStore,
    config: &NetworkConfig,
    options: &ManagerOptions,
) -> Result<HeldLease, AcquireError> {
    let acquirer = Acquirer { store, config, options };
    loop {
        let snapshot =
            answer(store, options, || store.list()).await.map_err(AcquireError::Store)?;
        let survey = LeaseSurvey::new(&snapshot, config, options.public_ip);
        debug!(
            kind = "lease",
            taken = survey.taken.len(),
            ours = survey.ours.len(),
            "looking for a subnet for {}",
            options.public_ip
        );
        match acquirer.attempt(&survey).await? {
            Step::Acquired(held) => {
                let rivals = survey.ours.into_iter().map(|(_, record)| record).collect();
                return Ok(HeldLease { rivals, ..held });
            }
            // A short random wait spreads hosts that lost the same race.
            Step::LostRace | Step::NotApplicable => {
                let delay = Duration::from_millis(fastrand::u64(1..20));
                debug!(
                    kind = "retry",
                    ?delay,
                    "another host changed an entry at the same time; retrying"
                );
                sleep(delay).await;
            }
        }
    }
}

/// The outcome of a step of the acquisition.
enum Step {
    /// The host holds a subnet.
    Acquired(HeldLease),
    /// Another host changed an entry at the same time, so the list is out of date.
    LostRace,
    /// There is no subnet for this step.
    NotApplicable,
}

/// The subnets of a list, and the entries among them that announce this host's address.
struct LeaseSurvey {
    /// Every subnet that a key names, this host's included. A key whose value cannot be read
    /// counts, because it prevents the creation of an entry of that name.
    taken: Vec<Cidr>,
    /// The entries that announce this host's address.
    ours: Vec<(LeaseKey, StoreRecord)>,
}

impl LeaseSurvey {
    fn new(snapshot: &StoreSnapshot, config: &NetworkConfig, public_ip: Ipv4Addr) -> Self {
        let mut survey = Self { taken: Vec::new(), ours: Vec::new() };
        for record in &snapshot.records {
            let Ok(key) = record.name.parse::<LeaseKey>() else { continue };
            // A prefix that covers the whole network is not a lease of a part of it.
            if !key.subnet.covers(config.network) {
                survey.taken.push(key.subnet);
            }
            if LeaseValue::decode(&record.value).is_ok_and(|value| value.public_ip == public_ip) {
                survey.ours.push((key, record.clone()));
            }
        }
        survey
    }
}

struct Acquirer<'a> {
    store: &'a dyn LeaseStore,
    config: &'a NetworkConfig,
    options: &'a ManagerOptions,
}

impl Acquirer<'_> {
    /// The three steps, from one list.
    async fn attempt(&self, survey: &LeaseSurvey) -> Result<Step, AcquireError> {
        let step = self.reuse(survey).await?;
        if !matches!(step, Step::NotApplicable) {
            return Ok(step);
        }
        let step = self.previous(survey).await?;
        if !matches!(step, Step::NotApplicable) {
            return Ok(step);
        }
        let mut rng = fastrand::Rng::new();
        let taken = [&*survey.taken, &*self.options.avoid].concat();
        let Some(subnet) = allocate::pick(self.config, &taken, &mut rng) else {
            return Err(AcquireError::OutOfSubnets);
        };
        info!("Picking subnet in range {} ... {}", self.config.subnet_min, self.config.subnet_max);
        self.create(subnet, survey).await
    }

    /// Step 1: an entry that announces this host's address.
    async fn reuse(&self, survey: &LeaseSurvey) -> Result<Step, AcquireError> {
        let public_ip = self.options.public_ip;
        let mut fitting = Vec::new();
        for (key, record) in &survey.ours {
            if self.config.may_lease(key.subnet) {
                fitting.push((key.subnet, record));
            } else if record.lease.is_none() {
                warn!(
                    "reservation {} for {public_ip} does not fit the network config; leaving it \
                     unchanged",
                    record.name
                );
            } else {
                info!(
                    "Found lease ({}) for current IP ({public_ip}) but not compatible with \
                       current config, deleting",
                    key.subnet
                );
                match self.repeat(|| self.store.remove(&record.name, record.revision)).await {
                    Ok(()) => {}
                    Err(StoreError::Conflict) => return Ok(Step::LostRace),
                    Err(error) => return Err(AcquireError::Store(error)),
                }
            }
        }
        // Of several entries, the host's previous subnet is first choice, a reservation second, a
        // name without an IPv6 half third.
        let rank = |subnet: Cidr, record: &StoreRecord| {
            let is_plain = record.name == entry_name(subnet);
            (self.options.previous == Some(subnet), record.lease.is_none(), is_plain)
        };
        let Some((subnet, record)) =
            fitting.into_iter().rev().max_by_key(|(subnet, record)| rank(*subnet, record))
        else {
            return Ok(Step::NotApplicable);
        };
        info!(
            kind = "lease", %subnet, %public_ip,
            "Found lease ({subnet}) for current IP ({public_ip}), reusing"
        );
        self.take_over(subnet, record).await
    }

    /// Writes the entry again, with a new lease.
    async fn take_over(&self, subnet: Cidr, record: &StoreRecord) -> Result<Step, AcquireError> {
        let began = Instant::now();
        // A reservation is written without a lease, and so remains a reservation.
        let grant = record.lease.map(|_| self.grant());
        let value = entry_value(self.options.public_ip, Some(record));
        let name = &record.name;
        let outcome =
            self.repeat(|| self.store.replace(name, record.revision, &value, grant)).await;
        let held = match outcome {
            Ok(written) => self.held(subnet, written, began),
            Err(StoreError::Conflict) => return Ok(Step::LostRace),
            Err(error) => return Err(AcquireError::Store(error)),
        };
        let own = self.options.instance.fingerprint();
        if let Some(other) =
            record.lease.and_then(|id| id.running_signer()).filter(|&other| other != own)
        {
            return self.contest(held, other).await;
        }
        if let Some(old) = record.lease {
            let _ = self.store.revoke_unused(old).await;
        }
        Ok(Step::Acquired(held))
    }

    /// Waits whether another instance, whose fingerprint the taken-over lease carried, writes its
    /// entry back.
    ///
    /// That instance may have ended long ago, or be this host before it was reinstalled. If it is
    /// alive, it writes its entry back at once (see [`super::keeper`]), and then two hosts have one
    /// address.
    async fn contest(&self, held: HeldLease, other: Fingerprint) -> Result<Step, AcquireError> {
        info!(
            subnet = %held.subnet, instance = %other,
            "the lease belongs to another instance; checking whether it is alive"
        );
        let until = Instant::now() + self.options.timing.contest;
        while Instant::now() < until {
            sleep(self.options.timing.contest / 10).await;
            // Without an answer of the lease store nothing is known about the other instance.
            let Ok(current) = self.store.get(&held.record.name).await else { continue };
            let Some(current) = current else { return Ok(Step::LostRace) };
            if current.revision == held.record.revision {
                continue;
            }
            if current.lease.and_then(|id| id.running_signer()) == Some(other) {
                let text = duplicate(self.options, other, held.subnet);
                return Err(AcquireError::DuplicatePublicIp(text));
            }
            return Ok(Step::LostRace);
        }
        Ok(Step::Acquired(held))
    }

    /// Step 2: the subnet of the subnet file, if it is free.
    async fn previous(&self, survey: &LeaseSurvey) -> Result<Step, AcquireError> {
        let Some(previous) = self.options.previous else { return Ok(Step::NotApplicable) };
        if !self.config.may_lease(previous) {
            warn!(
                "Found previously leased subnet ({previous}) that is not compatible with the \
                   network config, ignoring"
            );
            return Ok(Step::NotApplicable);
        }
        if survey.taken.iter().any(|taken| taken.overlaps(previous)) {
            info!("Previously leased subnet ({previous}) belongs to another host now");
            return Ok(Step::NotApplicable);
        }
        info!(kind = "lease", subnet = %previous, "Found previously leased subnet ({previous}), reusing");
        self.create(previous, survey).await
    }

    /// Creates the entry of a free subnet.
    async fn create(&self, subnet: Cidr, survey: &LeaseSurvey) -> Result<Step, AcquireError> {
        let began = Instant::now();
        let grant = self.grant();
        let (name, value) = (entry_name(subnet), entry_value(self.options.public_ip, None));
        match self.repeat(|| self.store.create(&name, &value, Some(grant))).await {
            Ok(record) => {
                let held = self.held(subnet, record, began);
                self.check_unique(&held, survey).await?;
                let public_ip = self.options.public_ip;
                info!(
                    kind = "lease", %subnet, %public_ip,
                    "Allocated lease ({subnet}) to current node ({public_ip})"
                );
                Ok(Step::Acquired(held))
            }
            Err(StoreError::Conflict) => Ok(Step::LostRace),
            Err(error) => Err(AcquireError::Store(error)),
        }
    }

    /// Checks that no other instance created an entry for this host's address at the same time, in
    /// which case neither found an entry to take over. An instance that has written since this
    /// host's list is alive; of the two, the one with the higher fingerprint gives up.
    async fn check_unique(
        &self,
        held: &HeldLease,
        before: &LeaseSurvey,
    ) -> Result<(), AcquireError> {
        let snapshot = self.repeat(|| self.store.list()).await.map_err(AcquireError::Store)?;
        let now = LeaseSurvey::new(&snapshot, self.config, self.options.public_ip);
        let own = self.options.instance.fingerprint();
        let rival = now.ours.iter().find_map(|entry| {
            let other = entry.1.lease?.running_signer()?;
            (other < own && !before.ours.contains(entry)).then_some((other, entry.0.subnet))
        });
        let Some((other, subnet)) = rival else { return Ok(()) };
        let _ = self.store.remove(&held.record.name, held.record.revision).await;
        Err(AcquireError::DuplicatePublicIp(duplicate(self.options, other, subnet)))
    }

    async fn repeat<T, F, R>(&self, op: F) -> Result<T, StoreError>
    where
        F: FnMut() -> R,
        R: Future<Output = Result<T, StoreError>>,
    {
        answer(self.store, self.options, op).await
    }

    fn grant(&self) -> Grant {
        let id = self.options.instance.sign(&mut fastrand::Rng::new());
        Grant { id, ttl: self.options.timing.ttl }
    }

    fn held(&self, subnet: Cidr, record: StoreRecord, began: Instant) -> HeldLease {
        let Timing { ttl, renew_margin, .. } = self.options.timing;
        let term = record.lease.map(|_| LeaseTerm::new(began, ttl, renew_margin));
        HeldLease { subnet, public_ip: self.options.public_ip, record, term, rivals: Vec::new() }
    }
}

/// The message about two hosts with one address.
pub(super) fn duplicate(options: &ManagerOptions, other: Fingerprint, subnet: Cidr) -> String {
    format!(
        "two hosts announce the public IP {}: this one, {}, and instance {other}, which is alive \
         and holds {subnet}. Give each host an address of its own (--public-ip, --iface)",
        options.public_ip, options.instance
    )
}
