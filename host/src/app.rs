//! What the server can do, whoever asks: [`App::execute`] changes things, the queries beside it read.
//!
//! Both transports hold an `App` and nothing below it. Commands are decided by `domain`, written and
//! logged in one transaction, and answered as the caller may see them. Plugins are asked before and
//! after a transaction, never inside of one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    auth::{Principal, password::Passwords},
    domain::{
        activity::Activity,
        command::Command,
        event::Actor,
        id::{ActivityId, LeadId},
        lead::{Lead, LeadFields},
        policy::{Deed, Visibility, may},
        role::Role,
        time::Timestamp,
        user::UserRef,
    },
    plugin::Plugins,
    store::Store,
};

mod audit;
mod batch;
mod before;
pub mod clock;
mod cursor;
pub mod effect;
pub mod erase;
mod error;
mod idempotency;
mod page;
mod query;
mod sight;
mod user;
mod write;

use before::About;
use effect::Errand;

pub use batch::Batch;
pub use clock::{Clock, SystemClock};
pub use cursor::Cursors;
pub use error::{Error, Result};
pub use idempotency::IdempotencyKey;
use idempotency::KeyedRequest;
pub use page::{DEFAULT_LIMIT, MAX_LIMIT, Page, PageRequest, Withheld};
pub use query::{SeenLead, told as told_hold};
use sight::View;

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
    cursors: Cursors,
    clock: Arc<dyn Clock>,
}

