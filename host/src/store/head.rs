//! Head of the log: the newest seq that this process knows of, and who is told first.

use std::sync::OnceLock;

use tokio::sync::watch;

/// Told the newest seq before anybody else is.
type Witness = Box<dyn Fn(u64) + Send + Sync>;

pub(super) struct Head {
    seq: watch::Sender<u64>,
    witness: OnceLock<Witness>,
}

impl Head {
    pub(super) fn at(seq: u64) -> Self {
        Self { seq: watch::Sender::new(seq), witness: OnceLock::new() }
    }

    pub(super) fn seq(&self) -> u64 {
        *self.seq.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.seq.subscribe()
    }

    pub(super) fn set_witness(&self, witness: Witness) {
        let _ = self.witness.set(witness);
    }

    /// Says that the log goes up to `seq` at least.
    pub(super) fn announce(&self, seq: u64) {
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
