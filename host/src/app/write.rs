//! Commands inside their transaction: load, check permissions, decide, save, log.

use serde_json::{Map, Value};

use crate::{
    app::{
        Clock,
        error::{Error, Result},
        outcome::Completed,
    },
    domain::{
        activity::{Activity, ActivityFields},
        actor::{Actor, ActorAccount, ActorKind, Cause},
        command::Command,
        event::{DomainEvent, NotificationKind},
        id::{ActivityId, LeadId, UserId},
        input::Invalid,
        lead::{FieldChange, Lead, LeadFields},
        policy::{Action, Forbidden, Visibility, may},
        role::Role,
        time::Timestamp,
        user::UserRef,
    },
    store::{Reader, Tx},
};

/// Context of one command that is being carried out.
pub(crate) struct Write<'a, 's> {
    pub(crate) tx: &'a mut Tx<'s>,
    pub(crate) actor: &'a Actor,
    pub(crate) at: Timestamp,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) visibility: &'a Visibility,
    /// Set when a plugin's effect caused the command; it is recorded in the events.
    pub(crate) cause: Option<&'a Cause>,
    /// The lead that the command is about, if it was loaded in this transaction already.
    pub(crate) loaded: Option<Lead>,
}

pub(crate) enum Written {
    Done(Completed),
    /// The client's version is not the current version of the lead.
    Outdated(Lead),
}

pub(crate) async fn account(reader: &mut Reader, actor: &Actor) -> Result<Option<ActorAccount>> {
    Ok(match actor.kind {
        ActorKind::Plugin => reader.plugin_actor(actor.id).await?,
        ActorKind::User(_) => reader.user(actor.id).await?.map(ActorAccount::from),
    })
}

impl Write<'_, '_> {
    pub(crate) async fn run(mut self, command: Command) -> Result<Written> {
        let done = match command {
            Command::CreateLead { fields } => self.create_lead(fields).await?,
            Command::UpdateLead { lead, patch, version } => return self.update_lead(lead, &patch, version).await,
            Command::DeleteLead { lead, version } => return self.delete_lead(lead, version).await,
            Command::RestoreLead { lead, version } => return self.restore_lead(lead, version).await,
            Command::AssignLead { lead, owner, version } => return self.assign_lead(lead, owner, version).await,
            Command::CreateActivity { lead, fields } => self.create_activity(lead, fields).await?,
            Command::UpdateActivity { activity, patch } => self.update_activity(activity, &patch).await?,
            Command::DeleteActivity { activity } => self.delete_activity(activity).await?,
        };
        Ok(Written::Done(done))
    }

    async fn create_lead(&mut self, fields: LeadFields) -> Result<Completed> {
        may(self.actor, Action::CreateLead)?;
        let creator = self.me().await?;
        let lead = Lead {
            id: LeadId(self.clock.id()),
            fields,
            owner: (self.actor.is(Role::Sales)).then(|| creator.clone()),
            created_by: creator,
            last_activity_at: None,
            version: 1,
            rev: 1,
            created_at: self.at,
            updated_at: self.at,
        };
        self.tx.insert_lead(&lead).await?;
        self.append(DomainEvent::LeadCreated { lead: lead.clone(), restored: false }).await?;
        Ok(Completed::Lead(lead))
    }

    async fn update_lead(&mut self, id: LeadId, patch: &Map<String, Value>, version: Option<i64>) -> Result<Written> {
        walk_step!("update_lead");
        let before = self.lead(id).await?;
        may(self.actor, Action::UpdateLead(&before))?;
        if is_outdated(&before, version) {
            return Ok(Written::Outdated(before));
        }
        let (fields, changes) = before.update(patch)?;
        if changes.is_empty() {
            return Ok(Written::Done(Completed::Lead(before)));
        }
        let mut lead = Lead { fields, version: before.version + 1, updated_at: self.at, ..before.clone() };
        self.tx.save_lead(&before, &mut lead).await?;
        self.tx.record(id, &changes, self.actor, self.at).await?;
        let (from, to) = (before.fields.status, lead.fields.status);
        let changes = changes.iter().map(|change| change.field).collect();
        self.append(DomainEvent::LeadUpdated { before, lead: lead.clone(), changes }).await?;
        if from != to {
            self.log_activity(&lead, ActivityFields::status_change(from, to)).await?;
        }
        Ok(Written::Done(Completed::Lead(lead)))
    }