/// What a command led to, as the caller may see it.
#[derive(Clone, Debug)]
pub enum Outcome {
    Lead {
        id: LeadId,
        version: i64,
        /// Only `{"id"}` where the lead is out of the caller's sight, and `{"id", "version", "withheld": true}` where
        /// no plugin says whether it is.
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

/// What sees to it that a command is carried out once.
#[derive(Clone, Copy)]
enum Once<'a> {
    /// Nothing: who asks again means it.
    No,
    Key(&'a KeyedRequest),
    Effect(&'a Errand<'a>),
}

impl App {
    pub fn new(
        store: Arc<Store>,
        plugins: Plugins,
        visibility: Visibility,
        passwords: Passwords,
        cursors: Cursors,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self(Arc::new(Inner { store, plugins, visibility, passwords, cursors, clock }))
    }

    pub fn plugins(&self) -> &Plugins {
        &self.0.plugins
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.0.store
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Carries out a command, once for each idempotency key, and answers as the caller may see it.
    ///
    /// # Errors
    /// Nothing was changed.
    pub async fn execute(&self, caller: &Principal, command: Command, key: Option<IdempotencyKey>) -> Result<Outcome> {
        let key = key.map(|key| key.for_request(&command));
        if let Some(outcome) = self.done_before(caller, key.as_ref()).await? {
            return Ok(outcome);
        }
        let once = key.as_ref().map_or(Once::No, Once::Key);
        match self.ask_and_carry_out(caller, command, once).await {
            // A twin of this request may just have been carried out: then that is why nothing is there any more.
            Err(error @ Error::NotFound(_)) => self.done_before(caller, key.as_ref()).await?.ok_or(error),
            result => result,
        }
    }

    async fn ask_and_carry_out(&self, actor: &Principal, command: Command, once: Once<'_>) -> Result<Outcome> {
        // A plugin's word holds only for what it was shown: when that has changed meanwhile, all are asked again.
        for _ in 0..MAX_ASKED {
            let about = self.check_sight(actor, &command).await?;
            let is_guarded = self.0.plugins.guard(command.name());
            let allowed = match is_guarded {
                true => self.ask_plugins(actor, command.clone(), &about).await?,
                false => command.clone(),
            };
            let for_shadows = self.0.plugins.has_shadow(allowed.name()).then(|| allowed.clone());
            if let Some(outcome) = self.carry_out(actor, allowed, once, is_guarded.then_some(&about)).await? {
                if let Some(command) = for_shadows {
                    self.show_shadows(actor, command, about);
                }
                return Ok(outcome);
            }
        }
        Err(Error::Contended)
    }

    /// One transaction; `None` when `shown` is not how things are any more, and nothing was done.
    async fn carry_out(
        &self,
        caller: &Principal,
        command: Command,
        once: Once<'_>,
        shown: Option<&About>,
    ) -> Result<Option<Outcome>> {
        let at = self.now();
        let mut tx = self.0.store.write().await?;
        // What the caller was allowed at the head of the request may have been taken away meanwhile.
        let actor = &caller.authorize(&mut tx, at).await?;
        if let Once::Key(key) = once
            && let Some(done) = key.look_up(&mut tx, actor, at).await?
        {
            drop(tx);
            return self.answer_again(actor, done).await.map(Some);
        }
        if let Once::Effect(errand) = once {
            errand.finish(&mut tx, at).await?;
        }
        if let Some(shown) = shown
            && !shown.holds(&mut tx).await?
        {
            return Ok(None);
        }
        let cause = match once {
            Once::Effect(errand) => Some(errand.cause),
            Once::No | Once::Key(_) => None,
        };
        let (clock, visibility) = (&*self.0.clock, &self.0.visibility);
        let write = write::Write { tx: &mut tx, actor, at, clock, visibility, cause };
        let done = match write.run(command).await? {
            write::Written::Done(done) => done,
            write::Written::Outdated(lead) => {
                drop(tx);
                return Err(self.conflict(actor, &lead)?);
            }
        };
        if let Once::Key(key) = once {
            key.remember(&mut tx, actor, &done, at).await?;
        }
        tx.commit().await?;
        Ok(Some(self.answer(actor, done)))
    }

    /// The outcome of the same request, if it was carried out before.
    async fn done_before(&self, actor: &Actor, key: Option<&KeyedRequest>) -> Result<Option<Outcome>> {
        let Some(key) = key else { return Ok(None) };
        // In a statement of its own, so that the reader is given back before plugins are asked.
        let done = key.look_up(&mut self.0.store.read().await?, actor, self.now()).await?;
        match done {
            Some(done) => self.answer_again(actor, done).await.map(Some),
            None => Ok(None),
        }
    }

    /// An earlier outcome, for the caller's rights of today: what they see no more is not told again.
    async fn answer_again(&self, actor: &Actor, done: Done) -> Result<Outcome> {
        let lead = match &done {
            Done::Lead(lead) | Done::Activity { lead, .. } => lead.id,
            Done::Deleted => return Ok(Outcome::Deleted),
        };
        match self.visible_lead(actor, lead).await {
            Ok(_) => Ok(self.answer(actor, done)),
            Err(Error::NotFound(_)) => Ok(done.unseen()),
            Err(Error::PluginUnavailable(_)) => Ok(done.withheld()),
            Err(error) => Err(error),
        }
    }

    /// The client's version is not the lead's any more.
    ///
    /// # Errors
    /// When the actor cannot be shown the lead, and could not change it either.
    fn conflict(&self, actor: &Actor, lead: &Lead) -> Result<Error> {
        let current = match self.view_lead(actor, lead)? {
            View::Withheld(_) if Self::may_mend(actor) => Self::withheld_lead(lead),
            view => view.known()?.ok_or(Error::NotFound("lead"))?,
        };
        Ok(Error::Conflict { noun: "lead", current })
    }

    /// What the actor may not see answers as if it did not exist.
    async fn check_sight(&self, actor: &Actor, command: &Command) -> Result<About> {
        Ok(match command {
            Command::CreateLead { fields } => {
                // Nobody asked yet whether it is seen; but a plugin that gives no verdict refuses it in time.
                self.lead_for(actor, &self.sketch(actor, fields))?;
                About::default()
            }
            Command::UpdateLead { lead, .. }
            | Command::DeleteLead { lead, .. }
            | Command::AssignLead { lead, .. }
            | Command::CreateActivity { lead, .. } => {
                About { lead: Some(self.lead_to_change(actor, *lead).await?), activity: None }
            }
            Command::RestoreLead { lead, .. } => {
                may(actor, Deed::RestoreLead)?;
                let mut reader = self.0.store.read().await?;
                let deleted = reader.deleted_lead(*lead).await?;
                let lead = match deleted {
                    Some(lead) => lead,
                    None => reader.lead(*lead).await?.ok_or(Error::NotFound("lead"))?,
                };
                drop(reader);
                Self::check_view(actor, self.view_lead(actor, &lead)?)?.ok_or(Error::NotFound("lead"))?;
                About { lead: Some(lead), activity: None }
            }
            Command::UpdateActivity { activity, .. } | Command::DeleteActivity { activity } => {
                let (activity, lead) = self.activity_to_change(actor, *activity).await?;
                About { lead: Some(lead), activity: Some(activity) }
            }
        })
    }

    /// The lead that a command would make, as far as plugins may want to know.
    fn sketch(&self, actor: &Actor, fields: &LeadFields) -> Lead {
        let (now, me) = (self.now(), UserRef { id: actor.id, name: String::new(), email: actor.email.clone() });
        Lead {
            id: LeadId(self.0.clock.id()),
            fields: fields.clone(),
            owner: (actor.role == Role::Sales).then(|| me.clone()),
            created_by: me,
            last_activity_at: None,
            version: 1,
            rev: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// What was done, as the actor may see it. It never fails: what is done must not look as if it were not.
    fn answer(&self, actor: &Actor, done: Done) -> Outcome {
        let view = match &done {
            Done::Lead(lead) => self.view_lead(actor, lead),
            Done::Activity { activity, lead } => match self.view_lead(actor, lead) {
                Ok(View::Shown(_)) => self.view_activity(actor, activity, lead),
                view => view,
            },
            Done::Deleted => return Outcome::Deleted,
        };
        match view {
            Ok(View::Shown(seen)) => done.seen_as(seen),
            Ok(View::Hidden) | Err(_) => done.unseen(),
            Ok(View::Withheld(_)) => done.withheld(),
        }
    }
}

impl Done {
    fn seen_as(self, seen: Value) -> Outcome {
        match self {
            Self::Lead(lead) => Outcome::Lead { id: lead.id, version: lead.version, lead: seen },
            Self::Activity { activity, .. } => Outcome::Activity { id: activity.id, activity: seen },
            Self::Deleted => Outcome::Deleted,
        }
    }

    /// What is told to somebody who may not see it.
    fn unseen(self) -> Outcome {
        let seen = match &self {
            Self::Lead(lead) => json!({"id": lead.id}),
            Self::Activity { activity, .. } => json!({"id": activity.id}),
            Self::Deleted => return Outcome::Deleted,
        };
        self.seen_as(seen)
    }

    /// What is told where a plugin gives no verdict on who sees it: that it was done, and nothing of what it is like.
    fn withheld(self) -> Outcome {
        let seen = match &self {
            Self::Lead(lead) => App::withheld_lead(lead),
            Self::Activity { activity, .. } => json!({"id": activity.id, "withheld": true}),
            Self::Deleted => return Outcome::Deleted,
        };
        self.seen_as(seen)
    }
}

#[cfg(test)]
mod tests;
