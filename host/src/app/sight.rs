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

impl App {
    /// The lead as the actor may see it; `None` when it is out of sight.
    pub(super) fn lead_for(&self, actor: &Actor, lead: &Lead) -> Result<Option<Value>> {
        let owner = lead.owner.as_ref().map(|owner| owner.id);
        if !self.0.visibility.sees(actor.id, actor.role, owner) {
            return Ok(None);
        }
        let payload = Arc::new(json!({"lead": lead}));
        self.shaped(actor, "lead:read", &payload, &payload, "lead")
    }

    /// The activity as the actor may see it, who is known to see its lead.
    pub(super) fn activity_for(&self, actor: &Actor, activity: &Activity, lead: &Lead) -> Result<Option<Value>> {
        let payload = Arc::new(json!({"activity": activity, "leadId": activity.lead_id}));
        self.shaped(actor, "activity:read", &payload, &json!({"lead": lead}), "activity")
    }

    fn shaped(
        &self,
        actor: &Actor,
        name: &str,
        payload: &Arc<Value>,
        context: &Value,
        member: &str,
    ) -> Result<Option<Value>> {
        if actor.role == Role::Plugin {
            // Plugins shape what people see. What a plugin gets to see are the fields that its hooks were granted.
            return Ok(payload.get(member).cloned());
        }
        let Some((_, shaped)) = self.0.plugins.shape(name, payload, context, &[actor.role]).pop() else {
            return Err(Error::Internal(format!("no verdict on {name} for {}", actor.role).into()));
        };
        match shaped {
            Shaped::Sent { payload, audience } if audience.includes(actor.id) => Ok(payload.get(member).cloned()),
            Shaped::Sent { .. } => Ok(None),
            Shaped::Held { plugin, reason } => Err(Unavailable { plugin, reason }.into()),
        }
    }
}
