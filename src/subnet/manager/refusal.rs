//! A lease store that answers and refuses: the present state, for whoever reports it.

use tokio::sync::watch;

use crate::subnet::store::{StoreError, UnavailableKind};

/// Why the lease store refuses what this host needs, if it does, and its last failure of any kind. Clones share the
/// state.
#[derive(Clone, Debug, Default)]
pub struct Refusal {
    kind: watch::Sender<Option<UnavailableKind>>,
    failure: watch::Sender<Option<String>>,
}

impl Refusal {
    /// A receiver of every change.
    pub fn subscribe(&self) -> watch::Receiver<Option<UnavailableKind>> {
        self.kind.subscribe()
    }

    /// Why the store did not do what was asked last, with a line for each endpoint; `None` if it did.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Records an error. One that is no refusal says nothing about the last refusal.
    pub(super) fn set(&self, error: &StoreError) {
        self.failure.send_replace(Some(error.to_string()));
        if let Some(kind) = error.kind().filter(|kind| kind.is_refusal()) {
            self.replace(Some(kind));
        }
    }

    /// Records that the store did what was asked.
    pub(super) fn clear(&self) {
        self.failure.send_replace(None);
        self.replace(None);
    }

    fn replace(&self, now: Option<UnavailableKind>) {
        self.kind.send_if_modified(|before| std::mem::replace(before, now) != now);
    }
}
