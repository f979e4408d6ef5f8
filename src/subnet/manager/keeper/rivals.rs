//! Two hosts with one public IP: how they detect each other, and which of them stays.
//!
//! flannel's entry identifies its holder by the public IP alone. A second host with that address
//! therefore looks like a restart of the first one, and takes over its subnet. This program's
//! leases also carry a fingerprint of their instance (see [`crate::subnet::instance`]). The holder
//! finds a foreign fingerprint on its entry and writes the entry back; the second host finds the
//! entry written back, concludes that the holder is alive, and gives up.

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
    /// Another instance with this host's address wrote the entry. That instance waits to see
    /// whether the entry is written back, and gives up if it is. If it does not give up, the
    /// instance with the higher fingerprint does, so that one of the two remains.
    pub(super) async fn rewritten_by(
        &mut self,
        other: Fingerprint,
        record: StoreRecord,
    ) -> Result<(), ActionError> {
        let text = duplicate(&self.options, other, self.held.subnet);
        if self.rival_throttle.allow() {
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

    /// Writes the entry back, at most once in a quarter of the contest time, so that two instances
    /// do not overwrite each other without a pause.
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

    /// Another entry announces this host's address. If another instance wrote it just now, that
    /// instance is alive, and of the two the one with the higher fingerprint gives up.
    pub(super) fn rival(&mut self, record: &StoreRecord, just_now: bool) {
        let me = self.options.instance.fingerprint();
        let same_ip = LeaseValue::decode(&record.value)
            .is_ok_and(|value| value.public_ip == self.held.public_ip);
        let signer = record.lease.and_then(|lease| lease.running_signer());
        if !same_ip || signer == Some(me) {
            return;
        }
        let subnet = record.name.parse().map_or(self.held.subnet, |key: LeaseKey| key.subnet);
        if self.rival_throttle.allow() {
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

    /// Leaves the address to the other instance, and frees this host's subnet.
    pub(super) async fn yield_to(&self, other: Fingerprint, subnet: Cidr) -> ActionError {
        let StoreRecord { name, revision, .. } = &self.held.record;
        let _ = self.store.remove(name, *revision).await;
        let text = duplicate(&self.options, other, subnet);
        ActionError::GiveUp(RunError::DuplicatePublicIp(text))
    }
}
