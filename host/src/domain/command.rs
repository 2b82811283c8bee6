//! Commands: everything a user can request that changes leads or activities.
//!
//! HTTP and socket requests become the same [`Command`].

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    activity::ActivityFields,
    field::{Field, FieldKind},
    id::{ActivityId, LeadId, UserId},
    input::{Input, Invalid},
    lead::LeadFields,
};

const OWNER_ID: Field = Field::new("ownerId", FieldKind::Id, "Id of the new owner, or null for none.").explicit();
/// Input of an assignment.
pub const ASSIGNMENT: &[&Field] = &[&OWNER_ID];

/// Changes of a lead, as a socket or a plugin sends them.
pub const PATCH: Field = Field::new("patch", FieldKind::Object, "JSON merge patch (RFC 7396).").required();

/// A change to leads and activities, the same from HTTP and from sockets.
///
/// Its serialised form distinguishes one request from another (idempotency keys).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    CreateLead {
        fields: LeadFields,
    },
    /// `version` is the version that the client has seen; absent when the client does not care.
    UpdateLead {
        lead: LeadId,
        patch: Map<String, Value>,
        version: Option<i64>,
    },
    DeleteLead {
        lead: LeadId,
        // Omitted when absent: stored idempotency keys hold fingerprints of commands from before this field existed.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<i64>,
    },
    RestoreLead {
        lead: LeadId,
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<i64>,
    },
    AssignLead {
        lead: LeadId,
        owner: Option<UserId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<i64>,
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

impl Command {
    /// Names of the commands, in the order of the variants.
    pub const NAMES: [&str; 8] = [
        "lead:create",
        "lead:update",
        "lead:delete",
        "lead:restore",
        "lead:assign",
        "activity:create",
        "activity:update",
        "activity:delete",
    ];

    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateLead { .. } => "lead:create",
            Self::UpdateLead { .. } => "lead:update",
            Self::DeleteLead { .. } => "lead:delete",
            Self::RestoreLead { .. } => "lead:restore",
            Self::AssignLead { .. } => "lead:assign",
            Self::CreateActivity { .. } => "activity:create",
            Self::UpdateActivity { .. } => "activity:update",
            Self::DeleteActivity { .. } => "activity:delete",
        }
    }

    /// Version of the lead that the client has seen, if the client sent one.
    pub fn version(&self) -> Option<i64> {
        match self {
            Self::UpdateLead { version, .. }
            | Self::DeleteLead { version, .. }
            | Self::RestoreLead { version, .. }
            | Self::AssignLead { version, .. } => *version,
            Self::CreateLead { .. }
            | Self::CreateActivity { .. }
            | Self::UpdateActivity { .. }
            | Self::DeleteActivity { .. } => None,
        }
    }

    /// Input of the client: all fields of a new item, the patch of a changed one, `ownerId`, or nothing.
    pub fn input(&self) -> Map<String, Value> {
        let input = match self {
            Self::CreateLead { fields } => serde_json::to_value(fields).expect("fields are plain JSON"),
            Self::CreateActivity { fields, .. } => serde_json::to_value(fields).expect("fields are plain JSON"),
            Self::UpdateLead { patch, .. } | Self::UpdateActivity { patch, .. } => Value::Object(patch.clone()),
            Self::AssignLead { owner, .. } => json!({"ownerId": owner}),
            Self::DeleteLead { .. } | Self::RestoreLead { .. } | Self::DeleteActivity { .. } => json!({}),
        };
        let Value::Object(members) = input else { unreachable!("every input is an object") };
        members
    }

    /// Returns the same command with another input, parsed as if a client had sent it.
    ///
    /// # Errors
    /// When the input is invalid. A patch is fully checked only when it is applied to the item that it changes.
    pub fn with_input(self, input: Map<String, Value>) -> Result<Self, Invalid> {
        Ok(match self {
            Self::CreateLead { .. } => Self::CreateLead { fields: LeadFields::parse(input)? },
            Self::UpdateLead { lead, version, .. } => Self::UpdateLead { lead, patch: input, version },
            Self::AssignLead { lead, version, .. } => Self::AssignLead { lead, owner: new_owner(input)?, version },
            Self::CreateActivity { lead, .. } => Self::CreateActivity { lead, fields: ActivityFields::parse(input)? },
            Self::UpdateActivity { activity, .. } => Self::UpdateActivity { activity, patch: input },
            Self::DeleteLead { .. } | Self::RestoreLead { .. } | Self::DeleteActivity { .. } => {
                Input::expect_empty(input)?;
                self
            }
        })
    }
}

/// Reads `ownerId`, which is required: to remove an owner takes an explicit null.
pub fn new_owner(input: Map<String, Value>) -> Result<Option<UserId>, Invalid> {
    Input::parse(input, ASSIGNMENT, |input| Some(input.id(&OWNER_ID, "a user")))
}
