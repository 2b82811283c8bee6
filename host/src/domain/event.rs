//! Events: what happened, as the log stores it and as clients receive it.
//!
//! A [`DomainEvent`] becomes a [`NewEvent`], and an [`Event`] once the log has given it a seq.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    activity::Activity,
    id::{Epoch, LeadId, SessionId, UserId},
    lead::Lead,
    policy::Visibility,
    role::Role,
    room::Room,
    time::Timestamp,
    user::User,
};
use crate::domain::{
    actor::{Actor, Cause},
    audience::Audience,
    counter::{Generation, Seq},
    event_name::EventName,
};

/// Reason why a user is notified about a lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    LeadAssigned,
    LeadUnassigned,
    /// Kind defined by the plugin that notifies.
    #[serde(untagged)]
    Other(String),
}

impl NotificationKind {
    const MAX_CHARS: usize = 64;

    /// Parses a plugin's own kind. The server's two kinds are refused: they report what the server itself saw.
    pub fn of_plugin(text: &str) -> Option<Self> {
        let mut letters = text.chars();
        let is_word = letters.next().is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
        let is_free = is_word && text.len() <= Self::MAX_CHARS && !["lead_assigned", "lead_unassigned"].contains(&text);
        is_free.then(|| Self::Other(text.into()))
    }
}

/// Something that happened, before the log has given it a seq.
#[derive(Clone, Debug)]
pub enum DomainEvent {
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
    /// A lead was erased, with all of its content in the log. Clients drop it as if it were deleted.
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
    /// The user's role, name or `active` flag changed; sent to the user's own sockets.
    SessionUpdated {
        user: User,
        /// Set when another set of leads may be visible: the role or `active` changed.
        resets: bool,
    },
    /// Sessions ended: one, or all of the user's. An event of the log without a room.
    SessionsEnded {
        user: UserId,
        session: Option<SessionId>,
    },
}

/// Users whose lists cannot be kept correct by events alone past this event: they are sent `sync:reset`.
///
/// Any event can be such a *reset line*: its context says so. Most have no room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resets {
    Roles(Vec<Role>),
    User(UserId),
}

impl Resets {
    const MEMBER: &'static str = "resets";

    /// Reads `resets` from the context of an event. An unreadable value concerns everybody.
    fn of(context: &Value) -> Option<Self> {
        let said = context.get(Self::MEMBER)?;
        Some(Self::deserialize(said).unwrap_or_else(|_| Self::Roles(Role::ALL.into())))
    }
}

/// Set of plugins and `[visibility]` that shape events from some event on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// Generation of the set; 0 for a server without plugins.
    pub generation: Generation,
    pub visibility: Visibility,
}

/// One event of the log, before it has a seq.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub name: &'static str,
    pub rooms: Vec<Room>,
    pub lead_id: Option<LeadId>,
    /// Payload as a client would get it if nothing shaped it.
    pub payload: Value,
    /// Data for plugins and `[visibility]`, never sent: `lead` as it is after the event, `before` if it changed.
    pub context: Value,
    pub at: Timestamp,
}

/// One event of the log.
#[derive(Clone, Debug)]
pub struct Event {
    pub seq: Seq,
    pub name: String,
    pub rooms: Vec<Room>,
    pub lead_id: Option<LeadId>,
    /// Shared, because a payload that no plugin edits is sent unchanged.
    pub payload: Arc<Value>,
    pub context: Value,
    pub at: Timestamp,
}

impl NewEvent {
    /// Event that puts a set of plugins or another `[visibility]` in force. `resets` is true when they may show other
    /// leads, or other fields of them.
    pub fn delivery_switched(in_force: InForce, resets: bool, at: Timestamp) -> Self {
        let mut context = json!(in_force);
        if resets {
            context[Resets::MEMBER] = json!(Resets::Roles(Role::ALL.into()));
        }
        Self {
            name: EventName::DeliverySwitched.as_str(),
            rooms: Vec::new(),
            lead_id: None,
            payload: json!({}),
            context,
            at,
        }
    }

    /// Event that releases what was withheld from these roles: their lists may lack it.
    pub fn delivery_released(roles: &[Role], at: Timestamp) -> Self {
        let context = json!({Resets::MEMBER: Resets::Roles(roles.into())});
        Self {
            name: EventName::DeliveryReleased.as_str(),
            rooms: Vec::new(),
            lead_id: None,
            payload: json!({}),
            context,
            at,
        }
    }

    /// Users who have to fetch again after this event.
    pub fn resets(&self) -> Option<Resets> {
        Resets::of(&self.context)
    }

