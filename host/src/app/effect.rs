//! Execution of plugin effects: each effect is a command with the plugin as its actor.
//!
//! The command and the mark that the effect is done are one transaction. So an effect happens exactly once, even if the
//! process ends at any point. Webhooks are not executed here, because they leave this system. Administrators list,
//! retry and drop pending and parked effects.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::FutureExt;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    app::{
        App,
        error::{Error, Result},
        once::{EffectGuard, OnceBy},
        page::{Fetched, Page, PageRequest, Reading},
        user::administrator,
        visibility::ItemView,
        write,
    },
    auth::Principal,
    domain::{
        activity::ActivityFields,
        actor::Actor,
        command::{Command, PATCH, new_owner},
        counter::Seq,
        event::NotificationKind,
        field::{Field, FieldKind},
        id::{Epoch, LeadId, UserId},
        input::{Input, Invalid},
        plugin_name::PluginName,
        policy::{Action, Scope, may},
        time::Timestamp,
    },
    plugin::EffectName,
    store::{
        audit::{AuditKind, Entry},
        effect::{EffectState, GAP, StoredEffect},
        follower::{FollowerStats, Reminder},
        handle::{Reader, Tx},
    },
};

/// Minimum delay of a reminder that answers a reminder, so that a plugin cannot keep the server busy by itself.
const MIN_WAIT: Duration = Duration::from_secs(1);
const KEY: Field =
    Field::new("key", FieldKind::Text { min: 1, max: 200 }, "Name of the reminder, unique in the plugin.").required();
const AT: Field = Field::new("at", FieldKind::Time, "Time at which the reminder is due.").required();
const KIND: Field = Field::new("kind", FieldKind::Opaque, "Kind of the notification.").required();
const MAX_DATA_BYTES: usize = 16 * 1024;
const FORGOTTEN_AT_ONCE: u32 = 1000;
/// Prefix of the occasion ids of reminders.
const OF_REMINDER: &str = "reminder:";

/// Parsed effect, as far as effects are executed here.
#[derive(Debug)]
enum Task {
    Command(Command),
    Notify { to: UserId, kind: NotificationKind, lead: LeadId },
    Remind { key: String, at: Timestamp, lead: Option<LeadId>, data: Value },
}

/// Occasion id of an event of the log.
pub fn occasion_of_event(epoch: &Epoch, seq: Seq) -> String {
    format!("{epoch}:{seq}")
}

/// Occasion id of a reminder that came due.
pub fn occasion_of_reminder(reminder: &Reminder) -> String {
    format!("{OF_REMINDER}{}", reminder.id)
}

impl App {
    /// Returns the plugin as an actor; `None` unless it follows the log.
    pub async fn plugin_actor(&self, plugin: &PluginName) -> Result<Option<Principal>> {
        let account = self.0.store.read().await?.plugin_actor_named(plugin).await?;
        Ok(account.map(|account| Principal::plugin(Actor::from(&account))))
    }

    /// Makes a plugin follow the log from here on; a plugin that followed before continues where it was.
    pub async fn follow(&self, plugin: &PluginName) -> Result<()> {
        if self.0.store.read().await?.follower(plugin).await?.is_some() {
            return Ok(());
        }
        let mut tx = self.0.store.write().await?;
        tx.begin_following(plugin, UserId(self.0.clock.id()), self.now()).await?;
        Ok(tx.commit().await?)
    }

