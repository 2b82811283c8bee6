//! What one user gets to see of a lead or an activity: `[visibility]`, then the plugins.
//!
//! Never called while a transaction is open.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{App, Error, Result};
use crate::{
    domain::{activity::Activity, event::Actor, lead::Lead, role::Role},
    plugin::{Shaped, Unavailable},
};

/// A lead or an activity for one user's eyes.
#[derive(Clone, Debug)]
pub(super) enum View {
    Shown(Value),
    /// It is as good as not there.
    Hidden,
    /// A plugin gives no verdict, so that nobody knows.
    Withheld(Unavailable),
}

impl View {
    /// What is shown, if it is.
    ///
    /// # Errors
    /// `PluginUnavailable` where nobody knows.
    pub(super) fn known(self) -> Result<Option<Value>> {
        match self {
            Self::Shown(value) => Ok(Some(value)),
            Self::Hidden => Ok(None),
            Self::Withheld(unavailable) => Err(unavailable.into()),
        }
    }
}

impl App {
    /// The lead as the actor may see it; `None` when it is out of sight.
    pub(super) fn lead_for(&self, actor: &Actor, lead: &Lead) -> Result<Option<Value>> {
        self.view_lead(actor, lead)?.known()
    }

    /// The lead as the actor may see it.
    pub(super) fn view_lead(&self, actor: &Actor, lead: &Lead) -> Result<View> {
        let owner = lead.owner.as_ref().map(|owner| owner.id);
        if !self.0.visibility.sees(actor.id, actor.role, owner) {
            return Ok(View::Hidden);
        }
        let payload = Arc::new(json!({"lead": lead}));
        self.view(actor, "lead:read", &payload, &payload, "lead")
    }

    /// The activity as the actor may see it, who is known to see its lead.
    pub(super) fn view_activity(&self, actor: &Actor, activity: &Activity, lead: &Lead) -> Result<View> {
        let payload = Arc::new(json!({"activity": activity, "leadId": activity.lead_id}));
        self.view(actor, "activity:read", &payload, &json!({"lead": lead}), "activity")
    }

    /// Whether the actor may change what no plugin lets be seen: administrators have to be able to mend it, or to
    /// take it away. They could take away the plugin as well. For everyone else, a failing plugin stays closed.
    pub(super) fn may_mend(actor: &Actor) -> bool {
        actor.role == Role::Admin
    }

    /// How a lead is told of that was changed, or is in the way of a change, for somebody who may do that.
    pub(super) fn withheld_lead(lead: &Lead) -> Value {
        json!({"id": lead.id, "version": lead.version, "withheld": true})
    }

    fn view(&self, actor: &Actor, name: &str, payload: &Arc<Value>, context: &Value, member: &str) -> Result<View> {
        let whole = |payload: &Value| payload.get(member).cloned().map_or(View::Hidden, View::Shown);
        if actor.role == Role::Plugin {
            // Plugins shape what people see. What a plugin gets to see are the fields that its hooks were granted.
            return Ok(whole(payload));
        }
        let Some((_, shaped)) = self.0.plugins.shape(name, payload, context, &[actor.role]).pop() else {
            return Err(Error::Internal(format!("no verdict on {name} for {}", actor.role).into()));
        };
        Ok(match shaped {
            Shaped::Sent { payload, audience } if audience.includes(actor.id) => whole(&payload),
            // Whom the other plugins leave out, the one that fails would not let in.
            Shaped::Held { audience, .. } if !audience.includes(actor.id) => View::Hidden,
            Shaped::Sent { .. } => View::Hidden,
            Shaped::Held { plugin, reason, .. } => View::Withheld(Unavailable { plugin, reason }),
        })
    }
}
