//! Taking a subnet.
//!
//! flannel's three steps: the subnet that the registry says is ours, the one that the subnet file
//! says was ours, a free one. Each ends in one conditional write, and whoever loses a race looks
//! again: hosts that start together never share a subnet, and none fails while one is free.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::ManagerOptions;
use super::status::Lease;
use super::wait::answer;
use crate::route::Cidr;
use crate::subnet::instance::Fingerprint;
use crate::subnet::store::{Grant, LeaseStore, StoreError, StoreRecord, StoreSnapshot};
use crate::subnet::{LeaseKey, LeaseValue, NetworkConfig, allocate};

/// Why there is no subnet for this host.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// Every subnet of the range is taken.
    #[error("out of subnets")]
    OutOfSubnets,
    /// Another living host announces our public IP. The text names both.
    #[error("{0}")]
    DuplicatePublicIp(String),
    /// The registry answers what makes no sense.
    #[error("{0}")]
    Store(StoreError),
}

/// A lease that this host holds.
#[derive(Clone, Debug)]
pub(super) struct HeldLease {
    pub(super) subnet: Cidr,
    pub(super) public_ip: Ipv4Addr,
    pub(super) record: StoreRecord,
    /// When it was written, by two clocks; `None` for a reservation.
    pub(super) term: Option<LeaseTerm>,
    /// What announced our address before we took the subnet. A rival that is not among these was
    /// written since, by somebody alive.
    pub(super) rivals: Vec<StoreRecord>,
}

/// The life of a lease. Our clock starts before the registry's does, so we are early.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaseTerm {
    pub(super) ends: Instant,
    pub(super) ends_wall: SystemTime,
}

impl LeaseTerm {
    /// A term that began at `from`.
    pub(super) fn new(from: Instant, ttl: Duration) -> Self {
        Self { ends: from + ttl, ends_wall: SystemTime::now() + ttl - from.elapsed() }
    }
}

impl HeldLease {
    pub(super) fn lease(&self) -> Lease {
        Lease {
            subnet: self.subnet,
            public_ip: self.public_ip,
            expires: self.term.map(|term| term.ends_wall),
            id: self.record.lease,
        }
    }
}

/// The name of a subnet's entry.
pub(super) fn name(subnet: Cidr) -> String {
    LeaseKey::new(subnet).to_string()
}

/// Takes a subnet; waits for a registry that does not answer.
pub(super) async fn acquire(
    store: &dyn LeaseStore,
    config: &NetworkConfig,
    options: &ManagerOptions,
) -> Result<HeldLease, AcquireError> {
    let acquirer = Acquirer { store, config, options };
    loop {
        let snapshot = answer(store, &options.timing, || store.list()).await.map_err(fatal)?;
        let survey = LeaseSurvey::new(&snapshot, config, options.public_ip);
        match acquirer.attempt(&survey).await? {
            Some(held) => {
                let rivals = survey.ours.into_iter().map(|(_, record)| record).collect();
                return Ok(HeldLease { rivals, ..held });
            }
            // Lost a race. A short random wait spreads those who lost it together.
            None => sleep(Duration::from_millis(fastrand::u64(1..20))).await,
        }
    }
}

fn fatal(error: StoreError) -> AcquireError {
    AcquireError::Store(error)
}

/// What a list says about who has what.
struct LeaseSurvey {
    /// Every subnet that somebody's key names, ours included: also a key whose value cannot be
    /// read stands in the way of a new one.
    taken: Vec<Cidr>,
    /// Entries that announce our address.
    ours: Vec<(LeaseKey, StoreRecord)>,
}

