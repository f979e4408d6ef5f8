//! The keeper: renews this host's lease, and restores it if another writer changes it.
//!
//! Every write is conditional on the revision of the keeper's last write. A host that was
//! suspended past the end of its lease can therefore never take its subnet back from the host that
//! holds the subnet now. Renewal does not depend on the watch; a change that the watch reports only
//! makes the keeper check the entry at once.

mod check;
mod events;
mod rivals;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, trace, warn};

use super::held::{HeldLease, LeaseTerm};
use super::log_throttle::LogThrottle;
use super::{ManagerOptions, RunError, Timing, wait};
use crate::route::Cidr;
use crate::subnet::NetworkConfig;
use crate::subnet::backoff::Backoff;
use crate::subnet::instance::Fingerprint;
use crate::subnet::store::{Grant, LeaseStore, StoreChange, StoreError, StoreRecord};

pub(super) use events::{KeeperEvent, OwnEvent};

/// Keeps the lease of this host.
pub(super) struct Keeper {
    store: Arc<dyn LeaseStore>,
    options: ManagerOptions,
    config: NetworkConfig,
    held: HeldLease,
    public_ip: watch::Receiver<Ipv4Addr>,
    to: Sender<KeeperEvent>,
    backoff: Backoff,
    /// Lines about a lease store that does not answer.
    throttle: LogThrottle,
    /// Time and kind of the next action.
    next: Option<(Instant, NextAction)>,
    /// Whether the last action failed because the lease store did not answer.
    is_failing: bool,
    /// When the keeper last wrote its entry back against a rival.
    answered: Option<Instant>,
    /// Lines about other instances that announce this host's address.
    rival_throttle: LogThrottle,
}

/// The keeper's next action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NextAction {
    /// Write the entry again, with a new lease.
    Renew,
    /// Read the entry, and act on a change of it.
    Check,
    /// Leave the public IP to another instance.
    Yield { to: Fingerprint, subnet: Cidr },
}

/// Why an action was not carried out.
enum ActionError {
    /// The lease store did not answer; the action is repeated.
    Later(StoreError),
    /// The manager has to end with this error.
    GiveUp(RunError),
}

impl From<StoreError> for ActionError {
    fn from(error: StoreError) -> Self {
        Self::Later(error)
    }
}

impl Keeper {
    pub(super) fn new(
        store: Arc<dyn LeaseStore>,
        options: ManagerOptions,
        config: NetworkConfig,
        held: HeldLease,
        public_ip: watch::Receiver<Ipv4Addr>,
        to: Sender<KeeperEvent>,
    ) -> Self {
        let timing = &options.timing;
        let backoff = Backoff::new(timing.backoff_first, timing.backoff_limit * 10);
        let throttle = LogThrottle::new(timing.log_interval * 4);
        let rival_throttle = LogThrottle::new(timing.log_interval * 4);
        let mut keeper = Self {
            store,
            options,
            config,
            held,
            public_ip,
            to,
            backoff,
            throttle,
            next: None,
            is_failing: false,
            answered: None,
            rival_throttle,
        };
        keeper.plan(SECOND_CHECK);
        keeper
    }