    /// Adds the cause of the event to its context.
    pub fn caused_by(mut self, cause: Option<&Cause>) -> Self {
        if let (Some(cause), Some(context)) = (cause, self.context.as_object_mut()) {
            context.insert("cause".into(), json!(cause));
        }
        self
    }
}

/// Kind of content that an event carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventContent {
    Lead,
    Activity,
}

impl Event {
    /// Content of a lead that the event carries. A user who cannot see the lead any more must not get it.
    /// `None` when the event contains only the lead's id.
    pub fn content(&self) -> Option<EventContent> {
        match self.name.as_str() {
            name if *name == EventName::LeadDeleted || *name == EventName::LeadRevoked => None,
            name if name.starts_with("lead:") => Some(EventContent::Lead),
            name if name.starts_with("activity:") => Some(EventContent::Activity),
            _ => None,
        }
    }

    /// Users who have to fetch again after this event.
    pub fn resets(&self) -> Option<Resets> {
        Resets::of(&self.context)
    }

    /// Plugin set and `[visibility]` that take force with this event.
    pub fn switches_to(&self) -> Option<InForce> {
        if self.name != EventName::DeliverySwitched {
            return None;
        }
        InForce::deserialize(&self.context).ok()
    }

    /// Question to plugins about a lead that is read. It is not in the log.
    pub fn lead_read(lead: Lead) -> Self {
        let (lead_id, at) = (Some(lead.id), lead.updated_at);
        let payload = json!({"lead": lead});
        let (name, context) = (EventName::LeadRead.as_str().to_owned(), payload.clone());
        Self { seq: Seq::START, name, rooms: Vec::new(), lead_id, payload: payload.into(), context, at }
    }

    /// True when plugins are not asked about the event: it concerns a user's own rights, or a lead that was erased, so
    /// that nothing is left to ask about.
    ///
    /// `lead:revoked` is stored only in older logs; today's `lead:revoked` messages are made at delivery.
    pub fn is_about_rights(&self) -> bool {
        self.name == EventName::LeadRevoked || self.name == EventName::SessionUpdated || self.is_erasure()
    }

    /// True when a lead was erased: events read from the log earlier may contain more than is stored now.
    pub fn is_erasure(&self) -> bool {
        self.context.get("erased").is_some_and(|erased| erased == true)
    }

    /// Plugins that led to the event; empty when a user caused it.
    pub fn cause(&self) -> Cause {
        let cause = self.context.get("cause").cloned();
        cause.and_then(|cause| serde_json::from_value(cause).ok()).unwrap_or_default()
    }