    async fn delete_lead(&mut self, id: LeadId, version: Option<i64>) -> Result<Written> {
        let mut lead = self.lead(id).await?;
        may(self.actor, Action::DeleteLead)?;
        if is_outdated(&lead, version) {
            return Ok(Written::Outdated(lead));
        }
        self.tx.set_lead_deleted(&mut lead, Some(self.at)).await?;
        let deleted = FieldChange { field: "deleted", from: false.into(), to: true.into() };
        self.tx.record(id, &[deleted], self.actor, self.at).await?;
        self.append(DomainEvent::LeadDeleted { lead }).await?;
        Ok(Written::Done(Completed::Deleted))
    }

    async fn restore_lead(&mut self, id: LeadId, version: Option<i64>) -> Result<Written> {
        may(self.actor, Action::RestoreLead)?;
        let deleted = self.tx.deleted_lead(id).await?;
        let is_deleted = deleted.is_some();
        let lead = match deleted {
            Some(lead) => lead,
            None => self.lead(id).await?,
        };
        if is_outdated(&lead, version) {
            return Ok(Written::Outdated(lead));
        }
        if !is_deleted {
            return Ok(Written::Done(Completed::Lead(lead)));
        }
        let deleted = lead;
        let mut lead = Lead { version: deleted.version + 1, updated_at: self.at, ..deleted.clone() };
        self.tx.set_lead_deleted(&mut lead, None).await?;
        self.tx.save_lead(&deleted, &mut lead).await?;
        let restored = FieldChange { field: "deleted", from: true.into(), to: false.into() };
        self.tx.record(id, &[restored], self.actor, self.at).await?;
        self.append(DomainEvent::LeadCreated { lead: lead.clone(), restored: true }).await?;
        Ok(Written::Done(Completed::Lead(lead)))
    }

    async fn assign_lead(&mut self, id: LeadId, owner: Option<UserId>, version: Option<i64>) -> Result<Written> {
        let before = self.lead(id).await?;
        may(self.actor, Action::AssignLead(&before, owner))?;
        if is_outdated(&before, version) {
            return Ok(Written::Outdated(before));
        }
        let owner = match owner {
            Some(owner) => Some(assignable(self.tx, owner).await?),
            None => None,
        };
        let previous = before.owner.clone();
        if previous.as_ref().map(|user| user.id) == owner.as_ref().map(|user| user.id) {
            return Ok(Written::Done(Completed::Lead(before)));
        }
        let mut lead = Lead { owner, version: before.version + 1, updated_at: self.at, ..before.clone() };
        self.tx.save_lead(&before, &mut lead).await?;
        let to_json = |user: &Option<UserRef>| serde_json::to_value(user).expect("a user is plain JSON");
        let change = FieldChange { field: "owner", from: to_json(&previous), to: to_json(&lead.owner) };
        self.tx.record(id, &[change], self.actor, self.at).await?;
        self.append(DomainEvent::LeadAssigned { before, lead: lead.clone() }).await?;
        self.log_activity(&lead, ActivityFields::assignment(previous.as_ref(), lead.owner.as_ref())).await?;
        for (user, kind) in
            [(&previous, NotificationKind::LeadUnassigned), (&lead.owner, NotificationKind::LeadAssigned)]
        {
            if let Some(user) = user {
                self.append(DomainEvent::Notification { to: user.id, kind, lead: lead.clone() }).await?;
            }
        }
        Ok(Written::Done(Completed::Lead(lead)))
    }

    async fn create_activity(&mut self, lead: LeadId, fields: ActivityFields) -> Result<Completed> {
        let before = self.lead(lead).await?;
        may(self.actor, Action::CreateActivity)?;
        let mut lead = Lead { last_activity_at: Some(self.at), ..before.clone() };
        self.tx.save_lead(&before, &mut lead).await?;
        let activity = self.log_activity(&lead, fields).await?;
        Ok(Completed::Activity { activity, lead })
    }

