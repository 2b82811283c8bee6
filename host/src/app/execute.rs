//! Execution of a command: visibility check, `before` plugins, one transaction, and the answer shaped for the caller.
//!
//! With an idempotency key, a repeated request gets the earlier outcome.

use std::sync::Arc;

use futures_util::FutureExt;

use crate::{
    app::{
        App,
        before::About,
        error::{Error, Result},
        idempotency::{IdempotencyKey, KeyedRequest},
        once::OnceBy,
        outcome::{CommandOutcome, Completed, Recorded},
        visibility::ItemView,
        write,
    },
    auth::Principal,
    domain::{
        actor::Actor,
        command::Command,
        counter::Seq,
        event_name::EventName,
        id::LeadId,
        lead::{Lead, LeadFields},
        policy::{Action, may},
        role::Role,
        user::UserRef,
    },
    store::handle::Tx,
};

/// Maximum number of times that plugins are asked about one command while its lead keeps changing.
const MAX_ASKED: u32 = 10;

/// Command as a job of a group commit. Plugins were asked about it before, and the answer is shaped after it.
struct CommandJob {
    app: App,
    caller: Principal,
    command: Command,
    once: OnceBy,
    /// Lead and activity that plugins were asked about.
    shown: Option<Arc<About>>,
}

/// Reason why a job did nothing.
enum NotDone {
    /// The state is no longer the one that plugins were asked about.
    ShownOutdated,
    /// The same request was carried out before, with this outcome.
    Before(Actor, Recorded),
    /// The client's version is not the current version of the lead.
    VersionOutdated(Actor, Lead),
    Failed(Error),
}

impl<E: Into<Error>> From<E> for NotDone {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl CommandJob {
    async fn run(self, tx: &mut Tx<'_>) -> std::result::Result<(Actor, Recorded), NotDone> {
        let Self { app, caller, command, once, shown } = self;
        let at = app.now();
        // Permissions that the caller had at the start of the request may have been withdrawn meanwhile.
        let actor = caller.authorize(tx, at).await?;
        if let OnceBy::Key(key) = &once
            && let Some(done) = key.look_up(tx, &actor, at).await?
        {
            return Err(NotDone::Before(actor, done));
        }
        if let OnceBy::Effect(guard) = &once {
            guard.finish(tx, at).await?;
        }
        let loaded = match shown {
            Some(shown) => shown.read_again(tx).await?.ok_or(NotDone::ShownOutdated)?.lead,
            None => None,
        };
        let cause = match &once {
            OnceBy::Effect(guard) => Some(&guard.cause),
            OnceBy::No | OnceBy::Key(_) => None,
        };
        let (clock, visibility) = (&*app.0.clock, &app.0.visibility);
        let write = write::Write { tx, actor: &actor, at, clock, visibility, cause, loaded };
        let completed = match write.run(command).await? {
            write::Written::Done(completed) => completed,
            write::Written::Outdated(lead) => return Err(NotDone::VersionOutdated(actor, lead)),
        };
        let seq = match tx.appended() {
            Some(seq) => seq,
            None => tx.head().await?,
        };
        let done = Recorded { seq, completed };
        if let OnceBy::Key(key) = &once {
            key.remember(tx, &actor, &done, at).await?;
        }
        Ok((actor, done))
    }
}

impl App {
    /// Executes a command, once per idempotency key, and answers as the caller may see it.
    ///
    /// # Errors
    /// On an error, nothing was changed.
    pub async fn execute(
        &self,
        caller: &Principal,
        command: Command,
        key: Option<IdempotencyKey>,
    ) -> Result<CommandOutcome> {
        walk_step!("execute");
        let key = key.map(|key| Arc::new(key.for_request(&command)));
        if let Some(outcome) = self.done_before(caller, key.as_deref()).await? {
            return Ok(outcome);
        }
        let once = key.clone().map_or(OnceBy::No, OnceBy::Key);
        match self.ask_and_carry_out(caller, command, once).await {
            // The same request may just have been carried out concurrently: that would explain why the item is gone.
            Err(error @ Error::NotFound(_)) => self.done_before(caller, key.as_deref()).await?.ok_or(error),
            result => result,
        }
    }

    pub(crate) async fn ask_and_carry_out(
        &self,
        actor: &Principal,
        command: Command,
        once: OnceBy,
    ) -> Result<CommandOutcome> {
        if !self.concerns_plugins(actor, &command) {
            let outcome = self.carry_out(actor, command, once, None).await?;
            return outcome.ok_or(Error::Contended);
        }
        // A plugin's verdict holds only for what it was shown: if that has changed meanwhile, all plugins are asked
        // again.
        for _ in 0..MAX_ASKED {
            let about = Arc::new(self.check_sight(actor, &command).await?);
            let is_guarded = self.0.plugins.guard(command.name());
            let allowed =
                if is_guarded { self.ask_plugins(actor, command.clone(), &about).await? } else { command.clone() };
            let for_shadows = self.0.plugins.has_shadow(allowed.name()).then(|| allowed.clone());
            let shown = is_guarded.then(|| Arc::clone(&about));
            if let Some(outcome) = self.carry_out(actor, allowed, once.clone(), shown).await? {
                if let Some(command) = for_shadows {
                    self.show_shadows(actor, command, about);
                }
                return Ok(outcome);
            }
        }
        Err(Error::Contended)
    }