    /// Users of a role who may get the event, before plugins narrow it further.
    pub fn audience(&self, visibility: &Visibility, role: Role) -> Audience {
        // A notification to one user is about that user, and contains nothing of the lead but its id.
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

impl DomainEvent {
    /// Converts it to an event of the log.
    pub fn draft(self, actor: &Actor, at: Timestamp) -> NewEvent {
        let everyone_and = |lead: &Lead| vec![Room::Everyone, Room::Lead(lead.id.to_string())];
        let followers = |lead: &Lead| vec![Room::Lead(lead.id.to_string())];
        match self {
            Self::LeadCreated { lead, restored } => {
                let mut payload = json!({"lead": lead, "createdBy": actor, "timestamp": at});
                if restored {
                    payload["restored"] = true.into();
                }
                let rooms = vec![Room::Everyone];
                NewEvent {
                    name: EventName::LeadCreated.as_str(),
                    rooms,
                    lead_id: Some(lead.id),
                    payload,
                    context: json!({"lead": lead}),
                    at,
                }
            }
            Self::LeadUpdated { before, lead, changes } => NewEvent {
                name: EventName::LeadUpdated.as_str(),
                rooms: everyone_and(&lead),
                lead_id: Some(lead.id),
                payload: json!({"lead": lead, "updatedBy": actor, "changes": changes, "timestamp": at}),
                context: json!({"lead": lead, "before": before}),
                at,
            },
            Self::LeadDeleted { lead } => NewEvent {
                name: EventName::LeadDeleted.as_str(),
                rooms: everyone_and(&lead),
                lead_id: Some(lead.id),
                payload: json!({"leadId": lead.id, "deletedBy": actor, "timestamp": at}),
                context: json!({"lead": lead}),
                at,
            },
            Self::LeadErased { lead } => NewEvent {
                name: EventName::LeadDeleted.as_str(),
                rooms: vec![Room::Everyone, Room::Lead(lead.to_string())],
                lead_id: Some(lead),
                payload: json!({"leadId": lead, "deletedBy": actor, "erased": true, "timestamp": at}),
                // It cannot be determined any more who saw the lead. So everybody gets the id, which reveals nothing.
                context: json!({"erased": true}),
                at,
            },
            Self::LeadAssigned { before, lead } => NewEvent {
                name: EventName::LeadAssigned.as_str(),
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
            Self::ActivityCreated { activity, lead } => NewEvent {
                name: EventName::ActivityCreated.as_str(),
                rooms: followers(&lead),
                lead_id: Some(lead.id),
                payload: json!({"activity": activity, "leadId": lead.id, "createdBy": actor, "timestamp": at}),
                context: json!({"lead": lead}),
                at,
            },
            Self::ActivityUpdated { activity, lead } => NewEvent {
                name: EventName::ActivityUpdated.as_str(),
                rooms: followers(&lead),
                lead_id: Some(lead.id),
                payload: json!({"activity": activity, "leadId": lead.id, "updatedBy": actor, "timestamp": at}),
                context: json!({"lead": lead}),
                at,
            },
            Self::ActivityDeleted { activity, lead } => NewEvent {
                name: EventName::ActivityDeleted.as_str(),
                rooms: followers(&lead),
                lead_id: Some(lead.id),
                payload: json!({"activityId": activity.id, "leadId": lead.id, "deletedBy": actor, "timestamp": at}),
                context: json!({"lead": lead, "activity": activity}),
                at,
            },
            Self::Notification { to, kind, lead } => NewEvent {
                name: EventName::Notification.as_str(),
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
                NewEvent {
                    name: EventName::SessionUpdated.as_str(),
                    rooms: vec![Room::User(user.id)],
                    lead_id: None,
                    payload: json!({"userRole": user.role, "timestamp": at}),
                    context,
                    at,
                }
            }
            Self::SessionsEnded { user, session } => NewEvent {
                name: EventName::SessionEnded.as_str(),
                rooms: Vec::new(),
                lead_id: None,
                payload: json!({}),
                context: json!({"userId": user, "sessionId": session}),
                at,
            },
        }
    }
}

/// Payload as it is sent: `seq` and `epoch` are set by the host, whatever a plugin wrote there.
pub fn stamped(payload: &Value, seq: Seq, epoch: &Epoch) -> Map<String, Value> {
    let mut members = payload.as_object().cloned().unwrap_or_default();
    members.insert("seq".into(), seq.0.into());
    members.insert("epoch".into(), epoch.as_str().into());
    members
}

/// Approximate size of a value in memory, in bytes.
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

    fn event(draft: NewEvent) -> Event {
        let NewEvent { name, rooms, lead_id, payload, context, at } = draft;
        Event { seq: Seq(1), name: name.into(), rooms, lead_id, payload: payload.into(), context, at }
    }

    #[test]
    fn a_reset_event_names_the_roles_it_resets() {
        let at = Timestamp::from_millis(0).expect("in range");
        let in_force = InForce { generation: Generation(3), visibility: Visibility::default() };
        let everybody = Some(Resets::Roles(Role::ALL.into()));
        for (resets, expected) in [(true, everybody.clone()), (false, None)] {
            let line = event(NewEvent::delivery_switched(in_force, resets, at));
            assert_eq!((line.switches_to(), line.resets()), (Some(in_force), expected));
        }
        let mut released = event(NewEvent::delivery_released(&[Role::Sales], at));
        assert_eq!((released.switches_to(), released.resets()), (None, Some(Resets::Roles(vec![Role::Sales]))));
        released.context = json!({"resets": {"teams": ["of a later version"]}});
        assert_eq!(released.resets(), everybody);
        released.context = json!({});
        assert_eq!(released.resets(), None);
    }

    #[test]
    fn a_plugin_notification_kind_is_snake_case_and_not_a_built_in_kind() {
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
    fn a_cause_lists_the_chain_of_plugins() {
        let first = Cause::default().followed_by(&"a".parse().expect("a name"), "e:1");
        let second =
            first.followed_by(&"b".parse().expect("a name"), "e:2").followed_by(&"a".parse().expect("a name"), "e:3");
        assert_eq!(
            second,
            Cause {
                plugins: vec!["a".parse().expect("a name"), "b".parse().expect("a name"), "a".parse().expect("a name")],
                occasion: "e:3".into()
            }
        );
        assert_eq!(first.followed_by(&"a".parse().expect("a name"), "reminder:x").plugins, ["a"]);
    }
}
