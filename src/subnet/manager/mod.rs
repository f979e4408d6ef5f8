//! A host's part in the overlay: it takes a subnet, keeps it, and follows those of the others.
//!
//! Three tasks on one thread, so that none waits for another's network: the *watcher* lists and
//! watches the registry, the *keeper* renews and defends this host's own lease, and
//! [`Manager::run`] brings the route table in line. Errors keep the table as it is.

mod acquire;
mod keeper;
mod peers;
mod status;
mod wait;
mod watcher;

use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::store::{LeaseStore, StoreChange, StoreRecord};
use super::{Instance, LeaseValue, NetworkConfig};
use crate::route::{Cidr, RouteWriter};
use keeper::{Keeper, KeeperEvent, OwnEvent};
use peers::Peers;
use watcher::WatcherEvent;

pub use acquire::AcquireError;
pub use status::{Lease, Peer, SubnetStatus};

/// What a manager needs to know.
#[derive(Clone, Debug)]
pub struct ManagerOptions {
    /// The address under which this host announces its subnet.
    pub public_ip: Ipv4Addr,
    /// The subnet that this host had before, from its subnet file. A file that came with a cloned
    /// disk or from another cluster is not to be passed on: see [`SubnetFileOrigin`](crate::subnet::SubnetFileOrigin).
    pub previous: Option<Cidr>,
    /// Whether to give up rather than to take a new subnet if the lease is lost to another host.
    pub exit_on_lease_loss: bool,
    /// Who this is.
    pub instance: Instance,
    /// How long things take.
    pub timing: Timing,
}

impl ManagerOptions {
    /// Options for a host of this address; everything else as usual.
    pub fn new(public_ip: Ipv4Addr) -> Self {
        Self {
            public_ip,
            previous: None,
            exit_on_lease_loss: false,
            instance: Instance::current(),
            timing: Timing::default(),
        }
    }
}

/// How long things take.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Life of a lease (flannel: 24 h).
    pub ttl: Duration,
    /// How long before its end a lease is renewed (flannel: `--subnet-lease-renew-margin`).
    pub renew_margin: Duration,
    /// How often a silent watch is asked for a sign of life.
    pub probe: Duration,
    /// How long an answer to that may take before another connection is tried beside this one;
    /// more if the registry is known to be slow.
    pub suspect: Duration,
    /// How long an attempt to reach the registry may be silent before another is started beside
    /// it.
    pub hedge: Duration,
    /// First wait after a failure.
    pub backoff_first: Duration,
    /// Longest wait between attempts to reach the registry. It bounds how late its return is
    /// noticed.
    pub backoff_limit: Duration,
    /// How often everything is listed even if nothing seems wrong.
    pub resync: Duration,
    /// How often this host's own entry is looked at, watch or no watch.
    pub check: Duration,
    /// How long a lease that another instance signed has to stay unclaimed after it was taken
    /// over.
    pub contest: Duration,
    /// How often a missing config is looked for.
    pub config_poll: Duration,
    /// How often a lasting trouble is logged.
    pub log_interval: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(86_400),
            renew_margin: Duration::from_secs(3600),
            probe: Duration::from_secs(2),
            suspect: Duration::from_secs(1),
            hedge: Duration::from_secs(1),
            backoff_first: Duration::from_millis(50),
            backoff_limit: Duration::from_secs(1),
            resync: Duration::from_secs(3600),
            check: Duration::from_secs(60),
            contest: Duration::from_secs(3),
            config_poll: Duration::from_secs(1),
            log_interval: Duration::from_secs(15),
        }
    }
}

/// Takes a subnet, keeps it, follows those of the other hosts.
pub struct Manager {
    store: Arc<dyn LeaseStore>,
    options: ManagerOptions,
    public_ip: watch::Sender<Ipv4Addr>,
    /// The lease, once it is acquired.
    held: Option<(NetworkConfig, acquire::HeldLease)>,
}

