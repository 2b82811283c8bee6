//! Reading leads, activities and history, each item shaped for the one who asks.

use serde_json::{Value, json};

use super::{App, Error, Page, PageRequest, Result};
use crate::{
    domain::{
        activity::Activity,
        event::Actor,
        id::{ActivityId, LeadId},
        lead::Lead,
    },
    store::{
        activity::ActivityPosition,
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

    pub async fn leads(&self, actor: &Actor, filter: &LeadFilter, page: &PageRequest) -> Result<Page> {
        let hidden = self.0.plugins.hidden(actor.role);
        let refuse_hidden = |used: bool, field: &str| match used && hidden.covers(&format!("/lead/{field}")) {
            true => Err(Error::field_hidden(field)),
            false => Ok(()),
        };
        refuse_hidden(true, filter.sort.key.field())?;
        refuse_hidden(!filter.statuses.is_empty(), "status")?;
        refuse_hidden(filter.source.is_some(), "source")?;
        refuse_hidden(filter.created_after.is_some(), "createdAt")?;
        refuse_hidden(filter.owner.is_some(), "owner")?;
        refuse_hidden(matches!(filter.owner, Some(OwnerFilter::User(_))), "owner/id")?;
        let searchable = SEARCHED.iter().map(|(field, _)| *field);
        let viewpoint = Viewpoint {
            user: actor.id,
            scope: self.0.visibility.scope(actor.role),
            searchable: searchable.filter(|field| !hidden.covers(&format!("/lead/{field}"))).collect(),
        };

        let viewpoint = &viewpoint;
        let fetch = |behind: Option<LeadPosition>, limit| async move {
            Ok(self.0.store.read().await?.leads(filter, viewpoint, behind.as_ref(), limit).await?)
        };
        page.fill(&self.0.cursors, filter, fetch, |lead| self.lead_for(actor, &lead)).await
    }

    pub async fn activities(&self, actor: &Actor, lead: LeadId, page: &PageRequest) -> Result<Page> {
        let (lead, _) = self.visible_lead(actor, lead).await?;
        let id = lead.id;
        let fetch = |behind: Option<ActivityPosition>, limit| async move {
            let activities = self.0.store.read().await?.activities(id, behind, limit).await?;
            Ok(activities.into_iter().map(|activity| (ActivityPosition::from(&activity), activity)).collect())
        };
        page.fill(&self.0.cursors, &("activities", lead.id), fetch, |activity| {
            self.activity_for(actor, &activity, &lead)
        })
        .await
    }

    pub async fn activity(&self, actor: &Actor, id: ActivityId) -> Result<Value> {
        Ok(self.visible_activity(actor, id).await?.2)
    }

    /// The activity with its lead, and as the actor sees it.
    pub(super) async fn visible_activity(&self, actor: &Actor, id: ActivityId) -> Result<(Activity, Lead, Value)> {
        let activity = self.0.store.read().await?.activity(id).await?.ok_or(Error::NotFound("activity"))?;
        let lead = self.0.store.read().await?.lead(activity.lead_id).await?.ok_or(Error::NotFound("activity"))?;
        self.lead_for(actor, &lead)?.ok_or(Error::NotFound("activity"))?;
        let seen = self.activity_for(actor, &activity, &lead)?.ok_or(Error::NotFound("activity"))?;
        Ok((activity, lead, seen))
    }

    /// Who changed what, newest first; what the lead hides from the actor, its history hides.
    pub async fn history(&self, actor: &Actor, lead: LeadId, page: &PageRequest) -> Result<Page> {
        self.visible_lead(actor, lead).await?;
        let fetch = |before: Option<i64>, limit| async move {
            let entries = self.0.store.read().await?.history(lead, before, limit).await?;
            Ok(entries.into_iter().map(|entry| (entry.id, entry)).collect())
        };
        page.fill(&self.0.cursors, &("history", lead), fetch, |entry| Ok(self.history_entry_for(actor, entry))).await
    }

    fn history_entry_for(&self, actor: &Actor, entry: HistoryEntry) -> Option<Value> {
        let HistoryEntry { id, field, mut from, mut to, actor: by, at } = entry;
        let hidden = self.0.plugins.hidden(actor.role);
        let pointer = format!("/lead/{field}");
        if hidden.covers(&pointer) {
            return None;
        }
        hidden.prune(&pointer, &mut from);
        hidden.prune(&pointer, &mut to);
        let entry =
            json!({"id": id.to_string(), "field": field, "from": from, "to": to, "changedBy": by, "changedAt": at});
        (entry["from"] != entry["to"]).then_some(entry)
    }

    /// The lead, whole and as the actor sees it.
    pub(super) async fn visible_lead(&self, actor: &Actor, id: LeadId) -> Result<(Lead, Value)> {
        let lead = self.0.store.read().await?.lead(id).await?.ok_or(Error::NotFound("lead"))?;
        let seen = self.lead_for(actor, &lead)?.ok_or(Error::NotFound("lead"))?;
        Ok((lead, seen))
    }
}
