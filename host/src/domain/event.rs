//! What happened, as the log keeps it and as a client is told.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    activity::Activity,
    id::{LeadId, SessionId, UserId},
    lead::Lead,
    policy::Visibility,
    role::Role,
    room::Room,
    time::Timestamp,
    user::User,
};

/// Who caused an event, as clients see them: `{id, email, role}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub id: UserId,
    pub email: String,
    pub role: Role,
}

impl From<&User> for Actor {
    fn from(user: &User) -> Self {
        Self { id: user.id, email: user.email.clone(), role: user.role }
    }
}

/// Which sockets of a room get an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    #[default]
    Everyone,
    Only(BTreeSet<UserId>),
    Nobody,
}

impl Audience {
    pub fn includes(&self, user: UserId) -> bool {
        match self {
            Self::Everyone => true,
            Self::Only(users) => users.contains(&user),
            Self::Nobody => false,
        }
    }

    /// Those who are in both.
    pub fn intersect(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nobody, _) | (_, Self::Nobody) => Self::Nobody,
            (Self::Everyone, audience) | (audience, Self::Everyone) => audience,
            (Self::Only(mut left), Self::Only(right)) => {
                left.retain(|user| right.contains(user));
                if left.is_empty() { Self::Nobody } else { Self::Only(left) }
            }
        }
    }
}

/// Why a user is told about a lead that changed hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    LeadAssigned,
    LeadUnassigned,
}

/// Something that happened, before the log has given it a number.
#[derive(Clone, Debug)]
pub enum Happening {
    LeadCreated {
        lead: Lead,
        restored: bool,
    },
    LeadUpdated {
        before: Lead,
        lead: Lead,
        changes: Vec<&'static str>,
    },
    LeadDeleted {
        lead: Lead,
    },
    LeadAssigned {
        before: Lead,
        lead: Lead,
    },
    ActivityCreated {
        activity: Activity,
        lead: Lead,
    },
    ActivityUpdated {
        activity: Activity,
        lead: Lead,
    },
    ActivityDeleted {
        activity: Activity,
        lead: Lead,
    },
    Notification {
        to: UserId,
        kind: NotificationKind,
        lead: Lead,
    },
    /// A lead left a user's sight under `[visibility]`.
    LeadRevoked {
        to: UserId,
        lead: Lead,
    },
    /// The user's role, name or standing changed; told to the user's own sockets.
    SessionUpdated {
        user: User,
    },
    /// Sessions ended: one, or all of the user's. An entry of the log without a room.
    SessionsEnded {
        user: UserId,
        session: Option<SessionId>,
    },
}

/// One line of the log, without its number.
#[derive(Clone, Debug)]
pub struct Draft {
    pub name: &'static str,
    pub rooms: Vec<Room>,
    pub lead_id: Option<LeadId>,
    /// What a client would get, if nothing shaped it.
    pub payload: Value,
    /// What the server knows besides: `lead` as it is after the event, `before` where it changed.
    pub context: Value,
    pub at: Timestamp,
}

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Event {
    pub seq: u64,
    pub name: String,
    pub rooms: Vec<Room>,
    pub lead_id: Option<LeadId>,
    pub payload: Value,
    pub context: Value,
    pub at: Timestamp,
}

impl Event {
    /// Who of a role may be told, before plugins narrow it further.
    pub fn audience(&self, visibility: &Visibility, role: Role) -> Audience {
        // A note to one user is about that user, and tells of no more than a lead's id.
        let about_lead = self.rooms.iter().any(|room| !matches!(room, Room::User(_)));
        match self.context.pointer("/lead/owner") {
            Some(owner) if about_lead => {
                let owner = owner.pointer("/id").and_then(Value::as_str).and_then(|id| id.parse().ok());
                visibility.audience(role, owner)
            }
            _ => Audience::Everyone,
        }
    }
}

