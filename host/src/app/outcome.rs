//! Outcomes of commands: [`CommandOutcome`] for the caller, [`Completed`] as an idempotency key stores it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    app::App,
    domain::{
        activity::Activity,
        id::{ActivityId, LeadId},
        lead::Lead,
    },
};

/// Outcome of a command, shaped for the caller.
#[derive(Clone, Debug)]
pub enum CommandOutcome {
    Lead {
        id: LeadId,
        version: i64,
        /// Only `{"id"}` when the caller cannot see the lead, and `{"id", "version", "withheld": true}` when no plugin
        /// gives a verdict on it.
        lead: Value,
    },
    Activity {
        id: ActivityId,
        activity: Value,
    },
    Deleted,
}

/// Outcome of a command before shaping, as an idempotency key stores it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Completed {
    Lead(Lead),
    Activity { activity: Activity, lead: Lead },
    Deleted,
}

impl Completed {
    pub(crate) fn seen_as(self, seen: Value) -> CommandOutcome {
        match self {
            Self::Lead(lead) => CommandOutcome::Lead { id: lead.id, version: lead.version, lead: seen },
            Self::Activity { activity, .. } => CommandOutcome::Activity { id: activity.id, activity: seen },
            Self::Deleted => CommandOutcome::Deleted,
        }
    }

    /// Outcome for a caller who may not see the item.
    pub(crate) fn unseen(self) -> CommandOutcome {
        let seen = match &self {
            Self::Lead(lead) => json!({"id": lead.id}),
            Self::Activity { activity, .. } => json!({"id": activity.id}),
            Self::Deleted => return CommandOutcome::Deleted,
        };
        self.seen_as(seen)
    }

    /// Outcome when a plugin gives no verdict on visibility: that it was done, and none of its content.
    pub(crate) fn withheld(self) -> CommandOutcome {
        let seen = match &self {
            Self::Lead(lead) => App::withheld_lead(lead),
            Self::Activity { activity, .. } => json!({"id": activity.id, "withheld": true}),
            Self::Deleted => return CommandOutcome::Deleted,
        };
        self.seen_as(seen)
    }
}
