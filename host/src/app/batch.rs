//! Batch of commands in one transaction, each with its own timestamp: used to fill a database.

use crate::{
    app::{App, error::Result, outcome::Completed, write},
    domain::{actor::Actor, command::Command, id::LeadId, time::Timestamp},
    store::Tx,
};

/// Open batch. Dropped without [`CommandBatch::commit`], it changes nothing.
pub struct CommandBatch<'a> {
    app: &'a App,
    tx: Tx<'a>,
}

impl App {
    pub async fn batch(&self) -> Result<CommandBatch<'_>> {
        Ok(CommandBatch { app: self, tx: self.0.store.write().await? })
    }
}

impl<'a> CommandBatch<'a> {
    /// Transaction of the batch, for items that no command creates: accounts.
    pub fn tx(&mut self) -> &mut Tx<'a> {
        &mut self.tx
    }

    /// Executes a command as of `at`, by the rules but without plugins. Returns the lead that it was about, unless the
    /// command deleted it.
    pub async fn execute(&mut self, actor: &Actor, at: Timestamp, command: Command) -> Result<Option<LeadId>> {
        let inner = &*self.app.0;
        let tx = &mut self.tx;
        let (clock, visibility) = (&*inner.clock, &inner.visibility);
        let write = write::Write { tx, actor, at, clock, visibility, cause: None, loaded: None };
        Ok(match write.run(command).await? {
            write::Written::Done(Completed::Lead(lead) | Completed::Activity { lead, .. }) => Some(lead.id),
            write::Written::Outdated(lead) => Some(lead.id),
            write::Written::Done(Completed::Deleted) => None,
        })
    }

    pub async fn commit(self) -> Result<()> {
        Ok(self.tx.commit().await?)
    }
}
