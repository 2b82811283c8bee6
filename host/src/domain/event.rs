//! What happened, as the log keeps it and as a client is told.

use std::{collections::BTreeSet, sync::Arc};

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

/// How it came that a plugin's effect made an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The plugins that answered one another; the last one's effect it was.
    pub plugins: Vec<String>,
    /// What the last one answered.
    pub occasion: String,
}

impl Cause {
    /// What an effect of `plugin` on that occasion bears. A plugin that goes on after a reminder of its own answers nobody new.
    pub fn followed_by(&self, plugin: &str, occasion: &str) -> Self {
        let mut plugins = self.plugins.clone();
        if plugins.last().is_none_or(|last| last != plugin) {
            plugins.push(plugin.into());
        }
        Self { plugins, occasion: occasion.into() }
    }
}

/// Which sockets of a room get an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    LeadAssigned,
    LeadUnassigned,
    /// A word of the plugin that notifies.
    #[serde(untagged)]
    Other(String),
}

impl NotificationKind {
    const MAX_CHARS: usize = 64;

    /// A kind of a plugin's own: the server's two tell of what the server saw.
    pub fn of_plugin(text: &str) -> Option<Self> {
        let mut letters = text.chars();
        let is_word = letters.next().is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
        let is_free = is_word && text.len() <= Self::MAX_CHARS && !["lead_assigned", "lead_unassigned"].contains(&text);
        is_free.then(|| Self::Other(text.into()))
    }
}

const DELIVERY_SWITCHED: &str = "delivery:switched";

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
    /// A lead was erased with everything that the log said of it. Clients drop it as if it were deleted.
    LeadErased {
        lead: LeadId,
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
    /// The user's role, name or standing changed; told to the user's own sockets.
    SessionUpdated {
        user: User,
        /// Whether another set of leads may be visible: the role or `active` changed.
        resets: bool,
    },
    /// Sessions ended: one, or all of the user's. An entry of the log without a room.
    SessionsEnded {
        user: UserId,
        session: Option<SessionId>,
    },
}

/// Whose lists events alone do not keep right past a line of the log: they are sent `sync:reset`.
///
/// Any line can be such a *reset line*: its context says so. Most have no room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resets {
    Roles(Vec<Role>),
    User(UserId),
}

impl Resets {
    const MEMBER: &'static str = "resets";

    /// What the context of a line says. What cannot be read concerns everybody.
    fn of(context: &Value) -> Option<Self> {
        let said = context.get(Self::MEMBER)?;
        Some(Self::deserialize(said).unwrap_or_else(|_| Self::Roles(Role::ALL.into())))
    }
}

/// The set of plugins and the `[visibility]` that lines are shaped with from some line on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// The number of the set; 0 for a server without plugins.
    pub generation: u64,
    pub visibility: Visibility,
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
    /// Shared, because what nobody edits leaves as it is.
    pub payload: Arc<Value>,
    pub context: Value,
    pub at: Timestamp,
}

impl Draft {
    /// A set of plugins, or another `[visibility]`, takes force. `resets` says whether they may show other leads, or
    /// other fields of them.
    pub fn delivery_switched(in_force: InForce, resets: bool, at: Timestamp) -> Self {
        let mut context = json!(in_force);
        if resets {
            context[Resets::MEMBER] = json!(Resets::Roles(Role::ALL.into()));
        }
        Self { name: DELIVERY_SWITCHED, rooms: Vec::new(), lead_id: None, payload: json!({}), context, at }
    }

    /// What was withheld from these roles is there again: their lists may miss it.
    pub fn delivery_released(roles: &[Role], at: Timestamp) -> Self {
        let context = json!({Resets::MEMBER: Resets::Roles(roles.into())});
        Self { name: "delivery:released", rooms: Vec::new(), lead_id: None, payload: json!({}), context, at }
    }

    /// Who has to fetch again past the line.
    pub fn resets(&self) -> Option<Resets> {
        Resets::of(&self.context)
    }

    /// The same line, telling what made it.
    pub fn caused_by(mut self, cause: Option<&Cause>) -> Self {
        if let (Some(cause), Some(context)) = (cause, self.context.as_object_mut()) {
            context.insert("cause".into(), json!(cause));
        }
        self
    }
}

/// What a line tells beyond that something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Lead,
    Activity,
}

impl Event {
    /// Which content of a lead the line bears: for whom the lead is out of sight by now, it is not for them any more.
    /// Nothing where it tells of no more than the lead's id.
    pub fn content(&self) -> Option<Content> {
        match self.name.as_str() {
            "lead:deleted" | "lead:revoked" => None,
            name if name.starts_with("lead:") => Some(Content::Lead),
            name if name.starts_with("activity:") => Some(Content::Activity),
            _ => None,
        }
    }

    /// Who has to fetch again past the line.
    pub fn resets(&self) -> Option<Resets> {
        Resets::of(&self.context)
    }

