//! Head of the log: the newest seq that this process knows of, and its subscribers; and those whom a commit wakes.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use crate::domain::counter::Seq;

/// Callback that gets the newest seq before any subscriber.
type Witness = Box<dyn Fn(Seq) + Send + Sync>;

pub(crate) struct LogHead {
    seq: watch::Sender<Seq>,
    witness: OnceLock<Witness>,
}

/// Subscribers of commits.
#[derive(Clone)]
pub(crate) struct CommitSignals {
    pub(crate) head: Arc<LogHead>,
    /// Signalled when a commit left work for plugins.
    pub(crate) staged: Arc<watch::Sender<()>>,
}

impl LogHead {
    pub(crate) fn at(seq: Seq) -> Self {
        Self { seq: watch::Sender::new(seq), witness: OnceLock::new() }
    }

    pub(crate) fn seq(&self) -> Seq {
        *self.seq.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Seq> {
        self.seq.subscribe()
    }

    pub(crate) fn set_witness(&self, witness: Witness) {
        let _ = self.witness.set(witness);
    }

    /// Raises the head to at least `seq`.
    pub(crate) fn announce(&self, seq: Seq) {
        self.seq.send_if_modified(|head| {
            let newer = seq > *head;
            if newer && let Some(witness) = self.witness.get() {
                witness(seq);
            }
            *head = seq.max(*head);
            newer
        });
    }
}

impl CommitSignals {
    pub(crate) fn at(head: Seq) -> Self {
        Self { head: Arc::new(LogHead::at(head)), staged: Arc::default() }
    }

    /// Announces a transaction that was committed.
    pub(crate) fn committed(&self, appended: Option<Seq>, staged: bool) {
        if let Some(seq) = appended {
            self.head.announce(seq);
        }
        if staged {
            self.staged.send_replace(());
        }
    }
}
