//! A host's part in the overlay: it acquires a subnet, keeps the lease, and watches the leases of
//! the other hosts.
//!
//! Three tasks run on one thread, so that none waits for a request of another: the watcher lists
//! and watches the lease store, the keeper renews and restores this host's own lease, and the
//! reconciler updates the route table. A failure leaves the route table as it is.

mod acquire;
mod hedge;
mod held;
mod keeper;
mod log_throttle;
mod options;
mod peers;
mod reconciler;
mod refusal;
mod renewal;
mod status;
mod wait;
mod watcher;

use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::info;

use super::NetworkConfig;
use super::store::LeaseStore;
use crate::route::{Cidr, HopQuestions, HopVerdicts, RouteWriter};
use held::HeldLease;
use keeper::Keeper;
use reconciler::Reconciler;

pub use acquire::AcquireError;
pub use options::{ManagerOptions, Timing};
pub use refusal::Refusal;
pub use status::{Lease, Peer, SubnetStatus, WithheldLease};

/// Acquires a subnet, keeps its lease, and watches the leases of the other hosts.
pub struct Manager {
    store: Arc<dyn LeaseStore>,
    options: ManagerOptions,
    public_ip: watch::Sender<Ipv4Addr>,
    /// Who checks next hops; without it all of them are used.
    next_hop_check: Option<NextHopChannels>,
    /// The lease, once it is acquired.
    held: Option<(NetworkConfig, HeldLease)>,
}

/// The channels to whoever checks next hops.
pub struct NextHopChannels {
    /// The next hops to check.
    pub questions: watch::Sender<HopQuestions>,
    /// The verdicts.
    pub verdicts: watch::Receiver<HopVerdicts>,
}

/// Why a manager ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another host announces this host's public IP. The text names both hosts.
    #[error("{0}")]
    DuplicatePublicIp(String),
    /// Another host took the lease, and the options say to end in that case.
    #[error("the lease of {subnet} was lost: {holder} holds it now")]
    LeaseLost {
        /// The former subnet of this host.
        subnet: Cidr,
        /// The subnet's holder now.
        holder: Ipv4Addr,
    },
    /// The lease was lost, and no other could be acquired.
    #[error("failed to acquire lease: {0}")]
    Acquire(#[from] AcquireError),
}

impl Manager {
    /// A manager of one host; sends no request to the lease store yet.
    pub fn new(store: Arc<dyn LeaseStore>, options: ManagerOptions) -> Self {
        let (public_ip, _) = watch::channel(options.public_ip);
        Self { store, options, public_ip, next_hop_check: None, held: None }
    }

    /// The channel that tells a running manager of a new address of this host. The manager writes
    /// the address to its lease, and keeps the subnet.
    pub fn public_ip(&self) -> watch::Sender<Ipv4Addr> {
        self.public_ip.clone()
    }

    /// Has next hops checked: a lease whose next hop may not be used gets no route, and neither does
    /// one whose next hop has not been checked yet.
    pub fn check_next_hops(&mut self, channels: NextHopChannels) {
        self.next_hop_check = Some(channels);
    }

    /// Waits for a usable network config, and logs what it waits for.
    ///
    /// # Errors
    /// A config with which flannel exits at once.
    pub async fn wait_for_config(&self) -> Result<NetworkConfig, super::ConfigError> {
        wait::config(&*self.store, &self.options).await
    }

    /// Acquires a subnet: the one that the lease store assigns to this host, the previous one, or a
    /// free one. Waits for a lease store that cannot be reached.
    ///
    /// # Errors
    /// No subnet is free, or another host announces this host's public IP.
    pub async fn acquire(&mut self, config: &NetworkConfig) -> Result<Lease, AcquireError> {
        self.options.public_ip = *self.public_ip.borrow();
        let held = acquire::acquire(&*self.store, config, &self.options).await?;
        self.options.refusal.clear();
        let lease = held.lease();
        self.held = Some((config.clone(), held));
        Ok(lease)
    }

    /// Keeps the lease and the route table up to date until `shutdown` completes. The lease stays
    /// in the lease store, so that the daemon finds it after a restart, with a number that says that
    /// its daemon has stopped.
    ///
    /// # Errors
    /// The lease is lost for good.
    ///
    /// # Panics
    /// If [`acquire`](Self::acquire) has not succeeded before.
    pub async fn run(
        self,
        writer: RouteWriter,
        status: watch::Sender<SubnetStatus>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let (config, held) = self.held.expect("acquire() comes before run()");
        let own = held.lease();
        let (watcher_tx, watcher) = mpsc::channel(EVENTS);
        let (keeper_tx, keeper) = mpsc::channel(EVENTS);
        // Unbounded, so that reconciler and keeper never wait for each other; events about this
        // host's own entry are rare.
        let (own_tx, own_events) = mpsc::unbounded_channel();
        // Dropping the sets ends the tasks.
        let (mut tasks, mut keeping) = (JoinSet::new(), JoinSet::new());
        let store = Arc::clone(&self.store);
        tasks.spawn(watcher::run(store, self.options.timing.clone(), watcher_tx));
        let mut reconciler =
            Reconciler::new(&config, writer, status, own, own_tx, self.next_hop_check);
        let public_ip = self.public_ip.subscribe();
        let leave_timeout = self.options.timing.leave;
        let keeper_task = Keeper::new(self.store, self.options, config, held, public_ip, keeper_tx);
        keeping.spawn(keeper_task.run(own_events));
        tokio::select! {
            outcome = reconciler.run(watcher, keeper) => return outcome,
            () = shutdown => {}
        }
        // Without the reconciler's events the keeper ends, and marks the lease before.
        drop(reconciler);
        if timeout(leave_timeout, keeping.join_next()).await.is_err() {
            info!("{}: no answer within {leave_timeout:?}", keeper::NOT_MARKED);
        }
        Ok(())
    }
}

/// Events that may wait between two tasks.
const EVENTS: usize = 64;