    /// Executes the effect once: a second call no longer finds it.
    ///
    /// # Errors
    /// On an error, nothing was changed.
    pub async fn carry_out_effect(&self, caller: &Principal, effect: &StoredEffect) -> Result<()> {
        let guard = EffectGuard { id: effect.id, cause: effect.cause.clone() };
        match Task::parse(&effect.name, effect.input.clone())? {
            Task::Command(command) => {
                self.ask_and_carry_out(caller, command, OnceBy::Effect(Arc::new(guard))).await.map(drop)
            }
            Task::Notify { to, kind, lead } => {
                let (app, caller, at) = (self.clone(), caller.clone(), self.now());
                let job = async move |tx: &mut Tx<'_>| -> Result<()> {
                    let actor = &caller.authorize(tx, at).await?;
                    guard.finish(tx, at).await?;
                    let (clock, visibility, cause) = (&*app.0.clock, &app.0.visibility, Some(&guard.cause));
                    write::Write { tx, actor, at, clock, visibility, cause, loaded: None }.notify(to, kind, lead).await
                };
                self.0.store.write_in_group(|tx| async move { job(tx).await }.boxed()).await
            }
            Task::Remind { key, at, lead, data } => {
                let now = self.now();
                let due_at = if effect.occasion.starts_with(OF_REMINDER) { at.max(now.plus(MIN_WAIT)) } else { at };
                let (id, cause) = (self.0.clock.id(), effect.cause.clone());
                let reminder = Reminder { key, id, due_at, lead_id: lead, data, cause };
                let (caller, plugin) = (caller.clone(), effect.plugin.clone());
                let most = self.0.plugins.limits(&plugin).unwrap_or_default().reminders;
                let job = async move |tx: &mut Tx<'_>| -> Result<()> {
                    caller.authorize(tx, now).await?;
                    guard.finish(tx, now).await?;
                    if !tx.has_room_for_reminder(&plugin, &reminder.key, most).await? {
                        let reason = format!("reminder limit reached (limits.reminders = {most})");
                        return Err(Invalid::one("key", "too_many", &reason).into());
                    }
                    Ok(tx.set_reminder(&plugin, &reminder).await?)
                };
                self.0.store.write_in_group(|tx| async move { job(tx).await }.boxed()).await
            }
        }
    }

    /// Pending and parked effects of a plugin, oldest first; `state` selects one of the two.
    pub async fn effects(
        &self,
        actor: &Actor,
        plugin: &str,
        state: Option<EffectState>,
        page: &PageRequest,
    ) -> Result<Page> {
        let plugin = &self.known_plugin(actor, plugin).await?;
        let states = state.map_or(vec![EffectState::Pending, EffectState::Parked], |state| vec![state]);
        let states = &states;
        let fetch = |behind: Option<i64>, limit| async move {
            let mut reader = self.0.store.read().await?;
            let mut effects = Vec::new();
            for effect in reader.effects(plugin, states, behind, limit).await? {
                let is_seen = self.sees_effect(actor, &mut reader, &effect).await?;
                effects.push((effect.id, (effect, is_seen)));
            }
            Ok(Fetched::of(effects, limit))
        };
        let show = |(effect, is_seen)| {
            Ok(if is_seen { ItemView::Shown(json!(ShownEffect::from(&effect))) } else { ItemView::Hidden })
        };
        let list = ("effects", plugin, state);
        Ok(page.fill(&self.0.cursors, &list, Reading::by_page(page), fetch, show).await?.into())
    }

    /// Makes an effect due at once, as if it were new.
    pub async fn retry_effect(&self, caller: &Principal, plugin: &str, id: i64) -> Result<Value> {
        let plugin = &self.known_plugin(caller, plugin).await?;
        let at = self.now();
        let mut tx = self.0.store.write().await?;
        let actor = &administrator(&mut tx, caller, at).await?;
        let retried = tx.retry_effect(plugin, id, at).await?;
        let effect = tx.effect(plugin, id).await?.filter(|effect| effect.state != EffectState::Done);
        let effect = effect.ok_or(Error::NotFound("effect"))?;
        if !self.sees_effect(actor, &mut tx, &effect).await? {
            return Err(Error::NotFound("effect"));
        }
        if !retried {
            return Err(Invalid::one("id", "cannot_retry", "a gap cannot be retried: its events were pruned").into());
        }
        let entry = caller.entry(AuditKind::EffectRetried).about(plugin).with("effect", id);
        self.commit_with(tx, entry, at).await?;
        Ok(json!(ShownEffect::from(&effect)))
    }

    /// Makes all parked effects of a plugin due at once and returns their number.
    pub async fn retry_effects(&self, caller: &Principal, plugin: &str) -> Result<u64> {
        let plugin = &self.known_plugin(caller, plugin).await?;
        let at = self.now();
        let mut tx = self.0.store.write().await?;
        administrator(&mut tx, caller, at).await?;
        let retried = tx.retry_effects(plugin, at).await?;
        let entry = caller.entry(AuditKind::EffectRetried).about(plugin).with("effects", retried);
        self.commit_with(tx, entry, at).await?;
        Ok(retried)
    }

    /// Drops an effect.
    pub async fn drop_effect(&self, caller: &Principal, plugin: &str, id: i64) -> Result<()> {
        let plugin = &self.known_plugin(caller, plugin).await?;
        let at = self.now();
        let mut tx = self.0.store.write().await?;
        let actor = &administrator(&mut tx, caller, at).await?;
        let effect = tx.effect(plugin, id).await?.ok_or(Error::NotFound("effect"))?;
        if !self.sees_effect(actor, &mut tx, &effect).await? || !tx.drop_effect(plugin, id).await? {
            return Err(Error::NotFound("effect"));
        }
        let entry = caller.entry(AuditKind::EffectDropped).about(plugin).with("effect", id);
        self.commit_with(tx, entry, at).await
    }

    /// Commits an administrator's change, with its audit entry.
    async fn commit_with(&self, mut tx: Tx<'_>, entry: Entry, at: Timestamp) -> Result<()> {
        tx.audit(&entry, at).await?;
        tx.commit().await?;
        entry.log();
        Ok(())
    }

    /// Deletes the records of effects done before `since`, in batches between which others can write, and returns their
    /// number.
    pub async fn forget_effects(&self, since: Timestamp) -> Result<u64> {
        let mut forgotten = 0;
        loop {
            let mut tx = self.0.store.write().await?;
            let step = tx.prune_effects(since, FORGOTTEN_AT_ONCE).await?;
            tx.commit().await?;
            forgotten += step;
            if step < FORGOTTEN_AT_ONCE.into() {
                return Ok(forgotten);
            }
        }
    }

    /// Progress of each plugin in the log, and its open effects, by plugin name.
    pub async fn follower_stats(&self) -> Result<BTreeMap<PluginName, FollowerStats>> {
        let stats = self.0.store.read().await?.follower_stats().await?;
        Ok(stats.into_iter().map(|follower| (follower.plugin.clone(), follower)).collect())
    }

    /// True if `[visibility]` lets an administrator see the lead that the effect, or its occasion, is about.
    async fn sees_effect(&self, actor: &Actor, reader: &mut Reader, effect: &StoredEffect) -> Result<bool> {
        // A note about events that are gone contains nothing of a lead.
        if self.0.visibility.scope_of(actor) == Scope::All || effect.name == GAP {
            return Ok(true);
        }
        let named = effect.input.get("leadId").and_then(Value::as_str).and_then(|id| id.parse().ok());
        let line = effect.occasion.rsplit_once(':').and_then(|(_, seq)| seq.parse().ok());
        let lead = match (named, line) {
            (Some(lead), _) => Some(lead),
            (None, Some(seq)) => reader.event(seq).await?.and_then(|event| event.lead_id),
            (None, None) => None,
        };
        match lead {
            Some(lead) => self.has_in_scope(actor, reader, lead).await,
            // It is not known any more which lead it was about.
            None => Ok(false),
        }
    }

    /// Returns the name of a plugin that ever followed the log, for an administrator.
    async fn known_plugin(&self, actor: &Actor, name: &str) -> Result<PluginName> {
        may(actor, Action::Administer)?;
        let name: PluginName = name.parse().map_err(|_| Error::NotFound("plugin"))?;
        match self.0.store.read().await?.plugin_actor_named(&name).await? {
            Some(_) => Ok(name),
            None => Err(Error::NotFound("plugin")),
        }
    }
}

