//! The reconciler: brings route table and status in line with the lease store.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::keeper::{KeeperEvent, OwnEvent};
use super::peers::Peers;
use super::watcher::WatcherEvent;
use super::{Lease, NextHopChannels, RunError, SubnetStatus};
use crate::route::{HopVerdicts, RouteWriter};
use crate::subnet::store::{StoreChange, StoreRecord};
use crate::subnet::{LeaseKey, LeaseValue, NetworkConfig};

/// Updates the route table and the status from the events of watcher and keeper.
pub(super) struct Reconciler {
    peers: Peers,
    status: watch::Sender<SubnetStatus>,
    own: Lease,
    own_tx: mpsc::UnboundedSender<OwnEvent>,
    next_hop_check: Option<NextHopChannels>,
    /// Whether a list has been read before.
    was_connected: bool,
    /// When the status gets the next list of peers; one list covers a burst of changes.
    publish_at: Option<Instant>,
}

impl Reconciler {
    pub(super) fn new(
        config: &NetworkConfig,
        writer: RouteWriter,
        status: watch::Sender<SubnetStatus>,
        own: Lease,
        own_tx: mpsc::UnboundedSender<OwnEvent>,
        mut next_hop_check: Option<NextHopChannels>,
    ) -> Self {
        let mut peers = Peers::new(config, writer, own.subnet, own.public_ip);
        if let Some(channels) = &mut next_hop_check {
            peers.apply_verdicts(channels.verdicts.borrow_and_update().clone());
        }
        Self { peers, status, own, own_tx, next_hop_check, was_connected: false, publish_at: None }
    }

    /// Runs until a task ends the manager, or until both tasks have ended.
    pub(super) async fn run(
        &mut self,
        mut watcher: mpsc::Receiver<WatcherEvent>,
        mut keeper: mpsc::Receiver<KeeperEvent>,
    ) -> Result<(), RunError> {
        loop {
            tokio::select! {
                Some(event) = watcher.recv() => self.on_watcher(event),
                Some(event) = keeper.recv() => self.on_keeper(event)?,
                Some(verdicts) = next_verdicts(&mut self.next_hop_check) => self.on_verdicts(verdicts),
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
                let restarted = std::mem::replace(&mut self.was_connected, true);
                self.status.send_modify(|status| {
                    status.connected = true;
                    status.revision = snapshot.revision;
                    status.watch_restarts += u64::from(restarted);
                    status.last_contact = Some(now);
                });
                self.ask_verdicts();
                self.publish_list();
                self.tell_keeper(OwnEvent::Listed(self.own_records(snapshot.records)));
            }
            WatcherEvent::Changes(changes) => {
                self.peers.apply(&changes);
                if !changes.is_empty() {
                    self.ask_verdicts();
                }
                // A sign of life without a change does not wake the readers of the status.
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

    fn on_verdicts(&mut self, verdicts: HopVerdicts) {
        debug!(kind = "route", "the verdicts on next hops have changed");
        self.peers.apply_verdicts(verdicts);
        // Other prefixes may be suspect now.
        self.ask_verdicts();
        if self.was_connected && !self.status.borrow().synced {
            self.publish_list();
        }
        self.plan_publishing();
    }

    /// Asks for verdicts on the next hops that need one.
    fn ask_verdicts(&self) {
        if let Some(channels) = &self.next_hop_check {
            let questions = Some(self.peers.questions());
            channels.questions.send_if_modified(|asked| {
                let changed = *asked != questions;
                *asked = questions;
                changed
            });
        }
    }

    /// Publishes a full list, once every next hop in it has been checked.
    fn publish_list(&mut self) {
        self.publish_peers();
        if self.peers.awaits_verdict() || self.status.borrow().synced {
            return;
        }
        self.status.send_modify(|status| status.synced = true);
        info!(routes = self.peers.routes(), "the route table agrees with the lease store");
    }

    fn plan_publishing(&mut self) {
        if self.peers.skipped() != self.status.borrow().skipped_keys || self.peers.is_stale() {
            self.publish_at.get_or_insert_with(|| Instant::now() + PUBLISH_AFTER);
        }
    }

    fn publish_peers(&mut self) {
        self.publish_at = None;
        let withheld_is_stale = self.peers.is_stale();
        let (peers, skipped) = (self.peers.peers(), self.peers.skipped());
        self.status.send_modify(|status| {
            if withheld_is_stale {
                status.withheld = Arc::new(self.peers.withheld());
            }
            status.peers = peers;
            status.skipped_keys = skipped;
        });
    }

    fn tell_keeper(&self, event: OwnEvent) {
        // The end of the keeper is noticed by its own channel.
        let _ = self.own_tx.send(event);
    }

    fn own_records(&self, records: Vec<StoreRecord>) -> Vec<StoreRecord> {
        records.into_iter().filter(|record| self.is_ours_record(record)).collect()
    }

    fn is_ours(&self, change: &StoreChange) -> bool {
        match change {
            StoreChange::Put(record) => self.is_ours_record(record),
            StoreChange::Delete { name, .. } => self.is_of_our_subnet(name),
        }
    }

    /// Whether a name stands for this host's subnet, in whatever form.
    fn is_of_our_subnet(&self, name: &str) -> bool {
        name.parse().is_ok_and(|key: LeaseKey| key.subnet == self.own.subnet)
    }

    /// Whether an entry is this host's own, or announces this host's address.
    fn is_ours_record(&self, record: &StoreRecord) -> bool {
        self.is_of_our_subnet(&record.name)
            || LeaseValue::decode(&record.value)
                .is_ok_and(|value| value.public_ip == self.own.public_ip)
    }
}

/// Waits for other verdicts; `None` if nobody checks next hops.
async fn next_verdicts(channels: &mut Option<NextHopChannels>) -> Option<HopVerdicts> {
    let verdicts = &mut channels.as_mut()?.verdicts;
    verdicts.changed().await.ok()?;
    Some(verdicts.borrow_and_update().clone())
}

/// Time for which changes are collected before the status shows them.
const PUBLISH_AFTER: Duration = Duration::from_millis(100);
