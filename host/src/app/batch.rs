//! Many commands in one transaction, each at a time of its own: how a database is filled.

use super::{App, Done, Result, write};
use crate::{
    domain::{command::Command, event::Actor, id::LeadId, time::Timestamp},
    store::Tx,
};

/// Dropped without [`Batch::commit`], it changes nothing.
pub struct Batch<'a> {
    app: &'a App,
    tx: Tx<'a>,
}

impl App {
    pub async fn batch(&self) -> Result<Batch<'_>> {
        Ok(Batch { app: self, tx: self.0.store.write().await? })
    }
}

impl<'a> Batch<'a> {
    /// For what no command makes: accounts.
    pub fn tx(&mut self) -> &mut Tx<'a> {
        &mut self.tx
    }

    /// Carries out a command as of `at`, by the rules but without the plugins; the lead that it was about, unless
    /// it was deleted.
    pub async fn execute(&mut self, actor: &Actor, at: Timestamp, command: Command) -> Result<Option<LeadId>> {
        let inner = &*self.app.0;
        let tx = &mut self.tx;
        let (clock, visibility) = (&*inner.clock, &inner.visibility);
        let write = write::Write { tx, actor, at, clock, visibility, cause: None };
        Ok(match write.run(command).await? {
            write::Written::Done(Done::Lead(lead) | Done::Activity { lead, .. }) => Some(lead.id),
            write::Written::Outdated(lead) => Some(lead.id),
            write::Written::Done(Done::Deleted) => None,
        })
    }

    pub async fn commit(self) -> Result<()> {
        Ok(self.tx.commit().await?)
    }
}