impl LeaseSurvey {
    fn new(snapshot: &StoreSnapshot, config: &NetworkConfig, public_ip: Ipv4Addr) -> Self {
        let mut survey = Self { taken: Vec::new(), ours: Vec::new() };
        for record in &snapshot.records {
            let Ok(key) = record.name.parse::<LeaseKey>() else { continue };
            // A prefix that covers the whole network is a default route and no lease.
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
    /// One round; `None` if somebody else was faster.
    async fn attempt(&self, survey: &LeaseSurvey) -> Result<Option<HeldLease>, AcquireError> {
        if let Some(step) = self.reuse(survey).await? {
            return Ok(step);
        }
        if let Some(step) = self.previous(survey).await? {
            return Ok(step);
        }
        let mut rng = fastrand::Rng::new();
        let Some(subnet) = allocate::pick(self.config, &survey.taken, &mut rng) else {
            return Err(AcquireError::OutOfSubnets);
        };
        info!("Picking subnet in range {} ... {}", self.config.subnet_min, self.config.subnet_max);
        self.create(subnet, survey).await
    }

    /// Step 1. The outer `None` is "nothing to reuse".
    async fn reuse(&self, survey: &LeaseSurvey) -> Result<Option<Option<HeldLease>>, AcquireError> {
        let public_ip = self.options.public_ip;
        let mut fitting = Vec::new();
        for (key, record) in &survey.ours {
            if self.config.may_lease(key.subnet) && record.name == name(key.subnet) {
                fitting.push((key.subnet, record));
            } else if record.lease.is_none() {
                warn!(
                    "reservation {} for {public_ip} does not fit the config; left alone",
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
                    Err(StoreError::Conflict) => return Ok(Some(None)),
                    Err(error) => return Err(fatal(error)),
                }
            }
        }
        // Of several, the one that we had last, else one that an operator reserved.
        let rank = |subnet: Cidr, record: &StoreRecord| {
            (self.options.previous == Some(subnet), record.lease.is_none())
        };
        let Some((subnet, record)) =
            fitting.into_iter().rev().max_by_key(|(subnet, record)| rank(*subnet, record))
        else {
            return Ok(None);
        };
        info!("Found lease ({subnet}) for current IP ({public_ip}), reusing");
        self.take_over(subnet, record).await.map(Some)
    }

    async fn take_over(
        &self,
        subnet: Cidr,
        record: &StoreRecord,
    ) -> Result<Option<HeldLease>, AcquireError> {
        let began = Instant::now();
        // A reservation stays one: no lease is put under it.
        let grant = record.lease.map(|_| self.grant());
        let value = self.value();
        let name = &record.name;
        let outcome =
            self.repeat(|| self.store.replace(name, record.revision, &value, grant)).await;
        let held = match outcome {
            Ok(written) => self.held(subnet, written, began),
            Err(StoreError::Conflict) => return Ok(None),
            Err(error) => return Err(fatal(error)),
        };
        let me = self.options.instance.fingerprint();
        if let Some(other) = record.lease.and_then(|id| id.signer()).filter(|&other| other != me) {
            return self.contest(held, other).await;
        }
        if let Some(old) = record.lease {
            let _ = self.store.revoke_unused(old).await;
        }
        Ok(Some(held))
    }

    /// The lease was signed by another instance that announces our address. It may be long gone,
    /// or this very machine before it was installed anew; but if it lives it takes its lease back
    /// at once (see [`super::keeper`]), and then two hosts have one address.
    async fn contest(
        &self,
        held: HeldLease,
        other: Fingerprint,
    ) -> Result<Option<HeldLease>, AcquireError> {
        info!(subnet = %held.subnet, instance = %other,
            "lease was another instance's; waiting whether it answers");
        let until = Instant::now() + self.options.timing.contest;
        while Instant::now() < until {
            sleep(self.options.timing.contest / 10).await;
            // Unreachable: nothing is known, so nothing is decided. Wait on.
            let Ok(current) = self.store.get(&held.record.name).await else { continue };
            let Some(current) = current else { return Ok(None) };
            if current.revision == held.record.revision {
                continue;
            }
            let signer = current.lease.and_then(|id| id.signer());
            if signer == Some(other) {
                return Err(AcquireError::DuplicatePublicIp(duplicate(
                    self.options,
                    other,
                    held.subnet,
                )));
            }
            return Ok(None);
        }
        Ok(Some(held))
    }

    /// Step 2. The outer `None` is "no such subnet, or it is not to be had".
    async fn previous(
        &self,
        survey: &LeaseSurvey,
    ) -> Result<Option<Option<HeldLease>>, AcquireError> {
        let Some(previous) = self.options.previous else { return Ok(None) };
        if !self.config.may_lease(previous) {
            warn!(
                "Found previously leased subnet ({previous}) that is not compatible with the \
                   network config, ignoring"
            );
            return Ok(None);
        }
        if survey.taken.iter().any(|taken| taken.overlaps(previous)) {
            info!("Previously leased subnet ({previous}) belongs to another host now");
            return Ok(None);
        }
        info!("Found previously leased subnet ({previous}), reusing");
        self.create(previous, survey).await.map(Some)
    }

    async fn create(
        &self,
        subnet: Cidr,
        survey: &LeaseSurvey,
    ) -> Result<Option<HeldLease>, AcquireError> {
        let began = Instant::now();
        let grant = self.grant();
        let (name, value) = (name(subnet), self.value());
        match self.repeat(|| self.store.create(&name, &value, Some(grant))).await {
            Ok(record) => {
                let held = self.held(subnet, record, began);
                self.alone(&held, survey).await?;
                info!("Allocated lease ({subnet}) to current node ({})", self.options.public_ip);
                Ok(Some(held))
            }
            Err(StoreError::Conflict) => Ok(None),
            Err(error) => Err(fatal(error)),
        }
    }

    /// Makes sure that no other instance took a subnet for our address at the same moment: then
    /// neither found the other's entry to take over. Who wrote since our list is alive; of the
    /// two the higher print goes.
    async fn alone(&self, held: &HeldLease, before: &LeaseSurvey) -> Result<(), AcquireError> {
        let snapshot = self.repeat(|| self.store.list()).await.map_err(fatal)?;
        let now = LeaseSurvey::new(&snapshot, self.config, self.options.public_ip);
        let me = self.options.instance.fingerprint();
        let rival = now.ours.iter().find_map(|entry| {
            let other = entry.1.lease?.signer()?;
            (other < me && !before.ours.contains(entry)).then_some((other, entry.0.subnet))
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
        answer(self.store, &self.options.timing, op).await
    }

    fn grant(&self) -> Grant {
        let id = self.options.instance.sign(&mut fastrand::Rng::new());
        Grant { id, ttl: self.options.timing.ttl }
    }

    fn value(&self) -> Vec<u8> {
        LeaseValue::new(self.options.public_ip).encode()
    }

    fn held(&self, subnet: Cidr, record: StoreRecord, began: Instant) -> HeldLease {
        let term = record.lease.map(|_| LeaseTerm::new(began, self.options.timing.ttl));
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