/// Why a manager gave up.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another host announces our public IP. The text names both.
    #[error("{0}")]
    DuplicatePublicIp(String),
    /// The lease went to another host, and the options say to give up then.
    #[error("the lease of {subnet} was lost: {holder} holds it now")]
    LeaseLost {
        /// The subnet that was ours.
        subnet: Cidr,
        /// Who holds it.
        holder: Ipv4Addr,
    },
    /// The lease was lost, and no other could be taken.
    #[error("failed to acquire lease: {0}")]
    Acquire(#[from] AcquireError),
}

impl Manager {
    /// A manager of one host; asks the registry for nothing yet.
    pub fn new(store: Arc<dyn LeaseStore>, options: ManagerOptions) -> Self {
        let (public_ip, _) = watch::channel(options.public_ip);
        Self { store, options, public_ip, held: None }
    }

    /// Where to tell a running manager that this host's address has changed: the lease follows,
    /// the subnet stays.
    pub fn public_ip(&self) -> watch::Sender<Ipv4Addr> {
        self.public_ip.clone()
    }

    /// Waits until there is a good config, and says what keeps it waiting.
    ///
    /// # Errors
    /// A config with which flannel gives up at once.
    pub async fn wait_for_config(&self) -> Result<NetworkConfig, super::ConfigError> {
        wait::config(&*self.store, &self.options.timing).await
    }

    /// Takes a subnet: the one that this host has, the one that it had, or a free one.
    ///
    /// # Errors
    /// No subnet is free, or another host announces our public IP. An unreachable registry is
    /// waited for.
    pub async fn acquire(&mut self, config: &NetworkConfig) -> Result<Lease, AcquireError> {
        self.options.public_ip = *self.public_ip.borrow();
        let held = acquire::acquire(&*self.store, config, &self.options).await?;
        let lease = held.lease();
        self.held = Some((config.clone(), held));
        Ok(lease)
    }

    /// Keeps the lease and the route table until `shutdown` comes. The lease stays in the
    /// registry, so that a restart finds it.
    ///
    /// # Errors
    /// The lease is lost for good.
    ///
    /// # Panics
    /// If no lease was acquired before.
    pub async fn run(
        self,
        writer: RouteWriter,
        status: watch::Sender<SubnetStatus>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let (config, held) = self.held.expect("acquire() comes before run()");
        let own = held.lease();
        let peers = Peers::new(&config, writer, own.subnet, own.public_ip);
        let (watcher_tx, watcher) = mpsc::channel(CHANNEL);
        let (keeper_tx, keeper) = mpsc::channel(CHANNEL);
        // Unbounded, so that table and keeper never wait for each other; our own news is rare.
        let (own_tx, own_events) = mpsc::unbounded_channel();
        // Dropping the set ends the tasks.
        let mut tasks = JoinSet::new();
        let store = Arc::clone(&self.store);
        tasks.spawn(watcher::run(store, self.options.timing.clone(), watcher_tx));
        let public_ip = self.public_ip.subscribe();
        let keeper_task = Keeper::new(self.store, self.options, config, held, public_ip, keeper_tx);
        tasks.spawn(keeper_task.run(own_events));
        let mut runner =
            Runner { peers, status, own, own_tx, was_connected: false, publish_at: None };
        tokio::select! {
            outcome = runner.run(watcher, keeper) => outcome,
            () = shutdown => Ok(()),
        }
    }
}

/// Joins watcher, keeper and table.
struct Runner {
    peers: Peers,
    status: watch::Sender<SubnetStatus>,
    own: Lease,
    own_tx: mpsc::UnboundedSender<OwnEvent>,
    was_connected: bool,
    /// When the status gets the new list of peers: one list for a burst of changes.
    publish_at: Option<Instant>,
}

impl Runner {
    async fn run(
        &mut self,
        mut watcher: mpsc::Receiver<WatcherEvent>,
        mut keeper: mpsc::Receiver<KeeperEvent>,
    ) -> Result<(), RunError> {
        loop {
            tokio::select! {
                Some(event) = watcher.recv() => self.on_watcher(event),
                Some(event) = keeper.recv() => self.on_keeper(event)?,
                () = sleep_until(self.publish_at.unwrap_or_else(Instant::now)),
                    if self.publish_at.is_some() => self.publish_peers(),
                else => return Ok(()),
            }
        }
    }