    /// Runs until the manager has to end, or until it drops the channel of events because it stops. In that
    /// case the lease is marked as left.
    pub(super) async fn run(mut self, mut events: UnboundedReceiver<OwnEvent>) {
        loop {
            let (at, action) = self.next.unzip();
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => return self.leave().await,
                },
                Ok(()) = self.public_ip.changed() => self.on_address(),
                () = sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => {
                    let outcome = match action {
                        Some(NextAction::Renew) => self.renew().await,
                        Some(NextAction::Yield { to, subnet }) => Err(self.yield_to(to, subnet).await),
                        _ => self.check().await,
                    };
                    match outcome {
                        Ok(()) => {
                            self.is_failing = false;
                            self.options.refusal.clear();
                            self.backoff.reset();
                        }
                        Err(ActionError::Later(error)) => self.later(&error).await,
                        Err(ActionError::GiveUp(error)) => {
                            let _ = self.to.send(KeeperEvent::GaveUp(error)).await;
                            return;
                        }
                    }
                }
            }
        }
    }

    fn on_event(&mut self, event: OwnEvent) {
        let name = self.held.record.name.clone();
        match event {
            OwnEvent::Listed(records) => {
                // The lease store answers again, so a failed action is repeated at once.
                if let Some((at, _)) = self.next.as_mut().filter(|_| self.is_failing) {
                    *at = Instant::now();
                }
                if !records.contains(&self.held.record) {
                    self.check_now();
                }
                for record in records.iter().filter(|record| record.name != name) {
                    self.rival(record, !self.held.rivals.contains(record));
                }
                self.held.rivals = records;
            }
            OwnEvent::Changed(StoreChange::Put(record)) if record.name != name => {
                self.rival(&record, true);
            }
            OwnEvent::Changed(StoreChange::Put(record)) if record == self.held.record => {}
            // Delayed reports of the keeper's own writes arrive here too; each costs one small
            // request.
            OwnEvent::Changed(_) => self.check_now(),
        }
    }

    fn on_address(&mut self) {
        let address = *self.public_ip.borrow_and_update();
        if address != self.held.public_ip {
            info!(
                old = %self.held.public_ip, new = %address,
                "the public IP changed; updating the lease"
            );
            self.options.public_ip = address;
            self.next = Some((Instant::now(), NextAction::Renew));
        }
    }

    /// Writes the entry again with a new lease, if it is unchanged since the keeper's last write.
    async fn renew(&mut self) -> Result<(), ActionError> {
        debug!(kind = "lease", subnet = %self.held.subnet, "renewing our lease");
        let began = Instant::now();
        let grant = self.held.record.lease.map(|_| self.grant());
        let value = self.held.value(self.options.public_ip);
        let StoreRecord { name, revision, lease: old, .. } = self.held.record.clone();
        match self.store.replace(&name, revision, &value, grant).await {
            Ok(record) => {
                self.now_held(record, began, true).await;
                // The entry is attached to the new lease now, so the old one is unused.
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

    /// Writes the entry again with a lease whose number says that this daemon has stopped, so that an operator
    /// may release the subnet. Whoever reads only key, value and time to live sees another renewal.
    async fn leave(&mut self) {
        let StoreRecord { name, revision, lease, .. } = self.held.record.clone();
        let Some(old) = lease else { return };
        let id = self.options.instance.sign_stopped(&mut fastrand::Rng::new());
        let grant = Grant { id, ttl: self.options.timing.ttl };
        let value = self.held.value(self.held.public_ip);
        let subnet = self.held.subnet;
        match self.store.replace(&name, revision, &value, Some(grant)).await {
            Ok(_) => {
                debug!(kind = "lease", %subnet, "marked our lease as that of a stopped daemon");
                let _ = self.store.revoke_unused(old).await;
            }
            // Another daemon holds the entry now, or an operator removed it.
            Err(StoreError::Conflict) => {
                debug!(kind = "lease", %subnet, "our lease has another holder already")
            }
            Err(error) => info!(kind = "lease", %subnet, "{NOT_MARKED}: {error}"),
        }
    }

    /// Records a successful write of the entry.
    async fn now_held(&mut self, record: StoreRecord, began: Instant, renewed: bool) {
        let Timing { ttl, renew_margin, .. } = self.options.timing;
        self.held.term = record.lease.map(|_| LeaseTerm::new(began, ttl, renew_margin));
        self.held.record = record;
        self.held.public_ip = self.options.public_ip;
        if renewed {
            info!(kind = "lease", subnet = %self.held.subnet, for_seconds = ttl.as_secs(), "lease renewed");
        }
        self.throttle.reset();
        self.plan(SECOND_CHECK);
        self.report_held(renewed).await;
    }

    async fn report_held(&self, renewed: bool) {
        let lease = self.held.lease();
        let _ = self.to.send(KeeperEvent::Held { lease, renewed }).await;
    }

    async fn report_problem(&self, error: String, held: bool) {
        let _ = self.to.send(KeeperEvent::Problem { error, held }).await;
    }

    /// Plans the repetition of an action that the lease store did not answer.
    async fn later(&mut self, error: &StoreError) {
        let left = self.held.term.map(|term| term.ends.saturating_duration_since(Instant::now()));
        if self.throttle.allow() {
            let wait::Failure { summary, endpoints } = wait::Failure::new(&*self.store, error);
            warn!(kind = "lease", subnet = %self.held.subnet, lease_left = ?left,
                "cannot renew or check our lease; retrying: {summary}");
            endpoints.iter().for_each(|line| warn!(kind = "lease", "{line}"));
        }
        self.options.refusal.set(error);
        let held = left.is_none_or(|left| !left.is_zero());
        self.report_problem(error.to_string(), held).await;
        let action = self.next.map_or(NextAction::Check, |(_, action)| action);
        self.is_failing = true;
        let delay = self.backoff.next_wait();
        debug!(kind = "retry", ?action, ?delay, %error, "the lease store did not carry out the action; retrying");
        self.next = Some((Instant::now() + delay, action));
    }

    fn check_now(&mut self) {
        if !matches!(self.next, Some((_, NextAction::Yield { .. }))) {
            self.next = Some((Instant::now(), NextAction::Check));
        }
    }

    /// Plans the next renewal or check, whichever is first. The checks between renewals find a lost
    /// entry without a watch.
    fn plan(&mut self, check_in: Duration) {
        let now = Instant::now();
        let renewal = self.held.term.map(|term| term.renew_at.max(now));
        let check = now + check_in;
        let next @ (at, action) = match renewal {
            Some(renewal) if renewal <= check => (renewal, NextAction::Renew),
            _ => (check, NextAction::Check),
        };
        let (wait, renewal) = (at - now, renewal.map(|renewal| renewal - now));
        trace!(kind = "lease", ?action, ?wait, ?renewal, "planned the next action on our lease");
        self.next = Some(next);
    }

    fn grant(&self) -> Grant {
        let id = self.options.instance.sign(&mut fastrand::Rng::new());
        Grant { id, ttl: self.options.timing.ttl }
    }
}

/// The log's words for a lease that is left without its mark.
pub(super) const NOT_MARKED: &str = "cannot mark our lease as stopped in the lease store; `leases release` \
                                     will need --force";

/// Delay between a write and the check of the entry: a watch that compares lists does not see a
/// change that was undone between two of them.
const SECOND_CHECK: Duration = Duration::from_millis(500);