/// Progress of a plugin in the log, and its open effects, for administrators and the command line.
#[derive(Serialize)]
pub struct FollowerProgress {
    seq: Seq,
    lag: u64,
    pending: u64,
    parked: u64,
    reminders: u64,
    stopped: u64,
}

impl From<&FollowerStats> for FollowerProgress {
    fn from(stats: &FollowerStats) -> Self {
        let FollowerStats { seq, head, stopped, pending, parked, reminders, .. } = *stats;
        Self { seq, lag: head.since(seq), pending, parked, reminders, stopped }
    }
}

/// Effect as administrators see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownEffect<'e> {
    id: String,
    name: &'e str,
    input: &'e Map<String, Value>,
    occasion: &'e str,
    index: Option<u32>,
    chain: &'e [PluginName],
    state: EffectState,
    attempts: u32,
    reason: Option<&'e str>,
    happened_at: Timestamp,
    due_at: Timestamp,
    created_at: Timestamp,
}

impl<'e> From<&'e StoredEffect> for ShownEffect<'e> {
    fn from(effect: &'e StoredEffect) -> Self {
        Self {
            id: effect.id.to_string(),
            name: &effect.name,
            input: &effect.input,
            occasion: &effect.occasion,
            index: effect.position,
            chain: &effect.cause.plugins,
            state: effect.state,
            attempts: effect.attempts,
            reason: effect.reason.as_deref(),
            happened_at: effect.happened_at,
            due_at: effect.due_at,
            created_at: effect.created_at,
        }
    }
}

impl Task {
    fn parse(name: &str, mut input: Map<String, Value>) -> Result<Self> {
        let name: EffectName = name.parse().map_err(|why: String| Invalid::one("name", "unknown_value", why))?;
        Ok(match name {
            EffectName::CreateActivity => {
                let lead = required_id(&mut input, "leadId")?;
                Self::Command(Command::CreateActivity { lead, fields: ActivityFields::parse(input)? })
            }
            EffectName::UpdateLead => {
                let lead = required_id(&mut input, "leadId")?;
                let patch = Input::parse(input, &[&PATCH], |input| input.object(&PATCH))?;
                Self::Command(Command::UpdateLead { lead, patch, version: None })
            }
            EffectName::AssignLead => {
                let lead = required_id(&mut input, "leadId")?;
                Self::Command(Command::AssignLead { lead, owner: new_owner(input)?, version: None })
            }
            EffectName::Notify => notify(input)?,
            EffectName::Remind => remind(input)?,
            EffectName::Webhook => return Err(Error::Internal("webhooks are sent by the delivery task".into())),
        })
    }
}

