//! A lease store that answers and refuses: the present state, for whoever reports it.

use tokio::sync::watch;

use crate::subnet::store::{StoreError, UnavailableKind};

/// Why the lease store refuses what this host needs, if it does. Clones share the state.
#[derive(Clone, Debug)]
pub struct Refusal(watch::Sender<Option<UnavailableKind>>);

impl Default for Refusal {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Refusal {
    /// A receiver of every change.
    pub fn subscribe(&self) -> watch::Receiver<Option<UnavailableKind>> {
        self.0.subscribe()
    }

    /// Records an error. One that is no refusal says nothing about the last one.
    pub(super) fn set(&self, error: &StoreError) {
        if let Some(kind) = error.kind().filter(|kind| kind.is_refusal()) {
            self.replace(Some(kind));
        }
    }

    /// Records that the store did what was asked.
    pub(super) fn clear(&self) {
        self.replace(None);
    }

    fn replace(&self, now: Option<UnavailableKind>) {
        self.0.send_if_modified(|before| std::mem::replace(before, now) != now);
    }
}
