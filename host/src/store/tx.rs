//! Reader and writing transaction, on which the queries of this module are methods.

use std::mem::take;

use crate::{
    domain::counter::Seq,
    store::{error::Result, head::CommitSignals, transaction::Transaction},
};

/// Snapshot of the database for one or more queries. It is ended when it stays open for too long.
pub struct Reader {
    pub(crate) tx: Box<Transaction>,
}

/// Writing transaction, which holds the write lock; dropped without [`Tx::commit`], it changes nothing.
///
/// A job of a group commit gets one that it shares with others, and cannot commit it.
pub struct Tx<'a> {
    pub(crate) reader: Reader,
    signals: &'a CommitSignals,
    pub(crate) appended: Option<Seq>,
    /// Number of appended events.
    pub(crate) events: usize,
    /// Set when the transaction leaves new work for plugins.
    pub(crate) staged: bool,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(tx: Transaction, signals: &'a CommitSignals) -> Self {
        Self { reader: Reader { tx: Box::new(tx) }, signals, appended: None, events: 0, staged: false }
    }

    /// Forgets the changes so far, of a job that ended; returns its last seq, the number of its events, and whether it
    /// left work for plugins.
    pub(crate) fn end_job(&mut self) -> (Option<Seq>, usize, bool) {
        (take(&mut self.appended), take(&mut self.events), take(&mut self.staged))
    }

    /// Last seq that this transaction appended, or this job in it.
    pub fn appended(&self) -> Option<Seq> {
        self.appended
    }

    /// Commits, also when the caller goes away meanwhile, and wakes those who wait for the log.
    pub async fn commit(self) -> Result<()> {
        let Self { reader, signals, appended, staged, .. } = self;
        let signals = signals.clone();
        reader.tx.commit(move || signals.committed(appended, staged)).await
    }
}

impl std::ops::Deref for Tx<'_> {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl std::ops::DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut Reader {
        &mut self.reader
    }
}