    /// True if a plugin has a say about a command, or is shown it. Otherwise its job is enough: it loads the lead, and
    /// checks what `[visibility]` lets the actor see.
    fn concerns_plugins(&self, actor: &Actor, command: &Command) -> bool {
        let plugins = &self.0.plugins;
        // Also a plugin that only adds something: where it fails closed, there is no answer, and so no change.
        let may_shape =
            [EventName::LeadRead, EventName::ActivityRead].iter().any(|name| plugins.may_shape(name.as_str()));
        // The job that restores a lead does not check who sees it.
        matches!(command, Command::RestoreLead { .. })
            || plugins.guard(command.name())
            || plugins.has_shadow(command.name())
            || (may_shape && actor.kind.role().is_some())
    }

    /// Runs one job of a group commit; `None` when the state differs from `shown`, and then nothing was done.
    async fn carry_out(
        &self,
        caller: &Principal,
        command: Command,
        once: OnceBy,
        shown: Option<Arc<About>>,
    ) -> Result<Option<CommandOutcome>> {
        let job = CommandJob { app: self.clone(), caller: caller.clone(), command, once, shown };
        match self.0.store.write_in_group(|tx| job.run(tx).boxed()).await {
            Ok((actor, done)) => Ok(Some(self.answer(&actor, done))),
            Err(NotDone::ShownOutdated) => Ok(None),
            Err(NotDone::Before(actor, done)) => self.answer_again(&actor, done).await.map(Some),
            Err(NotDone::VersionOutdated(actor, lead)) => Err(self.conflict(&actor, &lead)?),
            Err(NotDone::Failed(error)) => Err(error),
        }
    }

    /// Outcome of the same request, if it was carried out before.
    async fn done_before(&self, actor: &Actor, key: Option<&KeyedRequest>) -> Result<Option<CommandOutcome>> {
        let Some(key) = key else { return Ok(None) };
        // In a statement of its own, so that the reader is returned before plugins are asked.
        let done = key.look_up(&mut self.0.store.read().await?, actor, self.now()).await?;
        match done {
            Some(done) => self.answer_again(actor, done).await.map(Some),
            None => Ok(None),
        }
    }

    /// Earlier outcome, shaped by the caller's present rights: what they cannot see any more is not repeated.
    async fn answer_again(&self, actor: &Actor, mut done: Recorded) -> Result<CommandOutcome> {
        if done.seq == Seq::START {
            done.seq = self.0.store.read().await?.head().await?;
        }
        let lead = match &done.completed {
            Completed::Lead(lead) | Completed::Activity { lead, .. } => lead.id,
            Completed::Deleted => return Ok(CommandOutcome::Deleted { seq: done.seq }),
        };
        match self.visible_lead(actor, lead).await {
            Ok(_) => Ok(self.answer(actor, done)),
            Err(Error::NotFound(_)) => Ok(done.unseen()),
            Err(Error::PluginUnavailable(_)) => Ok(done.withheld()),
            Err(error) => Err(error),
        }
    }

    /// Conflict error: the client's version is not the current version of the lead.
    ///
    /// # Errors
    /// When the actor can neither be shown the lead nor change it.
    pub(crate) fn conflict(&self, actor: &Actor, lead: &Lead) -> Result<Error> {
        let current = match self.view_lead(actor, lead)? {
            ItemView::Withheld(_) if Self::may_repair(actor) => Self::withheld_lead(lead),
            view => view.known()?.ok_or(Error::NotFound("lead"))?,
        };
        Ok(Error::Conflict { noun: "lead", current })
    }

    /// Checks that the actor can see what the command is about; otherwise it answers as if that did not exist.
    pub(crate) async fn check_sight(&self, actor: &Actor, command: &Command) -> Result<About> {
        Ok(match command {
            Command::CreateLead { fields } => {
                // The new lead's visibility is irrelevant here, but a plugin that gives no verdict refuses it before it
                // is written.
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
                may(actor, Action::RestoreLead)?;
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

    /// Lead as the command would create it, with what plugins may need to decide.
    fn sketch(&self, actor: &Actor, fields: &LeadFields) -> Lead {
        let (now, me) = (self.now(), UserRef { id: actor.id, name: String::new(), email: actor.email.clone() });
        Lead {
            id: LeadId(self.0.clock.id()),
            fields: fields.clone(),
            owner: (actor.is(Role::Sales)).then(|| me.clone()),
            created_by: me,
            last_activity_at: None,
            version: 1,
            rev: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Outcome as the actor may see it. It never fails: a completed command must not look as if it had failed.
    fn answer(&self, actor: &Actor, done: Recorded) -> CommandOutcome {
        let view = match &done.completed {
            Completed::Lead(lead) => self.view_lead(actor, lead),
            Completed::Activity { activity, lead } => match self.view_lead(actor, lead) {
                Ok(ItemView::Shown(_)) => self.view_activity(actor, activity, lead),
                view => view,
            },
            Completed::Deleted => return CommandOutcome::Deleted { seq: done.seq },
        };
        match view {
            Ok(ItemView::Shown(seen)) => done.seen_as(seen),
            Ok(ItemView::Hidden) | Err(_) => done.unseen(),
            Ok(ItemView::Withheld(_)) => done.withheld(),
        }
    }
}