fn notify(mut input: Map<String, Value>) -> Result<Task> {
    let (to, lead) = (required_id(&mut input, "userId")?, required_id(&mut input, "leadId")?);
    let kind = Input::parse(input, &[&KIND], |input| {
        let text = input.opaque(&KIND)?;
        let kind = NotificationKind::of_plugin(&text);
        if kind.is_none() {
            let message = "kind must be snake_case, at most 64 characters, and not a kind of the server's own";
            input.error("kind", "invalid_kind", message);
        }
        kind
    })?;
    Ok(Task::Notify { to, kind, lead })
}

fn remind(mut input: Map<String, Value>) -> Result<Task> {
    let lead = match input.get("leadId") {
        None | Some(Value::Null) => input.shift_remove("leadId").and(None),
        Some(_) => Some(required_id(&mut input, "leadId")?),
    };
    let data = input.shift_remove("data").unwrap_or_default();
    let task = Input::parse(input, &[&KEY, &AT], |input| {
        let (key, at) = (input.text(&KEY), input.time(&AT));
        if data.to_string().len() > MAX_DATA_BYTES {
            input.error("data", "too_long", format!("data may have at most {MAX_DATA_BYTES} bytes"));
        }
        Some(Task::Remind { key: key?, at: at?, lead, data })
    })?;
    Ok(task)
}

fn required_id<T: std::str::FromStr>(input: &mut Map<String, Value>, key: &'static str) -> Result<T> {
    let Some(value) = input.shift_remove(key) else {
        return Err(Invalid::one(key, "required", format!("{key} is required")).into());
    };
    let id = value.as_str().and_then(|text| text.parse().ok());
    id.ok_or_else(|| Invalid::one(key, "invalid_id", format!("{key} must be an id")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "018f3f3e-0000-7000-8000-000000000001";

    fn faults(name: &str, input: Value) -> Vec<String> {
        let Value::Object(input) = input else { unreachable!("written as an object") };
        match Task::parse(name, input) {
            Ok(_) => Vec::new(),
            Err(Error::Invalid(Invalid(faults))) => faults.into_iter().map(|fault| fault.field).collect(),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn effects_are_parsed_and_invalid_fields_are_named() {
        let at = "2030-01-01T00:00:00Z";
        let good = [
            ("notify", json!({"userId": ID, "kind": "late", "leadId": ID})),
            ("activity:create", json!({"leadId": ID, "type": "NOTE", "body": "x"})),
            ("lead:update", json!({"leadId": ID, "patch": {"title": "x"}})),
            ("lead:assign", json!({"leadId": ID, "ownerId": null})),
            ("remind", json!({"key": "k", "at": at})),
            ("remind", json!({"key": "k", "at": at, "leadId": ID, "data": [1]})),
        ];
        for (name, input) in good {
            assert_eq!(faults(name, input.clone()), [""; 0], "{name} {input}");
        }
        let bad = [
            ("notify", json!({"userId": "x", "kind": "late", "leadId": ID}), "userId"),
            ("notify", json!({"userId": ID, "kind": "Very late", "leadId": ID}), "kind"),
            ("notify", json!({"userId": ID, "kind": " late ", "leadId": ID}), "kind"),
            ("notify", json!({"userId": ID, "leadId": ID}), "kind"),
            ("activity:create", json!({"type": "NOTE"}), "leadId"),
            ("activity:create", json!({"leadId": ID, "type": "STATUS_CHANGE"}), "type"),
            ("lead:update", json!({"leadId": ID}), "patch"),
            ("lead:update", json!({"leadId": ID, "patch": {}, "version": 1}), "version"),
            ("lead:assign", json!({"leadId": ID}), "ownerId"),
            ("remind", json!({"key": "k", "at": "soon"}), "at"),
            ("remind", json!({"at": at}), "key"),
            ("remind", json!({"key": "k", "at": at, "leadId": 7}), "leadId"),
            ("remind", json!({"key": "k", "at": at, "data": "x".repeat(20_000)}), "data"),
            ("lead:delete", json!({"leadId": ID}), "name"),
        ];
        for (name, input, field) in bad {
            assert_eq!(faults(name, input.clone()), [field], "{name} {input}");
        }
    }
}
