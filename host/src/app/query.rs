//! Queries: leads, activities, history and holds, each item shaped for the caller.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    app::{
        App,
        error::{Error, Result},
        page::{Fetched, Page, PageRequest, Reading},
        visibility::ItemView,
    },
    domain::{
        activity::Activity,
        actor::Actor,
        command::Command,
        counter::Seq,
        event_name::EventName,
        id::{ActivityId, LeadId},
        lead::Lead,
        plugin_name::PluginName,
        policy::{Action, Scope, may},
        role::Role,
        time::Timestamp,
    },
    plugin::Hidden,
    store::{
        activity::ActivityPosition,
        handle::Reader,
        hold::Hold,
        lead::HistoryEntry,
        lead_filter::{LeadFilter, LeadPosition, OwnerFilter, Viewpoint},
        lead_list::ListRead,
        search::SEARCHED,
    },
};

/// Lead as one user sees it.
#[derive(Clone, Debug)]
pub struct SeenLead {
    pub lead: Value,
    pub version: i64,
}

impl App {
    pub async fn lead(&self, actor: &Actor, id: LeadId) -> Result<SeenLead> {
        let (lead, seen) = self.visible_lead(actor, id).await?;
        Ok(SeenLead { lead: seen, version: lead.version })
    }

    /// Version of a lead that a restore would bring back or that exists already.
    pub async fn restorable_version(&self, actor: &Actor, id: LeadId) -> Result<i64> {
        let about = self.check_sight(actor, &Command::RestoreLead { lead: id, version: None }).await?;
        about.lead.map(|lead| lead.version).ok_or(Error::NotFound("lead"))
    }

    pub async fn leads(&self, actor: &Actor, filter: &LeadFilter, page: &PageRequest) -> Result<Page> {
        if filter.deleted {
            may(actor, Action::RestoreLead)?;
        }
        let hidden = self.hidden(actor);
        let refuse_hidden = |used: bool, field: &str| {
            if used && hidden.covers(&format!("/lead/{field}")) { Err(Error::field_hidden(field)) } else { Ok(()) }
        };
        refuse_hidden(true, filter.sort.key.as_str())?;
        refuse_hidden(!filter.statuses.is_empty(), "status")?;
        refuse_hidden(filter.source.is_some(), "source")?;
        refuse_hidden(filter.created_after.is_some() || filter.created_before.is_some(), "createdAt")?;
        refuse_hidden(filter.owner.is_some(), "owner")?;
        refuse_hidden(matches!(filter.owner, Some(OwnerFilter::User(_))), "owner/id")?;
        let searchable = SEARCHED.iter().map(|(field, _)| *field);
        let viewpoint = Viewpoint {
            user: actor.id,
            scope: self.0.visibility.scope_of(actor),
            searchable: searchable.filter(|field| !hidden.covers(&format!("/lead/{field}"))).collect(),
        };

        // Where plugins decide who sees a lead, every lead is judged, whether or not it matches: the duration of a
        // page, and whether something in it is withheld, must not reveal which invisible leads match.
        let may_narrow = |role| self.0.plugins.may_narrow(EventName::LeadRead.as_str(), role);
        let is_narrowed = actor.kind.role().is_some_and(may_narrow);
        let reading = if is_narrowed { Reading::EVEN } else { Reading::exact(page) };
        let viewpoint = &viewpoint;
        let fetch = |behind: Option<LeadPosition>, limit| async move {
            let read = ListRead { limit, max_bytes: page.max_bytes, all: is_narrowed };
            let found = self.0.store.read().await?.leads(filter, viewpoint, behind.as_ref(), read).await?;
            let placed = found.leads.into_iter().map(|found| (found.position, (found.lead, found.matches)));
            Ok(Fetched { items: placed.collect(), rest: found.rest })
        };
        let show = |(lead, matches): (Lead, bool)| match self.view_lead(actor, &lead)? {
            ItemView::Shown(_) if !matches => Ok(ItemView::Hidden),
            view => Ok(view),
        };
        Ok(page.fill(&self.0.cursors, filter, reading, fetch, show).await?.for_reader(actor))
    }