    fn on_watcher(&mut self, event: WatcherEvent) {
        let now = Instant::now();
        match event {
            WatcherEvent::List(snapshot) => {
                self.peers.reset(&snapshot.records);
                self.publish_peers();
                let restarted = std::mem::replace(&mut self.was_connected, true);
                let first = !self.status.borrow().synced;
                self.status.send_modify(|status| {
                    status.synced = true;
                    status.connected = true;
                    status.revision = snapshot.revision;
                    status.watch_restarts += u64::from(restarted);
                    status.last_contact = Some(now);
                });
                if first {
                    info!(routes = self.peers.routes(), "route table is in step with the registry");
                }
                self.tell_keeper(OwnEvent::Listed(self.of_interest(snapshot.records)));
            }
            WatcherEvent::Changes(changes) => {
                self.peers.apply(&changes);
                // A mere sign of life wakes nobody.
                self.status.send_if_modified(|status| {
                    let news = !status.connected || !changes.is_empty();
                    status.connected = true;
                    status.last_contact = Some(now);
                    for change in &changes {
                        let (StoreChange::Put(StoreRecord { revision, .. })
                        | StoreChange::Delete { revision, .. }) = change;
                        status.revision = status.revision.max(*revision);
                    }
                    news
                });
                for change in changes {
                    if self.is_ours(&change) {
                        self.tell_keeper(OwnEvent::Changed(change));
                    }
                }
            }
            WatcherEvent::Lost(error) => self.status.send_modify(|status| {
                status.connected = false;
                status.last_error = Some(error);
            }),
        }
        self.plan_publishing();
    }

    fn on_keeper(&mut self, event: KeeperEvent) -> Result<(), RunError> {
        match event {
            KeeperEvent::Held { lease, renewed } => {
                self.status.send_modify(|status| {
                    status.lease = lease.subnet;
                    status.lease_expires = lease.expires;
                    status.lease_held = true;
                    status.renewals += u64::from(renewed);
                });
                if lease.subnet != self.own.subnet || lease.public_ip != self.own.public_ip {
                    self.peers.set_own(lease.subnet, lease.public_ip);
                    self.plan_publishing();
                }
                self.own = lease;
            }
            KeeperEvent::Problem { error, held } => self.status.send_modify(|status| {
                status.lease_held = held;
                status.last_error = Some(error);
            }),
            KeeperEvent::GaveUp(error) => return Err(error),
        }
        Ok(())
    }

    fn plan_publishing(&mut self) {
        if self.peers.skipped() != self.status.borrow().skipped_keys || self.peers.is_stale() {
            self.publish_at.get_or_insert_with(|| Instant::now() + PUBLISH_AFTER);
        }
    }

    fn publish_peers(&mut self) {
        self.publish_at = None;
        let (peers, skipped) = (self.peers.peers(), self.peers.skipped());
        self.status.send_modify(|status| {
            status.peers = peers;
            status.skipped_keys = skipped;
        });
    }

    fn tell_keeper(&self, event: OwnEvent) {
        // Its end shows on its own channel.
        let _ = self.own_tx.send(event);
    }

    fn of_interest(&self, records: Vec<StoreRecord>) -> Vec<StoreRecord> {
        records.into_iter().filter(|record| self.is_ours_record(record)).collect()
    }

    fn is_ours(&self, change: &StoreChange) -> bool {
        match change {
            StoreChange::Put(record) => self.is_ours_record(record),
            StoreChange::Delete { name, .. } => *name == acquire::name(self.own.subnet),
        }
    }

    /// Our own entry, or one that announces our address.
    fn is_ours_record(&self, record: &StoreRecord) -> bool {
        record.name == acquire::name(self.own.subnet)
            || LeaseValue::decode(&record.value)
                .is_ok_and(|value| value.public_ip == self.own.public_ip)
    }
}

/// How long changes are gathered before the status shows them.
const PUBLISH_AFTER: Duration = Duration::from_millis(100);
/// Events that may be under way between two tasks.
const CHANNEL: usize = 64;