    async fn update_activity(&mut self, id: ActivityId, patch: &Map<String, Value>) -> Result<Completed> {
        let (before, lead) = self.activity(id).await?;
        may(self.actor, Action::ChangeActivity(&before))?;
        let fields = before.fields.update(patch)?;
        if fields == before.fields {
            return Ok(Completed::Activity { activity: before, lead });
        }
        let activity = Activity { fields, updated_at: self.at, ..before };
        self.tx.save_activity(&activity).await?;
        self.append(DomainEvent::ActivityUpdated { activity: activity.clone(), lead: lead.clone() }).await?;
        Ok(Completed::Activity { activity, lead })
    }

    async fn delete_activity(&mut self, id: ActivityId) -> Result<Completed> {
        let (activity, lead) = self.activity(id).await?;
        may(self.actor, Action::ChangeActivity(&activity))?;
        self.tx.delete_activity(id).await?;
        self.append(DomainEvent::ActivityDeleted { activity, lead }).await?;
        Ok(Completed::Deleted)
    }

    /// Notifies a user about a lead, with a kind defined by a plugin.
    pub(crate) async fn notify(&mut self, to: UserId, kind: NotificationKind, lead: LeadId) -> Result<()> {
        let lead = self.lead(lead).await?;
        let Some(user) = self.tx.user(to).await?.filter(|user| user.active) else {
            return Err(Invalid::one("userId", "unknown_user", "userId must be an active user").into());
        };
        if !self.visibility.sees(&Actor::from(&user), lead.owner.as_ref().map(|owner| owner.id)) {
            return Err(Forbidden("the user may not see this lead").into());
        }
        self.append(DomainEvent::Notification { to, kind, lead }).await
    }

    /// Writes an activity by the actor, or one that records what the actor did.
    async fn log_activity(&mut self, lead: &Lead, fields: ActivityFields) -> Result<Activity> {
        let activity = Activity {
            id: ActivityId(self.clock.id()),
            lead_id: lead.id,
            fields,
            creator: self.me().await?,
            created_at: self.at,
            updated_at: self.at,
        };
        self.tx.insert_activity(&activity).await?;
        self.append(DomainEvent::ActivityCreated { activity: activity.clone(), lead: lead.clone() }).await?;
        Ok(activity)
    }

    async fn append(&mut self, happening: DomainEvent) -> Result<()> {
        self.tx.append(&happening.draft(self.actor, self.at).caused_by(self.cause)).await?;
        Ok(())
    }

    /// Returns the lead if `[visibility]` lets the actor see it. Inside the transaction, nobody else can change it any
    /// more.
    async fn lead(&mut self, id: LeadId) -> Result<Lead> {
        let lead = match self.loaded.take().filter(|lead| lead.id == id) {
            Some(lead) => lead,
            None => self.tx.lead(id).await?.ok_or(Error::NotFound("lead"))?,
        };
        let owner = lead.owner.as_ref().map(|owner| owner.id);
        if !self.visibility.sees(self.actor, owner) {
            return Err(Error::NotFound("lead"));
        }
        Ok(lead)
    }

    async fn activity(&mut self, id: ActivityId) -> Result<(Activity, Lead)> {
        let activity = self.tx.activity(id).await?.ok_or(Error::NotFound("activity"))?;
        let lead = self.lead(activity.lead_id).await.map_err(|error| match error {
            Error::NotFound(_) => Error::NotFound("activity"),
            error => error,
        })?;
        Ok((activity, lead))
    }

    async fn me(&mut self) -> Result<UserRef> {
        let account = account(self.tx, self.actor).await?;
        account.as_ref().map(UserRef::from).ok_or(Error::NotFound("user"))
    }
}

/// True if the client has seen another version of the lead than the one it would change.
fn is_outdated(lead: &Lead, version: Option<i64>) -> bool {
    version.is_some_and(|version| version != lead.version)
}

/// Returns the user if leads can be assigned to them.
pub(crate) async fn assignable(reader: &mut Reader, id: UserId) -> Result<UserRef> {
    let user = reader.user(id).await?.filter(|user| user.active && user.role != Role::Viewer);
    user.map(|user| UserRef::from(&user)).ok_or_else(|| {
        Invalid::one("ownerId", "unknown_user", "ownerId must be an active user who may own leads").into()
    })
}
