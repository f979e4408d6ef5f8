//! What has happened to the entry of this host's lease, and what to do about it.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, info, trace, warn};

use super::{ActionError, Keeper, SECOND_CHECK};
use crate::subnet::LeaseValue;
use crate::subnet::manager::acquire::{self, AcquireError};
use crate::subnet::manager::held::LeaseTerm;
use crate::subnet::manager::{ManagerOptions, RunError};
use crate::subnet::store::{StoreError, StoreRecord, UnavailableKind};

impl Keeper {
    /// Reads the entry of this host's lease, and acts on what has happened to it.
    pub(super) async fn check(&mut self) -> Result<(), ActionError> {
        trace!(kind = "lease", subnet = %self.held.subnet, "checking the entry of our lease");
        let Some(record) = self.store.get(&self.held.record.name).await? else {
            return self.restore().await;
        };
        if record == self.held.record {
            if self.options.public_ip != self.held.public_ip {
                return self.renew().await;
            }
            self.throttle.reset();
            self.plan(self.options.timing.check.mul_f64(0.75 + fastrand::f64() / 2.0));
            return Ok(());
        }
        let Ok(value) = LeaseValue::decode(&record.value) else {
            warn!(entry = ?record, "invalid data was written over our lease; restoring it");
            return self.rewrite(record).await;
        };
        if value.public_ip != self.held.public_ip && value.public_ip != self.options.public_ip {
            return self.lost(value.public_ip).await;
        }
        if record.lease.is_some_and(|lease| lease.is_stopped()) {
            info!(
                subnet = %self.held.subnet,
                "another daemon with our public IP marked our lease as stopped; renewing it"
            );
            return self.answer(record).await;
        }
        let me = self.options.instance.fingerprint();
        match record.lease.map(|lease| lease.signer()) {
            None => {
                info!(subnet = %self.held.subnet, "our lease was turned into a reservation");
                self.adopt(record).await;
                Ok(())
            }
            // A daemon that runs on this host too, or has replaced this one, or a write of this
            // daemon whose answer was lost.
            Some(Some(signer)) if signer == me => {
                self.adopt(record).await;
                Ok(())
            }
            Some(Some(signer)) => self.rewritten_by(signer, record).await,
            Some(None) => {
                if self.rival_throttle.allow() {
                    warn!(
                        subnet = %self.held.subnet, public_ip = %self.held.public_ip,
                        "another flanneld rewrites our lease and announces our public IP: is one \
                         still running on this host, or does another host have the same address?"
                    );
                }
                self.answer(record).await
            }
        }
    }

    /// Writes this host's value over `record`.
    pub(super) async fn rewrite(&mut self, record: StoreRecord) -> Result<(), ActionError> {
        let began = Instant::now();
        debug!(kind = "lease", subnet = %self.held.subnet, over = ?record, "writing our entry again");
        let value = self.held.value(self.options.public_ip);
        let grant = Some(self.grant());
        let StoreRecord { name, revision, lease: old, .. } = record;
        match self.store.replace(&name, revision, &value, grant).await {
            Ok(record) => {
                self.now_held(record, began, false).await;
                if let Some(old) = old {
                    let _ = self.store.revoke_unused(old).await;
                }
                Ok(())
            }
            Err(StoreError::Conflict) => {
                self.check_now();
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The entry of this host's lease is gone: it was deleted or revoked, it expired, or the lease
    /// store lost its data.
    async fn restore(&mut self) -> Result<(), ActionError> {
        let subnet = self.held.subnet;
        if !self.is_failing {
            warn!(kind = "lease", %subnet, "our lease is gone from the lease store; acquiring the same subnet again");
        }
        self.report_problem(format!("the lease of {subnet} was gone"), false).await;
        self.acquire_again().await
    }

    /// Another host holds this host's subnet now.
    async fn lost(&mut self, holder: Ipv4Addr) -> Result<(), ActionError> {
        let subnet = self.held.subnet;
        if !self.is_failing {
            error!(kind = "lease", %subnet, peer = %holder, "our lease was lost: another host holds our subnet now");
        }
        if self.options.exit_on_lease_loss {
            return Err(ActionError::GiveUp(RunError::LeaseLost { subnet, holder }));
        }
        self.report_problem(format!("{subnet} is held by {holder} now"), false).await;
        self.acquire_again().await
    }

    /// Acquires a lease as at the start; the second step finds the former subnet, if it is free.
    async fn acquire_again(&mut self) -> Result<(), ActionError> {
        let options = ManagerOptions { previous: Some(self.held.subnet), ..self.options.clone() };
        match acquire::acquire(&*self.store, &self.config, &options).await {
            Ok(held) => {
                if held.subnet != self.held.subnet {
                    warn!(kind = "lease", old = %self.held.subnet, new = %held.subnet, "this host has a new subnet");
                }
                self.held = held;
                self.report_held(false).await;
                self.plan(SECOND_CHECK);
                Ok(())
            }
            Err(AcquireError::Store(error)) => Err(error.into()),
            Err(AcquireError::DuplicatePublicIp(text)) => {
                Err(ActionError::GiveUp(RunError::DuplicatePublicIp(text)))
            }
            Err(AcquireError::OutOfSubnets) => Err(ActionError::Later(StoreError::unavailable(
                UnavailableKind::Other,
                "out of subnets",
            ))),
        }
    }

    /// Takes over an entry that is this host's, though another writer wrote it.
    async fn adopt(&mut self, record: StoreRecord) {
        debug!(kind = "lease", subnet = %self.held.subnet, entry = ?record, "taking over an entry that is ours");
        // Only the lease store knows the time to live. Without an answer the lease is renewed now.
        let left = match self.store.time_left(&record).await {
            Ok(Some(left)) => left,
            _ => Duration::ZERO,
        };
        self.now_held(record, Instant::now(), false).await;
        if let Some(term) = &mut self.held.term {
            *term = LeaseTerm::new(Instant::now(), left, self.options.timing.renew_margin);
            self.plan(SECOND_CHECK);
        }
    }
}