impl Happening {
    /// The line of the log that tells of it.
    pub fn draft(self, actor: &Actor, at: Timestamp) -> Draft {
        let everyone_and = |lead: &Lead| vec![Room::Everyone, Room::Lead(lead.id.to_string())];
        let followers = |lead: &Lead| vec![Room::Lead(lead.id.to_string())];
        match self {
            Self::LeadCreated { lead, restored } => {
                let mut payload = json!({"lead": lead, "createdBy": actor, "timestamp": at});
                if restored {
                    payload["restored"] = true.into();
                }
                let rooms = vec![Room::Everyone];
                Draft {
                    name: "lead:created",
                    rooms,
                    lead_id: Some(lead.id),
                    payload,
                    context: json!({"lead": lead}),
                    at,
                }
            }
            Self::LeadUpdated { before, lead, changes } => Draft {
                name: "lead:updated",
                rooms: everyone_and(&lead),
                lead_id: Some(lead.id),
                payload: json!({"lead": lead, "updatedBy": actor, "changes": changes, "timestamp": at}),
                context: json!({"lead": lead, "before": before}),
                at,
            },
            Self::LeadDeleted { lead } => Draft {
                name: "lead:deleted",
                rooms: everyone_and(&lead),
                lead_id: Some(lead.id),
                payload: json!({"leadId": lead.id, "deletedBy": actor, "timestamp": at}),
                context: json!({"lead": lead}),
                at,
            },
            Self::LeadAssigned { before, lead } => Draft {
                name: "lead:assigned",
                rooms: everyone_and(&lead),
                lead_id: Some(lead.id),
                payload: json!({
                    "lead": lead,
                    "previousOwnerId": before.owner.as_ref().map(|owner| owner.id),
                    "assignedBy": actor,
                    "timestamp": at,
                }),
                context: json!({"lead": lead, "before": before}),
                at,
            },
            Self::ActivityCreated { activity, lead } => Draft {
                name: "activity:created",
                rooms: followers(&lead),
                lead_id: Some(lead.id),
                payload: json!({"activity": activity, "leadId": lead.id, "createdBy": actor, "timestamp": at}),
                context: json!({"lead": lead}),
                at,
            },
            Self::ActivityUpdated { activity, lead } => Draft {
                name: "activity:updated",
                rooms: followers(&lead),
                lead_id: Some(lead.id),
                payload: json!({"activity": activity, "leadId": lead.id, "updatedBy": actor, "timestamp": at}),
                context: json!({"lead": lead}),
                at,
            },
            Self::ActivityDeleted { activity, lead } => Draft {
                name: "activity:deleted",
                rooms: followers(&lead),
                lead_id: Some(lead.id),
                payload: json!({"activityId": activity.id, "leadId": lead.id, "deletedBy": actor, "timestamp": at}),
                context: json!({"lead": lead, "activity": activity}),
                at,
            },
            Self::Notification { to, kind, lead } => Draft {
                name: "notification",
                rooms: vec![Room::User(to)],
                lead_id: Some(lead.id),
                payload: json!({"kind": kind, "leadId": lead.id, "timestamp": at}),
                context: json!({"lead": lead}),
                at,
            },
            Self::LeadRevoked { to, lead } => Draft {
                name: "lead:revoked",
                rooms: vec![Room::User(to)],
                lead_id: Some(lead.id),
                payload: json!({"leadId": lead.id, "timestamp": at}),
                context: json!({}),
                at,
            },
            Self::SessionUpdated { user } => Draft {
                name: "session:updated",
                rooms: vec![Room::User(user.id)],
                lead_id: None,
                payload: json!({"userRole": user.role, "timestamp": at}),
                context: json!({"user": user}),
                at,
            },
            Self::SessionsEnded { user, session } => Draft {
                name: "session:ended",
                rooms: Vec::new(),
                lead_id: None,
                payload: json!({}),
                context: json!({"userId": user, "sessionId": session}),
                at,
            },
        }
    }
}

/// The payload as it is sent: `seq` and `epoch` are the host's, whatever a plugin wrote there.
pub fn stamped(payload: &Value, seq: u64, epoch: &str) -> Map<String, Value> {
    let mut members = payload.as_object().cloned().unwrap_or_default();
    members.insert("seq".into(), seq.into());
    members.insert("epoch".into(), epoch.into());
    members
}