    pub async fn activities(&self, actor: &Actor, lead: LeadId, page: &PageRequest) -> Result<Page> {
        let (lead, _) = self.visible_lead(actor, lead).await?;
        let id = lead.id;
        let fetch = |behind: Option<ActivityPosition>, limit| async move {
            let activities = self.0.store.read().await?.activities(id, behind, limit).await?;
            let placed = activities.into_iter().map(|activity| (ActivityPosition::from(&activity), activity));
            Ok(Fetched::of(placed.collect(), limit))
        };
        let show = |activity| self.view_activity(actor, &activity, &lead);
        let list = ("activities", lead.id);
        Ok(page.fill(&self.0.cursors, &list, Reading::by_page(page), fetch, show).await?.for_reader(actor))
    }

    pub async fn activity(&self, actor: &Actor, id: ActivityId) -> Result<Value> {
        let (activity, lead) = self.activity_with_lead(id).await?;
        self.view_lead(actor, &lead)?.known()?.ok_or(Error::NotFound("activity"))?;
        self.view_activity(actor, &activity, &lead)?.known()?.ok_or(Error::NotFound("activity"))
    }

    /// Activity with its lead, for a caller who wants to change it.
    pub(crate) async fn activity_to_change(&self, actor: &Actor, id: ActivityId) -> Result<(Activity, Lead)> {
        let (activity, lead) = self.activity_with_lead(id).await?;
        let noun = Error::NotFound("activity");
        Self::check_view(actor, self.view_lead(actor, &lead)?)?.ok_or(noun)?;
        Self::check_view(actor, self.view_activity(actor, &activity, &lead)?)?.ok_or(Error::NotFound("activity"))?;
        Ok((activity, lead))
    }

    async fn activity_with_lead(&self, id: ActivityId) -> Result<(Activity, Lead)> {
        let mut reader = self.0.store.read().await?;
        let activity = reader.activity(id).await?.ok_or(Error::NotFound("activity"))?;
        let lead = reader.lead(activity.lead_id).await?.ok_or(Error::NotFound("activity"))?;
        Ok((activity, lead))
    }

    /// Checks that `[visibility]` lets an administrator see what an event is about, both then and now.
    ///
    /// # Errors
    /// `NotFound` when it does not. An event that is not in the log passes the check.
    pub async fn check_event_in_scope(&self, actor: &Actor, seq: Seq) -> Result<()> {
        let visibility = &self.0.visibility;
        if visibility.scope_of(actor) == Scope::All {
            return Ok(());
        }
        let mut reader = self.0.store.read().await?;
        let Some(event) = reader.event(seq).await? else { return Ok(()) };
        let Some(lead) = event.lead_id else { return Ok(()) };
        let owner = event.context.pointer("/lead/owner/id").and_then(Value::as_str).and_then(|id| id.parse().ok());
        let sees_then = event.context.get("lead").is_none() || visibility.sees(actor, owner);
        if sees_then && self.has_in_scope(actor, &mut reader, lead).await? {
            Ok(())
        } else {
            Err(Error::NotFound("event"))
        }
    }

    /// Holds, oldest first: what is withheld from which role because a plugin gives no verdict. Limited to what
    /// `[visibility]` lets an administrator see, and to a maximum number.
    pub async fn holds(&self, actor: &Actor) -> Result<Vec<Value>> {
        const MOST: usize = 100;
        let mut reader = self.0.store.read().await?;
        let mut holds = Vec::new();
        for hold in reader.holds().await? {
            if holds.len() < MOST && self.has_in_scope(actor, &mut reader, hold.lead).await? {
                holds.push(json!(ShownHold::from(&hold)));
            }
        }
        Ok(holds)
    }

    /// True if `[visibility]` lets the actor see a lead, deleted or not; false when the lead does not exist.
    pub(crate) async fn has_in_scope(&self, actor: &Actor, reader: &mut Reader, id: LeadId) -> Result<bool> {
        let lead = match reader.lead(id).await? {
            Some(lead) => Some(lead),
            None => reader.deleted_lead(id).await?,
        };
        let owner = |lead: &Lead| lead.owner.as_ref().map(|owner| owner.id);
        Ok(lead.is_some_and(|lead| self.0.visibility.sees(actor, owner(&lead))))
    }

