//! Outcomes of commands: [`CommandOutcome`] for the caller, [`Recorded`] as an idempotency key stores it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    app::App,
    domain::{
        activity::Activity,
        counter::Seq,
        id::{ActivityId, LeadId},
        lead::Lead,
    },
};

/// Outcome of a command, shaped for the caller.
///
/// `seq` is the last event that the command wrote. If it wrote none, it is the head of the log at that time: what the
/// caller asked for was already the case there.
#[derive(Clone, Debug)]
pub enum CommandOutcome {
    Lead {
        id: LeadId,
        seq: Seq,
        version: i64,
        /// Only `{"id"}` when the caller cannot see the lead, and `{"id", "version", "withheld": true}` when no plugin
        /// gives a verdict on it.
        lead: Value,
    },
    Activity {
        id: ActivityId,
        seq: Seq,
        activity: Value,
    },
    Deleted {
        seq: Seq,
    },
}

impl CommandOutcome {
    pub fn seq(&self) -> Seq {
        match self {
            Self::Lead { seq, .. } | Self::Activity { seq, .. } | Self::Deleted { seq } => *seq,
        }
    }
}

/// Outcome of a command before shaping.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Completed {
    Lead(Lead),
    Activity { activity: Activity, lead: Lead },
    Deleted,
}

/// Outcome with its place in the log, as an idempotency key stores it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "StoredRecord")]
pub(crate) struct Recorded {
    /// See [`CommandOutcome`]; [`Seq::START`] if it is not known.
    pub(crate) seq: Seq,
    pub(crate) completed: Completed,
}

/// Stored form of [`Recorded`]. What was erased has no seq, nor has what versions before `Leadwire-Seq` stored.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredRecord {
    Recorded { seq: Seq, completed: Completed },
    WithoutSeq(Completed),
}

impl From<StoredRecord> for Recorded {
    fn from(stored: StoredRecord) -> Self {
        match stored {
            StoredRecord::Recorded { seq, completed } => Self { seq, completed },
            StoredRecord::WithoutSeq(completed) => Self { seq: Seq::START, completed },
        }
    }
}

impl Recorded {
    pub(crate) fn seen_as(self, seen: Value) -> CommandOutcome {
        let Self { seq, completed } = self;
        match completed {
            Completed::Lead(lead) => CommandOutcome::Lead { id: lead.id, seq, version: lead.version, lead: seen },
            Completed::Activity { activity, .. } => CommandOutcome::Activity { id: activity.id, seq, activity: seen },
            Completed::Deleted => CommandOutcome::Deleted { seq },
        }
    }

    /// Outcome for a caller who may not see the item.
    pub(crate) fn unseen(self) -> CommandOutcome {
        let seen = match &self.completed {
            Completed::Lead(lead) => json!({"id": lead.id}),
            Completed::Activity { activity, .. } => json!({"id": activity.id}),
            Completed::Deleted => return CommandOutcome::Deleted { seq: self.seq },
        };
        self.seen_as(seen)
    }

    /// Outcome when a plugin gives no verdict on visibility: that it was done, and none of its content.
    pub(crate) fn withheld(self) -> CommandOutcome {
        let seen = match &self.completed {
            Completed::Lead(lead) => App::withheld_lead(lead),
            Completed::Activity { activity, .. } => json!({"id": activity.id, "withheld": true}),
            Completed::Deleted => return CommandOutcome::Deleted { seq: self.seq },
        };
        self.seen_as(seen)
    }
}
