//! Two hosts with one address: who notices, who stays.
//!
//! flannel's entry names its holder by nothing but the public IP, so a second host of that address
//! looks like the first one restarted, and takes its subnet over. Our leases are signed by their
//! instance, though (see [`crate::subnet::instance`]): the holder sees a strange signature under
//! its entry and writes the entry back, and who took it over sees that the holder lives, and goes.

use tokio::time::Instant;
use tracing::{error, warn};

use super::super::RunError;
use super::super::acquire::duplicate;
use super::{ActionError, Keeper, NextAction};
use crate::route::Cidr;
use crate::subnet::instance::Fingerprint;
use crate::subnet::store::StoreRecord;
use crate::subnet::{LeaseKey, LeaseValue};

impl Keeper {
    /// Another living instance with our address wrote our entry. It waits for our answer: writing
    /// the entry back tells it that we live, and it gives up. Should it not, the higher print
    /// gives up, so that not both do.
    pub(super) async fn rewritten_by(
        &mut self,
        other: Fingerprint,
        record: StoreRecord,
    ) -> Result<(), ActionError> {
        let text = duplicate(&self.options, other, self.held.subnet);
        if self.rivals.allow() {
            error!("{text}");
        }
        let answer_window = self.options.timing.contest * 3;
        if self.answered.is_some_and(|at| at.elapsed() < answer_window)
            && self.options.instance.fingerprint() > other
        {
            return Err(ActionError::GiveUp(RunError::DuplicatePublicIp(text)));
        }
        self.answer(record).await
    }

    /// Writes our entry back, though not in a tight duel.
    pub(super) async fn answer(&mut self, record: StoreRecord) -> Result<(), ActionError> {
        let pause = self.options.timing.contest;
        match self.answered {
            Some(at) if at.elapsed() < pause / 4 => {
                self.next = Some((at + pause / 4, NextAction::Check));
                Ok(())
            }
            _ => {
                self.answered = Some(Instant::now());
                self.rewrite(record).await
            }
        }
    }

    /// Another entry announces our address. If it was written just now, by another instance, that
    /// one is alive, and of the two the higher print goes.
    pub(super) fn rival(&mut self, record: &StoreRecord, just_now: bool) {
        let me = self.options.instance.fingerprint();
        let same_ip = LeaseValue::decode(&record.value)
            .is_ok_and(|value| value.public_ip == self.held.public_ip);
        let signer = record.lease.and_then(|lease| lease.signer());
        if !same_ip || signer == Some(me) {
            return;
        }
        let subnet = record.name.parse().map_or(self.held.subnet, |key: LeaseKey| key.subnet);
        if self.rivals.allow() {
            let ip = self.held.public_ip;
            match signer {
                Some(other) => error!("{}", duplicate(&self.options, other, subnet)),
                None => {
                    warn!(entry = ?record, "another entry announces our public IP {ip}: an old \
                    lease of this host, a reservation, or a host with the same address")
                }
            }
        }
        if let Some(other) = signer.filter(|&other| just_now && other < me) {
            self.next = Some((Instant::now(), NextAction::Yield { to: other, subnet }));
        }
    }

    /// Leaves the address to the other instance, and the subnet to whoever wants it.
    pub(super) async fn yield_to(&self, other: Fingerprint, subnet: Cidr) -> ActionError {
        let StoreRecord { name, revision, .. } = &self.held.record;
        let _ = self.store.remove(name, *revision).await;
        let text = duplicate(&self.options, other, subnet);
        ActionError::GiveUp(RunError::DuplicatePublicIp(text))
    }
}
