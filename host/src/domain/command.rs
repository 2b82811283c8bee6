//! Everything a user can ask for that changes something.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    activity::ActivityFields,
    id::{ActivityId, LeadId, UserId},
    lead::LeadFields,
};

/// A change to leads and activities, the same from HTTP and from sockets.
///
/// Serialised, it tells one request from another.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    CreateLead {
        fields: LeadFields,
    },
    /// `version` is the one the client has seen, where it cares.
    UpdateLead {
        lead: LeadId,
        patch: Map<String, Value>,
        version: Option<i64>,
    },
    DeleteLead {
        lead: LeadId,
    },
    RestoreLead {
        lead: LeadId,
    },
    AssignLead {
        lead: LeadId,
        owner: Option<UserId>,
    },
    CreateActivity {
        lead: LeadId,
        fields: ActivityFields,
    },
    UpdateActivity {
        activity: ActivityId,
        patch: Map<String, Value>,
    },
    DeleteActivity {
        activity: ActivityId,
    },
}
