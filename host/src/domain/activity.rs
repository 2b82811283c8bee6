//! Activity of a lead: something done, or to be done, about it.
//!
//! Clients write notes, calls, e-mails, meetings and tasks. The server writes records of status changes and
//! assignments.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    field::{Field, FieldKind},
    id::{ActivityId, LeadId},
    input::{Input, Invalid},
    lead::LeadStatus,
    time::Timestamp,
    user::UserRef,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ActivityType {
    Note,
    Call,
    Email,
    Meeting,
    Task,
    StatusChange,
    Assignment,
}

impl ActivityType {
    /// Types that clients may write; only the server writes the others.
    pub const FROM_CLIENTS: [Self; 5] = [Self::Note, Self::Call, Self::Email, Self::Meeting, Self::Task];
    pub const ALL: [Self; 7] =
        [Self::Note, Self::Call, Self::Email, Self::Meeting, Self::Task, Self::StatusChange, Self::Assignment];

    /// Names of the types that clients may write.
    pub const NAMES_FROM_CLIENTS: [&str; 5] = names!(Self::FROM_CLIENTS);

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "NOTE",
            Self::Call => "CALL",
            Self::Email => "EMAIL",
            Self::Meeting => "MEETING",
            Self::Task => "TASK",
            Self::StatusChange => "STATUS_CHANGE",
            Self::Assignment => "ASSIGNMENT",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    pub fn is_servers(self) -> bool {
        !Self::FROM_CLIENTS.contains(&self)
    }
}

/// Fields of an activity that a client may write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActivityFields {
    #[serde(rename = "type")]
    pub kind: ActivityType,
    pub body: Option<String>,
    pub due_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub meta: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    pub id: ActivityId,
    pub lead_id: LeadId,
    #[serde(flatten)]
    pub fields: ActivityFields,
    pub creator: UserRef,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

const TYPE: Field =
    Field::new("type", FieldKind::OneOf(&ActivityType::NAMES_FROM_CLIENTS), "Kind of activity.").required();
const BODY: Field = Field::text("body", 10_000, "What was said or is to be done.");
const DUE_AT: Field = Field::new("dueAt", FieldKind::Time, "Time until which a task is to be done.");
const COMPLETED_AT: Field = Field::new("completedAt", FieldKind::Time, "Time at which it was done.");
const META: Field = Field::new("meta", FieldKind::Object, "Members of your own choice.");

impl ActivityFields {
    /// Fields that a client may write, in the order in which an activity shows it.
    pub const TABLE: &[&Field] = &[&TYPE, &BODY, &DUE_AT, &COMPLETED_AT, &META];

    pub fn parse(body: Map<String, Value>) -> Result<Self, Invalid> {
        Input::parse(body, Self::TABLE, |input| {
            let kind = input.one_of(&TYPE, ActivityType::from_name);
            let body = input.text(&BODY);
            let due_at = input.time(&DUE_AT);
            let completed_at = input.time(&COMPLETED_AT);
            let meta = input.object(&META).unwrap_or_default();
            Some(Self { kind: kind?, body, due_at, completed_at, meta })
        })
    }

    /// Record of a status change of a lead.
    pub fn status_change(from: LeadStatus, to: LeadStatus) -> Self {
        let body = format!("Status changed from {} to {}", from.as_str(), to.as_str());
        Self::written_by_server(ActivityType::StatusChange, body, json!({"from": from, "to": to}))
    }

    /// Record of an assignment of a lead.
    pub fn assignment(from: Option<&UserRef>, to: Option<&UserRef>) -> Self {
        let body = match to {
            Some(to) => format!("Assigned to {}", to.name),
            None => "Unassigned".to_owned(),
        };
        let meta = json!({"fromOwnerId": from.map(|user| user.id), "toOwnerId": to.map(|user| user.id)});
        Self::written_by_server(ActivityType::Assignment, body, meta)
    }

    /// Returns the fields after a merge patch; the same fields when nothing changed.
    pub fn update(&self, patch: &Map<String, Value>) -> Result<Self, Invalid> {
        let mut merged = serde_json::to_value(self).expect("fields are plain JSON");
        json_patch::merge(&mut merged, &Value::Object(patch.clone()));
        let Value::Object(mut members) = merged else { unreachable!("merging objects makes an object") };
        // Put the nulls back, as for leads: a nulled member must still have a known name.
        for (key, _) in patch.iter().filter(|(_, value)| value.is_null()) {
            members.insert(key.clone(), Value::Null);
        }
        Self::parse(members)
    }

    fn written_by_server(kind: ActivityType, body: String, meta: Value) -> Self {
        let Value::Object(meta) = meta else { unreachable!("meta is written as an object") };
        Self { kind, body: Some(body), due_at: None, completed_at: None, meta }
    }
}