    /// What takes force with the line.
    pub fn switches_to(&self) -> Option<InForce> {
        if self.name != DELIVERY_SWITCHED {
            return None;
        }
        InForce::deserialize(&self.context).ok()
    }

    /// A lead that is read, as plugins are asked about it. It is in no log.
    pub fn lead_read(lead: Lead) -> Self {
        let (lead_id, at) = (Some(lead.id), lead.updated_at);
        let payload = json!({"lead": lead});
        let (name, context) = ("lead:read".to_owned(), payload.clone());
        Self { seq: 0, name, rooms: Vec::new(), lead_id, payload: payload.into(), context, at }
    }

    /// Whether plugins, who decide about leads, are not asked about it: it tells users of their own rights, or of a lead
    /// that was erased, of which nothing is left to ask about.
    /// `lead:revoked` is a line of older logs alone; what is sent under that name now is made at delivery.
    pub fn is_about_rights(&self) -> bool {
        matches!(self.name.as_str(), "lead:revoked" | "session:updated") || self.is_erasure()
    }

    /// Whether it tells that a lead was erased: what was read of the log before may hold more than there is now.
    pub fn is_erasure(&self) -> bool {
        self.context.get("erased").is_some_and(|erased| erased == true)
    }

    /// The plugins that led to it; none where a user did it.
    pub fn cause(&self) -> Cause {
        let cause = self.context.get("cause").cloned();
        cause.and_then(|cause| serde_json::from_value(cause).ok()).unwrap_or_default()
    }

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
            Self::LeadErased { lead } => Draft {
                name: "lead:deleted",
                rooms: vec![Room::Everyone, Room::Lead(lead.to_string())],
                lead_id: Some(lead),
                payload: json!({"leadId": lead, "deletedBy": actor, "erased": true, "timestamp": at}),
                // Who saw the lead cannot be told any more, so that everybody is told an id that says nothing.
                context: json!({"erased": true}),
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
            Self::SessionUpdated { user, resets } => {
                let mut context = json!({"user": user});
                if resets {
                    context[Resets::MEMBER] = json!(Resets::User(user.id));
                }
                Draft {
                    name: "session:updated",
                    rooms: vec![Room::User(user.id)],
                    lead_id: None,
                    payload: json!({"userRole": user.role, "timestamp": at}),
                    context,
                    at,
                }
            }
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

/// About what a value takes in memory, in bytes.
pub fn size_in_memory(value: &Value) -> u64 {
    const NODE: u64 = 64;
    match value {
        Value::String(text) => NODE + text.len() as u64,
        Value::Array(items) => NODE + items.iter().map(size_in_memory).sum::<u64>(),
        Value::Object(members) => {
            NODE + members.iter().map(|(key, value)| NODE + key.len() as u64 + size_in_memory(value)).sum::<u64>()
        }
        _ => NODE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(draft: Draft) -> Event {
        let Draft { name, rooms, lead_id, payload, context, at } = draft;
        Event { seq: 1, name: name.into(), rooms, lead_id, payload: payload.into(), context, at }
    }

    #[test]
    fn a_reset_line_says_whom_it_resets() {
        let at = Timestamp::from_millis(0).expect("in range");
        let in_force = InForce { generation: 3, visibility: Visibility::default() };
        let everybody = Some(Resets::Roles(Role::ALL.into()));
        for (resets, expected) in [(true, everybody.clone()), (false, None)] {
            let line = event(Draft::delivery_switched(in_force, resets, at));
            assert_eq!((line.switches_to(), line.resets()), (Some(in_force), expected));
        }
        let mut released = event(Draft::delivery_released(&[Role::Sales], at));
        assert_eq!((released.switches_to(), released.resets()), (None, Some(Resets::Roles(vec![Role::Sales]))));
        released.context = json!({"resets": {"teams": ["of a later version"]}});
        assert_eq!(released.resets(), everybody);
        released.context = json!({});
        assert_eq!(released.resets(), None);
    }

    #[test]
    fn a_plugins_kind_of_notification_is_a_word_of_its_own() {
        for word in ["sla_missed", "a", "round2"] {
            assert_eq!(json!(NotificationKind::of_plugin(word)), word);
        }
        let long = "x".repeat(65);
        for word in ["", "Big", "two words", "_a", "2nd", "lead_assigned", "lead_unassigned", long.as_str()] {
            assert_eq!(NotificationKind::of_plugin(word), None, "{word:?}");
        }
        assert_eq!(json!(NotificationKind::LeadAssigned), "lead_assigned");
    }

    #[test]
    fn a_cause_names_who_answered_whom() {
        let first = Cause::default().followed_by("a", "e:1");
        let second = first.followed_by("b", "e:2").followed_by("a", "e:3");
        assert_eq!(second, Cause { plugins: vec!["a".into(), "b".into(), "a".into()], occasion: "e:3".into() });
        assert_eq!(first.followed_by("a", "reminder:x").plugins, ["a"]);
    }
}
