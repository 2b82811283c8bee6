//! Reading leads, activities and history, each item shaped for the one who asks.

use serde_json::{Value, json};

use super::{
    App, Error, Page, PageRequest, Result,
    page::{Fetched, Reading},
    sight::View,
};
use crate::{
    domain::{
        activity::Activity,
        command::Command,
        event::Actor,
        id::{ActivityId, LeadId},
        lead::Lead,
        policy::{Deed, Scope, may},
    },
    store::{
        Reader,
        activity::ActivityPosition,
        hold::Hold,
        lead::{HistoryEntry, LeadFilter, LeadPosition, OwnerFilter, SEARCHED, Viewpoint},
    },
};

/// A lead for one user's eyes.
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

    /// The version of a lead that a restore would bring back, or finds there already.
    pub async fn restorable_version(&self, actor: &Actor, id: LeadId) -> Result<i64> {
        let about = self.check_sight(actor, &Command::RestoreLead { lead: id, version: None }).await?;
        about.lead.map(|lead| lead.version).ok_or(Error::NotFound("lead"))
    }

    pub async fn leads(&self, actor: &Actor, filter: &LeadFilter, page: &PageRequest) -> Result<Page> {
        if filter.deleted {
            may(actor, Deed::RestoreLead)?;
        }
        let hidden = self.0.plugins.hidden(actor.role);
        let refuse_hidden = |used: bool, field: &str| match used && hidden.covers(&format!("/lead/{field}")) {
            true => Err(Error::field_hidden(field)),
            false => Ok(()),
        };
        refuse_hidden(true, filter.sort.key.field())?;
        refuse_hidden(!filter.statuses.is_empty(), "status")?;
        refuse_hidden(filter.source.is_some(), "source")?;
        refuse_hidden(filter.created_after.is_some() || filter.created_before.is_some(), "createdAt")?;
        refuse_hidden(filter.owner.is_some(), "owner")?;
        refuse_hidden(matches!(filter.owner, Some(OwnerFilter::User(_))), "owner/id")?;
        let searchable = SEARCHED.iter().map(|(field, _)| *field);
        let viewpoint = Viewpoint {
            user: actor.id,
            scope: self.0.visibility.scope(actor.role),
            searchable: searchable.filter(|field| !hidden.covers(&format!("/lead/{field}"))).collect(),
        };

        // Where plugins decide who sees a lead, every lead is judged, whether or not it is what is looked for: how
        // long a page takes, and whether something in it is withheld, must not tell what leads out of sight match.
        let is_narrowed = self.0.plugins.may_narrow("lead:read", actor.role);
        let reading = if is_narrowed { Reading::EVEN } else { Reading::by_page(page) };
        let viewpoint = &viewpoint;
        let fetch = |behind: Option<LeadPosition>, limit| async move {
            let mut reader = self.0.store.read().await?;
            let (found, is_last) =
                reader.leads(filter, viewpoint, behind.as_ref(), limit, page.max_bytes, is_narrowed).await?;
            let placed = found.into_iter().map(|found| (found.position, (found.lead, found.matches)));
            Ok(Fetched { items: placed.collect(), is_last })
        };
        let show = |(lead, matches): (Lead, bool)| match self.view_lead(actor, &lead)? {
            View::Shown(_) if !matches => Ok(View::Hidden),
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

    /// The activity with its lead, for somebody who wants to change it.
    pub(super) async fn activity_to_change(&self, actor: &Actor, id: ActivityId) -> Result<(Activity, Lead)> {
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

    /// Checks that `[visibility]` lets an administrator see what an event is about: then, and now.
    ///
    /// # Errors
    /// `NotFound` where it does not. What is not in the log is not looked for.
    pub async fn check_event_in_scope(&self, actor: &Actor, seq: u64) -> Result<()> {
        let visibility = &self.0.visibility;
        if visibility.scope(actor.role) == Scope::All {
            return Ok(());
        }
        let mut reader = self.0.store.read().await?;
        let Some(event) = reader.event(seq).await? else { return Ok(()) };
        let Some(lead) = event.lead_id else { return Ok(()) };
        let owner = event.context.pointer("/lead/owner/id").and_then(Value::as_str).and_then(|id| id.parse().ok());
        let sees_then = event.context.get("lead").is_none() || visibility.sees(actor.id, actor.role, owner);
        match sees_then && self.has_in_scope(actor, &mut reader, lead).await? {
            true => Ok(()),
            false => Err(Error::NotFound("event")),
        }
    }

    /// What is withheld from whom because a plugin gives no verdict, oldest first, of what `[visibility]` lets an
    /// administrator see: at most so many.
    pub async fn holds(&self, actor: &Actor) -> Result<Vec<Value>> {
        const MOST: usize = 100;
        let mut reader = self.0.store.read().await?;
        let mut holds = Vec::new();
        for hold in reader.holds().await? {
            if holds.len() < MOST && self.has_in_scope(actor, &mut reader, hold.lead).await? {
                holds.push(told(&hold));
            }
        }
        Ok(holds)
    }

    /// Whether `[visibility]` lets the actor see a lead, deleted or not; what is not there, nobody sees.
    pub(super) async fn has_in_scope(&self, actor: &Actor, reader: &mut Reader, id: LeadId) -> Result<bool> {
        let lead = match reader.lead(id).await? {
            Some(lead) => Some(lead),
            None => reader.deleted_lead(id).await?,
        };
        let owner = |lead: &Lead| lead.owner.as_ref().map(|owner| owner.id);
        Ok(lead.is_some_and(|lead| self.0.visibility.sees(actor.id, actor.role, owner(&lead))))
    }

    /// The version of a lead that the actor may change.
    pub async fn lead_version(&self, actor: &Actor, id: LeadId) -> Result<i64> {
        Ok(self.lead_to_change(actor, id).await?.version)
    }

    /// The lead, for somebody who wants to change it.
    pub(super) async fn lead_to_change(&self, actor: &Actor, id: LeadId) -> Result<Lead> {
        let lead = self.0.store.read().await?.lead(id).await?.ok_or(Error::NotFound("lead"))?;
        Self::check_view(actor, self.view_lead(actor, &lead)?)?.ok_or(Error::NotFound("lead"))?;
        Ok(lead)
    }

    /// Something where the actor sees it, or may change it although nobody knows.
    pub(super) fn check_view(actor: &Actor, view: View) -> Result<Option<()>> {
        match view {
            View::Withheld(_) if Self::may_mend(actor) => Ok(Some(())),
            view => Ok(view.known()?.map(drop)),
        }
    }

    /// Who changed what, newest first; what the lead hides from the actor, its history hides.
    pub async fn history(&self, actor: &Actor, lead: LeadId, page: &PageRequest) -> Result<Page> {
        self.visible_lead(actor, lead).await?;
        let fetch = |before: Option<i64>, limit| async move {
            let entries = self.0.store.read().await?.history(lead, before, limit).await?;
            Ok(Fetched::of(entries.into_iter().map(|entry| (entry.id, entry)).collect(), limit))
        };
        let show = |entry| Ok(self.view_history(actor, entry));
        Ok(page.fill(&self.0.cursors, &("history", lead), Reading::by_page(page), fetch, show).await?.into())
    }

    fn view_history(&self, actor: &Actor, entry: HistoryEntry) -> View {
        let HistoryEntry { id, field, mut from, mut to, actor: by, at } = entry;
        let hidden = self.0.plugins.hidden(actor.role);
        let pointer = format!("/lead/{field}");
        if hidden.covers(&pointer) {
            return View::Hidden;
        }
        hidden.prune(&pointer, &mut from);
        hidden.prune(&pointer, &mut to);
        if from == to {
            return View::Hidden;
        }
        let mut entry =
            json!({"id": id.to_string(), "field": field, "from": from, "to": to, "changedBy": by, "changedAt": at});
        hidden.conceal_history(&mut entry);
        View::Shown(entry)
    }

    /// The lead, whole and as the actor sees it.
    pub(super) async fn visible_lead(&self, actor: &Actor, id: LeadId) -> Result<(Lead, Value)> {
        let lead = self.0.store.read().await?.lead(id).await?.ok_or(Error::NotFound("lead"))?;
        let seen = self.lead_for(actor, &lead)?.ok_or(Error::NotFound("lead"))?;
        Ok((lead, seen))
    }
}

/// As administrators see a hold, and the command line.
pub fn told(hold: &Hold) -> Value {
    let Hold { role, lead, is_all, first_seq, plugin, reason, at } = hold;
    json!({
        "role": role,
        "leadId": lead,
        "all": is_all,
        "firstSeq": first_seq,
        "plugin": plugin,
        "reason": reason,
        "since": at,
    })
}
