//! The keeper: renews this host's lease, and defends it.
//!
//! Every write is conditional on the revision that we wrote last, so a host that slept through its
//! lease can never take a subnet back from the host that has it now. Renewal needs no watch; the
//! watch only makes us look at once when something happened to our entry.

mod events;
mod rivals;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::acquire::{self, AcquireError, HeldLease, LeaseTerm, name};
use super::wait::LogThrottle;
use super::{ManagerOptions, RunError};
use crate::route::Cidr;
use crate::subnet::backoff::Backoff;
use crate::subnet::instance::Fingerprint;
use crate::subnet::store::{Grant, LeaseStore, StoreChange, StoreError, StoreRecord};
use crate::subnet::{LeaseValue, NetworkConfig};

pub(super) use events::{KeeperEvent, OwnEvent};

/// Keeps one lease.
pub(super) struct Keeper {
    store: Arc<dyn LeaseStore>,
    options: ManagerOptions,
    config: NetworkConfig,
    held: HeldLease,
    public_ip: watch::Receiver<Ipv4Addr>,
    to: Sender<KeeperEvent>,
    backoff: Backoff,
    throttle: LogThrottle,
    /// When to act next, and what for.
    next: Option<(Instant, NextAction)>,
    /// Whether the registry did not answer when we last needed it.
    failing: bool,
    /// When a rival for our address was last answered.
    answered: Option<Instant>,
    rivals: LogThrottle,
}

/// What there is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NextAction {
    /// Write our entry anew, with a new lease.
    Renew,
    /// See what became of our entry.
    Check,
    /// Leave our address to another instance.
    Yield { to: Fingerprint, subnet: Cidr },
}