    /// Version of a lead that the actor may change.
    pub async fn lead_version(&self, actor: &Actor, id: LeadId) -> Result<i64> {
        Ok(self.lead_to_change(actor, id).await?.version)
    }

    /// Lead, for a caller who wants to change it.
    pub(crate) async fn lead_to_change(&self, actor: &Actor, id: LeadId) -> Result<Lead> {
        let lead = self.0.store.read().await?.lead(id).await?.ok_or(Error::NotFound("lead"))?;
        Self::check_view(actor, self.view_lead(actor, &lead)?)?.ok_or(Error::NotFound("lead"))?;
        Ok(lead)
    }

    /// Returns `Some` when the actor sees the item, or may change it although no plugin gives a verdict.
    pub(crate) fn check_view(actor: &Actor, view: ItemView) -> Result<Option<()>> {
        match view {
            ItemView::Withheld(_) if Self::may_repair(actor) => Ok(Some(())),
            view => Ok(view.known()?.map(drop)),
        }
    }

    /// History of changes, newest first. Fields of the lead that are hidden from the actor are hidden here too.
    pub async fn history(&self, actor: &Actor, lead: LeadId, page: &PageRequest) -> Result<Page> {
        self.visible_lead(actor, lead).await?;
        let fetch = |before: Option<i64>, limit| async move {
            let entries = self.0.store.read().await?.history(lead, before, limit).await?;
            Ok(Fetched::of(entries.into_iter().map(|entry| (entry.id, entry)).collect(), limit))
        };
        let show = |entry| Ok(self.view_history(actor, entry));
        Ok(page.fill(&self.0.cursors, &("history", lead), Reading::by_page(page), fetch, show).await?.into())
    }

    /// Pointers that filters may hide from an actor.
    fn hidden(&self, actor: &Actor) -> Hidden {
        actor.kind.role().map(|role| self.0.plugins.hidden(role)).unwrap_or_default()
    }

    fn view_history(&self, actor: &Actor, entry: HistoryEntry) -> ItemView {
        let HistoryEntry { id, field, mut from, mut to, actor: by, at } = entry;
        let hidden = self.hidden(actor);
        let pointer = format!("/lead/{field}");
        if hidden.covers(&pointer) {
            return ItemView::Hidden;
        }
        hidden.prune(&pointer, &mut from);
        hidden.prune(&pointer, &mut to);
        if from == to {
            return ItemView::Hidden;
        }
        let mut entry = json!(LeadChange { id: id.to_string(), field, from, to, changed_by: by, changed_at: at });
        hidden.conceal_history(&mut entry);
        ItemView::Shown(entry)
    }

    /// Lead, unshaped and as the actor sees it.
    pub(crate) async fn visible_lead(&self, actor: &Actor, id: LeadId) -> Result<(Lead, Value)> {
        let lead = self.0.store.read().await?.lead(id).await?.ok_or(Error::NotFound("lead"))?;
        let seen = self.lead_for(actor, &lead)?.ok_or(Error::NotFound("lead"))?;
        Ok((lead, seen))
    }
}

/// Hold as administrators and the command line see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShownHold<'h> {
    role: Role,
    lead_id: LeadId,
    all: bool,
    first_seq: Seq,
    plugin: &'h PluginName,
    reason: &'h str,
    since: Timestamp,
}

impl<'h> From<&'h Hold> for ShownHold<'h> {
    fn from(hold: &'h Hold) -> Self {
        let Hold { role, lead, is_all, first_seq, plugin, reason, at } = hold;
        Self { role: *role, lead_id: *lead, all: *is_all, first_seq: *first_seq, plugin, reason, since: *at }
    }
}

/// One change of a lead, as its history shows it before plugins hide the person.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LeadChange {
    id: String,
    field: String,
    from: Value,
    to: Value,
    changed_by: Value,
    changed_at: Timestamp,
}
