//! Visibility of a lead or an activity to one user: `[visibility]` first, then the plugins.
//!
//! Never called while a transaction is open.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    app::{
        App,
        error::{Error, Result},
    },
    domain::{activity::Activity, actor::Actor, event_name::EventName, lead::Lead, role::Role},
    plugin::{Shaped, Unavailable},
};

/// Lead or activity as one user sees it.
#[derive(Clone, Debug)]
pub(crate) enum ItemView {
    Shown(Value),
    /// Treated as if it did not exist.
    Hidden,
    /// Visibility unknown, because a plugin gives no verdict.
    Withheld(Unavailable),
}

impl ItemView {
    /// Returns the visible content, if any.
    ///
    /// # Errors
    /// `PluginUnavailable` when the visibility is unknown.
    pub(crate) fn known(self) -> Result<Option<Value>> {
        match self {
            Self::Shown(value) => Ok(Some(value)),
            Self::Hidden => Ok(None),
            Self::Withheld(unavailable) => Err(unavailable.into()),
        }
    }
}

impl App {
    /// Lead as the actor may see it; `None` when it is not visible.
    pub(crate) fn lead_for(&self, actor: &Actor, lead: &Lead) -> Result<Option<Value>> {
        self.view_lead(actor, lead)?.known()
    }

    /// Lead as the actor may see it.
    pub(crate) fn view_lead(&self, actor: &Actor, lead: &Lead) -> Result<ItemView> {
        let owner = lead.owner.as_ref().map(|owner| owner.id);
        if !self.0.visibility.sees(actor, owner) {
            return Ok(ItemView::Hidden);
        }
        let payload = Arc::new(json!({"lead": lead}));
        self.view(actor, EventName::LeadRead.as_str(), &payload, &payload, "lead")
    }

    /// Activity as the actor may see it. The actor must be known to see its lead.
    pub(crate) fn view_activity(&self, actor: &Actor, activity: &Activity, lead: &Lead) -> Result<ItemView> {
        let payload = Arc::new(json!({"activity": activity, "leadId": activity.lead_id}));
        self.view(actor, EventName::ActivityRead.as_str(), &payload, &json!({"lead": lead}), "activity")
    }

    /// True if the actor may change an item on which no plugin gives a verdict. Administrators must be able to repair
    /// or delete it; they could also remove the plugin. For everyone else, a failing plugin fails closed.
    pub(crate) fn may_repair(actor: &Actor) -> bool {
        actor.is(Role::Admin)
    }

    /// Content-free form of a lead that was changed or conflicts, for an actor who may change it without a verdict.
    pub(crate) fn withheld_lead(lead: &Lead) -> Value {
        json!({"id": lead.id, "version": lead.version, "withheld": true})
    }

    fn view(&self, actor: &Actor, name: &str, payload: &Arc<Value>, context: &Value, member: &str) -> Result<ItemView> {
        let whole = |payload: &Value| payload.get(member).cloned().map_or(ItemView::Hidden, ItemView::Shown);
        // Plugins shape what people see. A plugin sees the fields that its hooks were granted.
        let Some(role) = actor.kind.role() else { return Ok(whole(payload)) };
        let Some((_, shaped)) = self.0.plugins.shape(name, payload, context, &[role]).pop() else {
            return Err(Error::Internal(format!("no verdict on {name} for {role}").into()));
        };
        Ok(match shaped {
            Shaped::Sent { payload, audience } if audience.includes(actor.id) => whole(&payload),
            // A user whom the other plugins exclude would not be admitted by the failing one either.
            Shaped::Held { audience, .. } if !audience.includes(actor.id) => ItemView::Hidden,
            Shaped::Sent { .. } => ItemView::Hidden,
            Shaped::Held { plugin, reason, .. } => ItemView::Withheld(Unavailable { plugin, reason }),
        })
    }
}