/// Why an action was not carried out.
enum ActionError {
    /// The registry does not answer: try again.
    Later(StoreError),
    /// The manager has to end.
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
        let rivals = LogThrottle::new(timing.log_interval * 4);
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
            failing: false,
            answered: None,
            rivals,
        };
        keeper.plan(SECOND_LOOK);
        keeper
    }

    /// Runs until the lease is lost for good, or nobody listens any more.
    pub(super) async fn run(mut self, mut events: UnboundedReceiver<OwnEvent>) {
        loop {
            let (at, action) = self.next.unzip();
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => return,
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
                            self.failing = false;
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
        let name = name(self.held.subnet);
        match event {
            OwnEvent::Listed(records) => {
                // The registry is back: what could not be done is done now.
                if let Some((at, _)) = self.next.as_mut().filter(|_| self.failing) {
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
            // Late news of our own writes end here too; looking costs one small request.
            OwnEvent::Changed(_) => self.check_now(),
        }
    }

    fn on_address(&mut self) {
        let address = *self.public_ip.borrow_and_update();
        if address != self.held.public_ip {
            info!(old = %self.held.public_ip, new = %address, "public IP changed; the lease follows");
            self.options.public_ip = address;
            self.next = Some((Instant::now(), NextAction::Renew));
        }
    }

    /// Writes our entry anew, if it is still as we wrote it.
    async fn renew(&mut self) -> Result<(), ActionError> {
        let began = Instant::now();
        let grant = self.held.record.lease.map(|_| self.grant());
        let value = LeaseValue::new(self.options.public_ip).encode();
        let StoreRecord { name, revision, lease: old, .. } = self.held.record.clone();
        match self.store.replace(&name, revision, &value, grant).await {
            Ok(record) => {
                self.now_held(record, began, true).await;
                // Our entry hangs on the new lease by now, so nothing hangs on the old one.
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

    /// Looks at our entry, and does what its state asks for.
    async fn check(&mut self) -> Result<(), ActionError> {
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
            warn!(entry = ?record, "somebody wrote junk over our lease; restoring it");
            return self.rewrite(record).await;
        };
        if value.public_ip != self.held.public_ip && value.public_ip != self.options.public_ip {
            return self.lost(value.public_ip).await;
        }
        let me = self.options.instance.fingerprint();
        match record.lease.map(|lease| lease.signer()) {
            None => {
                info!(subnet = %self.held.subnet, "our lease was made a reservation");
                self.adopt(record).await;
                Ok(())
            }
            // A successor, or a twin, of this daemon on this host; or our own lost write.
            Some(Some(signer)) if signer == me => {
                self.adopt(record).await;
                Ok(())
            }
            Some(Some(signer)) => self.rewritten_by(signer, record).await,
            Some(None) => {
                if self.rivals.allow() {
                    warn!(
                        subnet = %self.held.subnet, public_ip = %self.held.public_ip,
                        "another flanneld rewrites our lease and announces our public IP: is one \
                         still running on this host, or does another host have this address?"
                    );
                }
                self.answer(record).await
            }
        }
    }

    /// Puts our value back over what `record` holds.
    async fn rewrite(&mut self, record: StoreRecord) -> Result<(), ActionError> {
        let began = Instant::now();
        let value = LeaseValue::new(self.options.public_ip).encode();
        let grant = Some(self.grant());
        let name = &record.name;
        match self.store.replace(name, record.revision, &value, grant).await {
            Ok(record) => {
                self.now_held(record, began, false).await;
                Ok(())
            }
            Err(StoreError::Conflict) => {
                self.check_now();
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Our entry is gone: deleted, revoked, expired, or the registry lost its data.
    async fn restore(&mut self) -> Result<(), ActionError> {
        let subnet = self.held.subnet;
        if !self.failing {
            warn!(%subnet, "our lease is gone from the registry; taking the same subnet again");
        }
        self.trouble(format!("the lease of {subnet} was gone"), false).await;
        self.acquire_again().await
    }

    async fn lost(&mut self, holder: Ipv4Addr) -> Result<(), ActionError> {
        let subnet = self.held.subnet;
        if !self.failing {
            error!(%subnet, %holder, "our lease was lost: another host holds our subnet now");
        }
        if self.options.exit_on_lease_loss {
            return Err(ActionError::GiveUp(RunError::LeaseLost { subnet, holder }));
        }
        self.trouble(format!("{subnet} is held by {holder} now"), false).await;
        self.acquire_again().await
    }

    /// The three steps again; step two finds the subnet that we had, if it is free.
    async fn acquire_again(&mut self) -> Result<(), ActionError> {
        let options = ManagerOptions { previous: Some(self.held.subnet), ..self.options.clone() };
        match acquire::acquire(&*self.store, &self.config, &options).await {
            Ok(held) => {
                if held.subnet != self.held.subnet {
                    warn!(old = %self.held.subnet, new = %held.subnet, "this host has a new subnet");
                }
                self.held = held;
                self.tell_held(false).await;
                self.plan(SECOND_LOOK);
                Ok(())
            }
            Err(AcquireError::Store(error)) => Err(error.into()),
            Err(AcquireError::DuplicatePublicIp(text)) => {
                Err(ActionError::GiveUp(RunError::DuplicatePublicIp(text)))
            }
            Err(AcquireError::OutOfSubnets) => Err(ActionError::Later(StoreError::unavailable(
                crate::subnet::store::UnavailableKind::Other,
                "out of subnets",
            ))),
        }
    }

    async fn adopt(&mut self, record: StoreRecord) {
        // How long it lives is known to the registry only; ask, and be early if it does not say.
        let left = match self.store.time_left(&record).await {
            Ok(Some(left)) => left,
            _ => Duration::ZERO,
        };
        self.now_held(record, Instant::now(), false).await;
        if let Some(term) = &mut self.held.term {
            *term = LeaseTerm::new(Instant::now(), left);
            self.plan(SECOND_LOOK);
        }
    }

    async fn now_held(&mut self, record: StoreRecord, began: Instant, renewed: bool) {
        let ttl = self.options.timing.ttl;
        self.held.term = record.lease.map(|_| LeaseTerm::new(began, ttl));
        self.held.record = record;
        self.held.public_ip = self.options.public_ip;
        if renewed {
            info!(subnet = %self.held.subnet, for_seconds = ttl.as_secs(), "lease renewed");
        }
        self.throttle.reset();
        self.plan(SECOND_LOOK);
        self.tell_held(renewed).await;
    }

    async fn tell_held(&self, renewed: bool) {
        let lease = self.held.lease();
        let _ = self.to.send(KeeperEvent::Held { lease, renewed }).await;
    }

    async fn trouble(&self, error: String, held: bool) {
        let _ = self.to.send(KeeperEvent::Problem { error, held }).await;
    }

    async fn later(&mut self, error: &StoreError) {
        let left = self.held.term.map(|term| term.ends.saturating_duration_since(Instant::now()));
        if self.throttle.allow() {
            warn!(subnet = %self.held.subnet, %error, lease_left = ?left,
                "cannot see after our lease; trying on");
        }
        let held = left.is_none_or(|left| !left.is_zero());
        self.trouble(error.to_string(), held).await;
        let action = self.next.map_or(NextAction::Check, |(_, action)| action);
        self.failing = true;
        self.next = Some((Instant::now() + self.backoff.next_wait(), action));
    }

    fn check_now(&mut self) {
        if !matches!(self.next, Some((_, NextAction::Yield { .. }))) {
            self.next = Some((Instant::now(), NextAction::Check));
        }
    }

    /// A renewal comes some time before the margin, so that hosts that started together do not
    /// renew together. Until then a look now and then needs no watch to find that our entry is
    /// gone.
    fn plan(&mut self, check_in: Duration) {
        let margin = self.options.timing.renew_margin;
        let now = Instant::now();
        let renewal = self.held.term.map(|term| {
            let early = margin.mul_f64(1.0 + fastrand::f64() * RENEW_JITTER);
            term.ends.checked_sub(early).map_or(now, |at| at.max(now))
        });
        let check = now + check_in;
        self.next = Some(match renewal {
            Some(renewal) if renewal <= check => (renewal, NextAction::Renew),
            _ => (check, NextAction::Check),
        });
    }

    fn grant(&self) -> Grant {
        let id = self.options.instance.sign(&mut fastrand::Rng::new());
        Grant { id, ttl: self.options.timing.ttl }
    }
}

/// How soon after a write our entry is looked at: a watch that compares lists does not see what
/// came and went between two of them.
const SECOND_LOOK: Duration = Duration::from_millis(500);
/// Share of the margin by which a renewal may come earlier.
const RENEW_JITTER: f64 = 0.05;
