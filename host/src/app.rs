//! What the server can do, whoever asks: [`App::execute`] changes things, the queries beside it read.
//!
//! Both transports hold an `App` and nothing below it. Commands are decided by `domain`, written and
//! logged in one transaction, and answered as the caller may see them. Plugins are asked before and
//! after a transaction, never inside of one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    auth::password::Passwords,
    domain::{
        activity::Activity,
        command::Command,
        event::Actor,
        id::{ActivityId, LeadId},
        lead::Lead,
        policy::Visibility,
        time::Timestamp,
    },
    plugin::Plugins,
    store::Store,
};

mod batch;
mod before;
pub mod clock;
mod error;
mod idempotency;
mod page;
mod query;
mod sight;
mod user;
mod write;

use before::About;
use idempotency::KeyedRequest;

pub use batch::Batch;
pub use clock::{Clock, SystemClock};
pub use error::{Error, Result};
pub use idempotency::IdempotencyKey;
pub use page::{DEFAULT_LIMIT, MAX_LIMIT, Page, PageRequest};
pub use query::SeenLead;

/// How often plugins are asked about one command whose lead keeps changing under it.
const MAX_ASKED: u32 = 10;

/// The one state of both transports.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    plugins: Plugins,
    visibility: Visibility,
    passwords: Passwords,
    clock: Arc<dyn Clock>,
}

/// What a command led to, as the caller may see it.
#[derive(Clone, Debug)]
pub enum Outcome {
    Lead {
        id: LeadId,
        version: i64,
        /// Only `{"id"}` where the lead is out of the caller's sight.
        lead: Value,
    },
    Activity {
        id: ActivityId,
        activity: Value,
    },
    Deleted,
}

/// What a command led to, not shaped for anyone: what an idempotency key remembers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Done {
    Lead(Lead),
    Activity { activity: Activity, lead: Lead },
    Deleted,
}

impl App {
    pub fn new(
        store: Arc<Store>,
        plugins: Plugins,
        visibility: Visibility,
        passwords: Passwords,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self(Arc::new(Inner { store, plugins, visibility, passwords, clock }))
    }

    pub fn plugins(&self) -> &Plugins {
        &self.0.plugins
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.0.store
    }

    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Carries out a command, once for each idempotency key, and answers as the actor may see it.
    ///
    /// # Errors
    /// Nothing was changed, unless it is [`Error::PluginUnavailable`] after the fact: a plugin that
    /// worked when the command began and failed before its answer could be shaped.
    pub async fn execute(&self, actor: &Actor, command: Command, key: Option<IdempotencyKey>) -> Result<Outcome> {
        let key = key.map(|key| key.for_request(&command));
        if let Some(key) = &key
            && let Some(done) = key.look_up(&mut self.0.store.read().await?, actor, self.now()).await?
        {
            return self.answer(actor, done);
        }
        // A plugin's word holds only for what it was shown: when that has changed meanwhile, all are asked again.
        for _ in 0..MAX_ASKED {
            let about = self.check_sight(actor, &command).await?;
            if !self.0.plugins.guard(command.name()) {
                return Ok(self
                    .carry_out(actor, command, key.as_ref(), None)
                    .await?
                    .expect("no plugin was shown anything"));
            }
            let allowed = self.ask_plugins(actor, command.clone(), &about).await?;
            if let Some(outcome) = self.carry_out(actor, allowed, key.as_ref(), Some(&about)).await? {
                return Ok(outcome);
            }
        }
        Err(Error::Contended)
    }

    /// One transaction; `None` when `shown` is not how things are any more, and nothing was done.
    async fn carry_out(
        &self,
        actor: &Actor,
        command: Command,
        key: Option<&KeyedRequest>,
        shown: Option<&About>,
    ) -> Result<Option<Outcome>> {
        let at = self.now();
        let mut tx = self.0.store.write().await?;
        if let Some(key) = key
            && let Some(done) = key.look_up(&mut tx, actor, at).await?
        {
            drop(tx);
            return self.answer(actor, done).map(Some);
        }
        if let Some(shown) = shown
            && !shown.holds(&mut tx).await?
        {
            return Ok(None);
        }
        let write = write::Write { tx: &mut tx, actor, at, clock: &*self.0.clock, visibility: &self.0.visibility };
        let done = match write.run(command).await? {
            write::Written::Done(done) => done,
            write::Written::Outdated(lead) => {
                drop(tx);
                let current = self.lead_for(actor, &lead)?.ok_or(Error::NotFound("lead"))?;
                return Err(Error::Conflict { noun: "lead", current });
            }
        };
        if let Some(key) = key {
            key.remember(&mut tx, actor, &done, at).await?;
        }
        tx.commit().await?;
        self.answer(actor, done).map(Some)
    }

    /// What the actor may not see answers as if it did not exist.
    async fn check_sight(&self, actor: &Actor, command: &Command) -> Result<About> {
        Ok(match command {
            Command::CreateLead { .. } => About::default(),
            Command::UpdateLead { lead, .. }
            | Command::DeleteLead { lead }
            | Command::AssignLead { lead, .. }
            | Command::CreateActivity { lead, .. } => {
                About { lead: Some(self.visible_lead(actor, *lead).await?.0), activity: None }
            }
            Command::RestoreLead { lead } => {
                let mut reader = self.0.store.read().await?;
                let deleted = reader.deleted_lead(*lead).await?;
                let lead = match deleted {
                    Some(lead) => lead,
                    None => reader.lead(*lead).await?.ok_or(Error::NotFound("lead"))?,
                };
                drop(reader);
                self.lead_for(actor, &lead)?.ok_or(Error::NotFound("lead"))?;
                About { lead: Some(lead), activity: None }
            }
            Command::UpdateActivity { activity, .. } | Command::DeleteActivity { activity } => {
                let (activity, lead, _) = self.visible_activity(actor, *activity).await?;
                About { lead: Some(lead), activity: Some(activity) }
            }
        })
    }

    fn answer(&self, actor: &Actor, done: Done) -> Result<Outcome> {
        Ok(match done {
            Done::Lead(lead) => {
                let seen = self.lead_for(actor, &lead)?.unwrap_or_else(|| json!({"id": lead.id}));
                Outcome::Lead { id: lead.id, version: lead.version, lead: seen }
            }
            Done::Activity { activity, lead } => {
                let seen = match self.lead_for(actor, &lead)? {
                    Some(_) => self.activity_for(actor, &activity, &lead)?,
                    None => None,
                };
                let seen = seen.unwrap_or_else(|| json!({"id": activity.id}));
                Outcome::Activity { id: activity.id, activity: seen }
            }
            Done::Deleted => Outcome::Deleted,
        })
    }
}

#[cfg(test)]
mod tests;
