//! Events that clients emit: their names, their members and what acknowledges them.

use serde_json::{Map, Value};

use crate::{
    app::IdempotencyKey,
    domain::{
        activity::ActivityFields,
        command::{ASSIGNMENT, PATCH},
        field::{Field, FieldKind, MAX_SAFE_INTEGER},
        lead::LeadFields,
        room::MAX_LEAD_ROOM_CHARS,
    },
    transport::http::schema::{
        member::creation,
        shape::{AnySchema, ObjectShape, flag, id, reference, text, time, whole},
    },
};

pub(crate) const ROOM: Field = Field::new(
    "leadId",
    FieldKind::Text { min: 1, max: MAX_LEAD_ROOM_CHARS },
    "Id of a lead; any text is accepted, whether or not there is such a lead.",
)
.required();
pub(crate) const SINCE: Field = Field::new(
    "since",
    FieldKind::Position,
    "Last `seq` that the client has seen: what this socket missed of the lead since then is sent first.",
);
pub(crate) const LEAD_ID: Field = Field::new("leadId", FieldKind::Id, "Id of the lead.").required();
pub(crate) const SEQ: Field = Field::new("seq", FieldKind::Position, "Last `seq` that the client has seen.").required();
pub(crate) const EPOCH: Field = Field::new("epoch", FieldKind::Opaque, "Log that the `seq` is of.").required();
pub(crate) const TOKEN: Field = Field::new("token", FieldKind::Opaque, "New access token of the same user.").required();
pub(crate) const VERSION: Field = Field::new(
    "version",
    FieldKind::Integer { min: 1, max: MAX_SAFE_INTEGER },
    "Version of the lead that the change builds on.",
);
pub(crate) const IDEMPOTENCY_KEY: Field = Field::new(
    "idempotencyKey",
    FieldKind::Text { min: 1, max: IdempotencyKey::MAX_CHARS },
    "The same key with the same command within 24 hours is not carried out again.",
);

/// Event that clients emit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientEvent {
    LeadSubscribe,
    LeadUnsubscribe,
    SyncSince,
    AuthRefresh,
    LeadCreate,
    LeadUpdate,
    LeadDelete,
    LeadAssign,
    ActivityCreate,
}

impl ClientEvent {
    pub(crate) const ALL: [Self; 9] = [
        Self::LeadSubscribe,
        Self::LeadUnsubscribe,
        Self::SyncSince,
        Self::AuthRefresh,
        Self::LeadCreate,
        Self::LeadUpdate,
        Self::LeadDelete,
        Self::LeadAssign,
        Self::ActivityCreate,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::LeadSubscribe => "lead:subscribe",
            Self::LeadUnsubscribe => "lead:unsubscribe",
            Self::SyncSince => "sync:since",
            Self::AuthRefresh => "auth:refresh",
            Self::LeadCreate => "lead:create",
            Self::LeadUpdate => "lead:update",
            Self::LeadDelete => "lead:delete",
            Self::LeadAssign => "lead:assign",
            Self::ActivityCreate => "activity:create",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == name)
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::LeadSubscribe => "Subscribe to a lead: get its activities, and be one of its viewers.",
            Self::LeadUnsubscribe => "End a subscription; it may be repeated.",
            Self::SyncSince => "Get what was missed, in order, then `sync:done`; or `sync:reset`.",
            Self::AuthRefresh => "Stay connected with a new access token of the same user.",
            Self::LeadCreate => "Create a lead.",
            Self::LeadUpdate => "Change a lead by a JSON merge patch.",
            Self::LeadDelete => "Delete a lead.",
            Self::LeadAssign => "Give a lead to another owner, or to nobody.",
            Self::ActivityCreate => "Add an activity to a lead.",
        }
    }

    /// Members of the payload: those of the event itself, and those of what it writes.
    pub(crate) fn fields(self) -> [&'static [&'static Field]; 2] {
        match self {
            Self::LeadSubscribe => [&[&ROOM, &SINCE], &[]],
            Self::LeadUnsubscribe => [&[&ROOM], &[]],
            Self::SyncSince => [&[&SEQ, &EPOCH], &[]],
            Self::AuthRefresh => [&[&TOKEN], &[]],
            Self::LeadCreate => [&[&IDEMPOTENCY_KEY], LeadFields::TABLE],
            Self::LeadUpdate => [&[&LEAD_ID, &PATCH, &VERSION, &IDEMPOTENCY_KEY], &[]],
            Self::LeadDelete => [&[&LEAD_ID, &VERSION, &IDEMPOTENCY_KEY], &[]],
            Self::LeadAssign => [&[&LEAD_ID, &VERSION, &IDEMPOTENCY_KEY], ASSIGNMENT],
            Self::ActivityCreate => [&[&LEAD_ID, &IDEMPOTENCY_KEY], ActivityFields::TABLE],
        }
    }

    /// Schema of the payload.
    pub(crate) fn payload(self) -> AnySchema {
        let fields = self.fields().concat();
        let payload = creation(self.about(), &fields);
        match self {
            // In place of an object that is not described.
            Self::LeadUpdate => payload.maybe(PATCH.name, reference("LeadPatch")).into(),
            Self::LeadSubscribe | Self::LeadUnsubscribe | Self::SyncSince | Self::AuthRefresh => payload.open().into(),
            Self::LeadCreate | Self::LeadDelete | Self::LeadAssign | Self::ActivityCreate => payload.into(),
        }
    }

    /// Schema of the acknowledgement, when it was done.
    pub(crate) fn ack(self) -> AnySchema {
        let ack = ObjectShape::new("It was done.").with("ok", flag().enum_values(Some([true])));
        let seq = || whole().description(Some("Last event that the command wrote."));
        match self {
            Self::LeadSubscribe => {
                let seq = whole().description(Some("Every later event of the lead is sent."));
                ack.with("leadId", text()).with("seq", seq)
            }
            Self::LeadUnsubscribe => ack.with("leadId", text()),
            Self::SyncSince => {
                let recovered = flag().description(Some("False if `sync:reset` was sent: fetch again what you show."));
                ack.with("recovered", recovered).with("seq", whole()).maybe("epoch", text())
            }
            Self::AuthRefresh => ack.with("tokenExpiresAt", time()),
            Self::LeadCreate | Self::LeadUpdate | Self::LeadAssign => {
                ack.with("lead", reference("Lead")).with("seq", seq())
            }
            Self::LeadDelete => ack.with("leadId", id()).with("seq", seq()),
            Self::ActivityCreate => ack.with("activity", reference("Activity")).with("seq", seq()),
        }
        .into()
    }
}

/// Payload of an event, being read: only members that the event has can be taken.
pub(crate) struct EventPayload {
    event: ClientEvent,
    members: Map<String, Value>,
}

impl EventPayload {
    pub(crate) fn new(event: ClientEvent, members: Map<String, Value>) -> Self {
        Self { event, members }
    }

    pub(crate) fn take(&mut self, field: &Field) -> Option<Value> {
        let [own, _] = self.event.fields();
        debug_assert!(own.iter().any(|known| known.name == field.name), "{:?} has no {}", self.event, field.name);
        self.members.shift_remove(field.name)
    }

    /// Returns the members that were not taken: those of what the event writes.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.members
    }
}
